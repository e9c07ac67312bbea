// The registers of Bochs' VBE extension: linear modes set by a few 16-bit values ("Bochs VBE
// Extensions API" 2.0; what a guest's driver knows as DISPI).
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "display/linear_picture.h"

namespace limen::display {

class BochsVbe {
 public:
  enum Index : uint16_t {
    kId,
    kXres,
    kYres,
    kBpp,
    kEnable,
    kBank,
    kVirtualWidth,
    kVirtualHeight,
    kXOffset,
    kYOffset,
    kMemory64K,
  };
  static constexpr uint16_t kFirstId = 0xB0C0, kLastId = 0xB0C5;
  // Bits of kEnable.
  static constexpr uint16_t kEnabled = 1, kGetCapabilities = 2, kDac8Bit = 0x20, kLinear = 0x40,
                            kNoClear = 0x80;
  static constexpr unsigned kMostWidth = 16000, kMostHeight = 12000;
  static constexpr uint64_t kBankBytes = 0x1'0000;

  explicit BochsVbe(uint64_t memory_bytes) : memory_bytes_(memory_bytes) { reset(); }

  void reset();
  [[nodiscard]] uint16_t read(uint16_t index) const;
  /// Returns how many bytes, from the first on, the guest wants cleared: a mode was switched on.
  uint64_t write(uint16_t index, uint16_t value);

  [[nodiscard]] bool enabled() const { return (registers_[kEnable] & kEnabled) != 0; }
  [[nodiscard]] bool dac_8bit() const { return (registers_[kEnable] & kDac8Bit) != 0; }
  [[nodiscard]] unsigned bits() const { return registers_[kBpp]; }
  [[nodiscard]] unsigned width() const { return registers_[kXres]; }
  [[nodiscard]] unsigned height() const { return registers_[kYres]; }
  /// Where the window of banks begins.
  [[nodiscard]] uint64_t bank_start() const { return bank_start_; }
  /// While it is enabled; it fits into memory. With 4 bits a pixel it is planar: four bytes hold
  /// eight pixels, so that start and pitch count in bytes nevertheless.
  [[nodiscard]] LinearMode mode() const;

 private:
  [[nodiscard]] uint64_t bytes_of(uint64_t pixels) const;
  void make_valid();

  const uint64_t memory_bytes_;
  std::array<uint16_t, kMemory64K> registers_{};
  uint64_t bank_start_ = 0;
};

}  // namespace limen::display
