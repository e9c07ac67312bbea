// The serial EEPROM beside the card (SDM 5.2 to 5.6): 64 words over a Microwire bus that the driver
// moves bit by bit through EECD, or by a register that does it for him (EERD).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "net/frame.h"

namespace limen::nic::e1000 {

class Eeprom {
 public:
  explicit Eeprom(std::span<const uint8_t, net::kMacBytes> mac);

  /// EECD.
  void write_pins(uint32_t value);
  [[nodiscard]] uint32_t read_pins() const;
  /// What EERD reads after `value` was written to it.
  [[nodiscard]] uint32_t read_word(uint32_t value) const;
  void reset();

 private:
  void clock_rises();

  std::array<uint16_t, 64> words_{};
  uint32_t pins_ = 0;
  unsigned bits_ = 0;     ///< Clocked since the chip was selected.
  uint32_t command_ = 0;  ///< Start bit, opcode and address as they come in.
  uint32_t output_ = 0;   ///< Bits to come, the next at bit 15.
  bool out_ = true;       ///< The data output; high says "ready".
};

}  // namespace limen::nic::e1000
