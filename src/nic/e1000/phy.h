// The transceiver, a Marvell 88E1011 behind MDIC (SDM 8.3.3, 13.4.9; IEEE 802.3 clause 22). Its
// negotiation ends as soon as it begins: there is no wire.
#pragma once

#include <array>
#include <cstdint>

namespace limen::nic::e1000 {

class Phy {
 public:
  Phy() { reset(); }
  void reset();
  void set_link(bool up) { link_ = up; }

  /// A write to MDIC; returns what it reads from then on.
  [[nodiscard]] uint32_t access(uint32_t mdic);
  /// Once after negotiation was started anew.
  [[nodiscard]] bool take_renegotiated();

 private:
  [[nodiscard]] uint16_t read(unsigned number) const;
  void write(unsigned number, uint16_t value);

  std::array<uint16_t, 32> registers_{};
  bool link_ = true;
  bool renegotiated_ = false;
};

}  // namespace limen::nic::e1000
