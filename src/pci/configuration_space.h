// The 256 bytes of configuration registers of a function, with what a guest may write of them
// (PCI Local Bus 3.0 §6.1).
#pragma once

#include <array>
#include <cstdint>

namespace limen::pci {

/// Offsets in the type 0 header (PCI Local Bus 3.0 §6.1).
namespace reg {
inline constexpr uint16_t kVendorId = 0x00;
inline constexpr uint16_t kDeviceId = 0x02;
inline constexpr uint16_t kCommand = 0x04;
inline constexpr uint16_t kStatus = 0x06;
inline constexpr uint16_t kRevision = 0x08;
inline constexpr uint16_t kClassCode = 0x09;
inline constexpr uint16_t kCacheLineSize = 0x0C;
inline constexpr uint16_t kHeaderType = 0x0E;
inline constexpr uint16_t kBar0 = 0x10;
inline constexpr uint16_t kSubsystemVendorId = 0x2C;
inline constexpr uint16_t kSubsystemId = 0x2E;
inline constexpr uint16_t kCapabilities = 0x34;
inline constexpr uint16_t kInterruptLine = 0x3C;
inline constexpr uint16_t kInterruptPin = 0x3D;
}  // namespace reg

/// Bits of the command register (§6.2.2).
namespace command {
inline constexpr uint16_t kIo = 1 << 0;
inline constexpr uint16_t kMemory = 1 << 1;
inline constexpr uint16_t kBusMaster = 1 << 2;
inline constexpr uint16_t kParity = 1 << 6;
inline constexpr uint16_t kSerr = 1 << 8;
inline constexpr uint16_t kInterruptDisable = 1 << 10;
}  // namespace command

/// Plain storage, no lock: its owner has one. Offsets and sizes (1, 2 or 4) are checked by the
/// owner; bytes past the end read as ones and ignore writes.
class ConfigurationSpace {
 public:
  static constexpr uint16_t kSize = 256;

  /// What a guest reads and writes: only bits of the write mask change.
  [[nodiscard]] uint32_t read(uint16_t offset, unsigned size) const;
  void write(uint16_t offset, unsigned size, uint32_t value);

  /// What the device itself sets, whatever the mask.
  void set8(uint16_t offset, uint8_t value) { bytes_[offset] = value; }
  void set16(uint16_t offset, uint16_t value);
  void set32(uint16_t offset, uint32_t value);
  [[nodiscard]] uint8_t get8(uint16_t offset) const { return bytes_[offset]; }
  [[nodiscard]] uint16_t get16(uint16_t offset) const;
  [[nodiscard]] uint32_t get32(uint16_t offset) const;

  /// Which bits a guest may write. Nothing is writable by default.
  void set_writable(uint16_t offset, unsigned size, uint32_t mask);

 private:
  std::array<uint8_t, kSize> bytes_{};
  std::array<uint8_t, kSize> write_mask_{};
};

}  // namespace limen::pci
