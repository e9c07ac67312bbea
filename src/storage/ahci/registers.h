// What an AHCI controller and its driver share (Serial ATA AHCI 1.3.1).
#pragma once

#include <cstdint>

namespace limen::storage::ahci {

/// Registers of the controller (§3.1).
enum GlobalRegister : uint32_t {
  kCap = 0x00,
  kGhc = 0x04,
  kIs = 0x08,
  kPi = 0x0C,
  kVs = 0x10,
  kCap2 = 0x24,
};
inline constexpr uint32_t kPortRegisters = 0x100, kPortStride = 0x80;

/// Registers of a port (§3.3), from its start.
enum PortRegister : uint32_t {
  kClb = 0x00,
  kClbu = 0x04,
  kFb = 0x08,
  kFbu = 0x0C,
  kPortIs = 0x10,
  kPortIe = 0x14,
  kCmd = 0x18,
  kTfd = 0x20,
  kSig = 0x24,
  kSsts = 0x28,
  kSctl = 0x2C,
  kSerr = 0x30,
  kSact = 0x34,
  kCi = 0x38,
};

namespace ghc {
inline constexpr uint32_t kReset = 1u << 0, kInterrupts = 1u << 1, kAhci = 1u << 31;
}

namespace cmd {
inline constexpr uint32_t kStart = 1u << 0, kSpinUp = 1u << 1, kPowerOn = 1u << 2,
                          kOverride = 1u << 3, kReceive = 1u << 4, kReceiving = 1u << 14,
                          kRunning = 1u << 15, kAtapi = 1u << 24;
inline constexpr uint32_t kSlotShift = 8;
/// Bits that only keep what is written: ATAPI, LED, aggressive power management.
inline constexpr uint32_t kPlain = 0x0F00'0000;
}  // namespace cmd

/// Interrupt status of a port (§3.3.5).
namespace event {
inline constexpr uint32_t kDeviceToHost = 1u << 0, kPioSetup = 1u << 1, kSetBits = 1u << 3,
                          kDescriptor = 1u << 5, kConnectChange = 1u << 6, kOverflow = 1u << 24,
                          kInterfaceFatal = 1u << 27, kHostBusFatal = 1u << 29,
                          kTaskFile = 1u << 30;
}

/// SERR.DIAG.X: a device was exchanged, or the link was.
inline constexpr uint32_t kExchanged = 1u << 26;
/// SSTS: a device at 3 Gb/s, active.
inline constexpr uint32_t kLinkUp = 0x123;
inline constexpr uint32_t kNoSignature = 0xFFFF'FFFF;
/// Task file of a link without a device that has said something.
inline constexpr uint32_t kNoTaskFile = 0x7F;

/// Frame information structures (Serial ATA 3.0 §10.3) and where received ones lie (§4.2.1).
inline constexpr uint8_t kHostToDevice = 0x27, kDeviceToHost = 0x34, kPioSetup = 0x5F,
                         kSetDeviceBits = 0xA1;
inline constexpr uint64_t kPioSetupAt = 0x20, kDeviceToHostAt = 0x40, kSetDeviceBitsAt = 0x58;

/// An entry of the command list (§4.2.2).
struct CommandHeader {
  uint32_t flags;  ///< And in the upper half the number of regions.
  uint32_t transferred;
  uint64_t table;
  uint32_t reserved[4];
};
static_assert(sizeof(CommandHeader) == 32);
inline constexpr uint32_t kClearBusy = 1u << 10;
/// A command table (§4.2.3): the FIS, a packet, then regions.
inline constexpr uint64_t kPacketAt = 0x40, kRegionsAt = 0x80;
struct Region {
  uint64_t base;
  uint32_t reserved;
  uint32_t count;  ///< Bytes - 1, 22 bits; bit 31: an interrupt.
};
static_assert(sizeof(Region) == 16);

}  // namespace limen::storage::ahci
