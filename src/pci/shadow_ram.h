// The last 256 KiB below 1 MiB: the BIOS, and the RAM under it, as a host bridge's PAM registers
// show them (Intel 440FX datasheet 290549, 3.2.18; 3 Series Express Chipset datasheet
// 316966, 5.1.19).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "memory/guest_memory.h"
#include "memory/io_space.h"

namespace limen::pci {

/// Twelve segments of 16 KiB from C0000h on and one of 64 KiB at F0000h. Of each, two bits say
/// whether reads (bit 0) and writes (bit 1) go to RAM or to what is on the bus: the BIOS's last
/// 128 KiB in the upper half, nothing in the lower.
class ShadowRam final : public memory::IoHandler {
 public:
  static constexpr uint64_t kStart = 0xC'0000, kSize = 0x4'0000;
  static constexpr uint64_t kBiosSize = 0x2'0000;
  static constexpr unsigned kRegisters = 7;

  /// `ram`: kSize bytes. `bios`: kBiosSize bytes of memory.reserve(), or none.
  ShadowRam(memory::GuestMemory& memory, memory::IoSpace& mmio, std::span<std::byte> ram,
            std::span<std::byte> bios);
  ~ShadowRam() override;
  ShadowRam(const ShadowRam&) = delete;
  ShadowRam& operator=(const ShadowRam&) = delete;

  /// PAM0 to PAM6: bits 4 and 5 of the first are F0000h's, and then, low nibble first, a nibble
  /// for each segment.
  void set_registers(const std::array<uint8_t, kRegisters>& pam);

  /// Writes where they are not RAM's, and reads where nothing answers.
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  static constexpr unsigned kSegments = 13;
  static constexpr uint8_t kRead = 1, kWrite = 2, kUnknown = 0xFF;

  struct Segment {
    uint64_t start = 0, size = 0;  ///< From kStart on.
  };
  static Segment segment(unsigned index);
  /// What a processor sees of a segment; empty: nothing.
  [[nodiscard]] std::span<std::byte> shown(const Segment& segment, uint8_t state) const;

  memory::GuestMemory& memory_;
  memory::IoSpace& mmio_;
  const std::span<std::byte> ram_;
  const std::span<std::byte> bios_;
  std::mutex mutex_;
  std::array<uint8_t, kSegments> states_{};  // guarded by mutex_
};

}  // namespace limen::pci
