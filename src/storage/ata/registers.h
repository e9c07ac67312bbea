// The registers and commands that ATA hosts and devices share (ATA8-ACS, ATA/ATAPI-7).
#pragma once

#include <cstdint>

namespace limen::storage::ata {

/// Bits of the status register.
namespace status {
inline constexpr uint8_t kError = 0x01;
inline constexpr uint8_t kDataRequest = 0x08;
inline constexpr uint8_t kSeekComplete = 0x10;
inline constexpr uint8_t kReady = 0x40;
inline constexpr uint8_t kBusy = 0x80;
/// A command ended well.
inline constexpr uint8_t kGood = kReady | kSeekComplete;
}  // namespace status

/// Bits of the error register.
namespace error {
inline constexpr uint8_t kAbort = 0x04;
inline constexpr uint8_t kIdNotFound = 0x10;
inline constexpr uint8_t kUncorrectable = 0x40;
/// After a reset or EXECUTE DEVICE DIAGNOSTIC: nothing is wrong.
inline constexpr uint8_t kPassed = 0x01;
}  // namespace error

/// Bits of the device register.
inline constexpr uint8_t kDeviceUnit = 0x10, kDeviceLba = 0x40;
/// Bits of the device control register.
inline constexpr uint8_t kNoInterrupt = 0x02, kSoftReset = 0x04, kHighOrderByte = 0x80;
/// Interrupt reason, which PACKET gives in the count register (ATA8-ACS 7.24).
inline constexpr uint8_t kReasonCommand = 0x01, kReasonToHost = 0x02;

inline constexpr uint64_t kSectorBytes = 512;

enum Command : uint8_t {
  kNop = 0x00,
  kDataSetManagement = 0x06,
  kDeviceReset = 0x08,
  kRecalibrate = 0x10,
  kReadSectors = 0x20,
  kReadSectorsOnce = 0x21,
  kReadSectorsExt = 0x24,
  kReadDmaExt = 0x25,
  kReadNativeMaxExt = 0x27,
  kReadMultipleExt = 0x29,
  kReadLogExt = 0x2F,
  kWriteSectors = 0x30,
  kWriteSectorsOnce = 0x31,
  kWriteSectorsExt = 0x34,
  kWriteDmaExt = 0x35,
  kWriteMultipleExt = 0x39,
  kWriteDmaFuaExt = 0x3D,
  kReadVerify = 0x40,
  kReadVerifyOnce = 0x41,
  kReadVerifyExt = 0x42,
  kReadLogDmaExt = 0x47,
  kReadFpdmaQueued = 0x60,
  kWriteFpdmaQueued = 0x61,
  kSeek = 0x70,
  kExecuteDiagnostic = 0x90,
  kInitializeParameters = 0x91,
  kPacket = 0xA0,
  kIdentifyPacketDevice = 0xA1,
  kSmart = 0xB0,
  kReadMultiple = 0xC4,
  kWriteMultiple = 0xC5,
  kSetMultiple = 0xC6,
  kReadDma = 0xC8,
  kReadDmaOnce = 0xC9,
  kWriteDma = 0xCA,
  kWriteDmaOnce = 0xCB,
  kWriteMultipleFuaExt = 0xCE,
  kStandbyImmediate = 0xE0,
  kIdleImmediate = 0xE1,
  kStandby = 0xE2,
  kIdle = 0xE3,
  kCheckPowerMode = 0xE5,
  kSleep = 0xE6,
  kFlushCache = 0xE7,
  kFlushCacheExt = 0xEA,
  kIdentifyDevice = 0xEC,
  kSetFeatures = 0xEF,
  kReadNativeMax = 0xF8,
};
/// The older codes of power commands (ATA-1), which mean the same.
inline constexpr uint8_t kOldPowerCommands = 0x94, kLastOldPowerCommand = 0x99;

/// SET FEATURES and SMART subcommands.
enum Feature : uint8_t {
  kEnableWriteCache = 0x02,
  kSetTransferMode = 0x03,
  kDisableWriteCache = 0x82,
  kDisableLookAhead = 0x55,
  kEnableLookAhead = 0xAA,
  kKeepSettings = 0x66,
  kRevertSettings = 0xCC,
};
enum SmartFeature : uint8_t {
  kSmartReadData = 0xD0,
  kSmartReadThresholds = 0xD1,
  kSmartAutosave = 0xD2,
  kSmartOffline = 0xD4,
  kSmartReadLog = 0xD5,
  kSmartEnable = 0xD8,
  kSmartDisable = 0xD9,
  kSmartReturnStatus = 0xDA,
};

/// What a host wrote to the command block; high-order bytes of 48-bit commands in the upper halves.
struct Taskfile {
  uint16_t features = 0;
  uint16_t count = 0;
  uint64_t lba = 0;  ///< 48 bits: low, mid, high, then their previous contents.
  uint8_t device = 0;
  uint8_t command = 0;
  friend bool operator==(const Taskfile&, const Taskfile&) = default;
};

}  // namespace limen::storage::ata
