// One SCSI command between a transport (virtio-scsi, USB storage, ATAPI) and a logical unit.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace limen::block::scsi {

/// SAM-5 5.3.1.
enum class Status : uint8_t { kGood = 0x00, kCheckCondition = 0x02, kBusy = 0x08 };

/// Sense key, additional sense code and qualifier (SPC-4 4.5).
struct Sense {
  uint8_t key = 0;
  uint8_t code = 0;
  uint8_t qualifier = 0;
  friend bool operator==(const Sense&, const Sense&) = default;
};
namespace sense {
inline constexpr Sense kNone = {0, 0, 0};
inline constexpr Sense kNoMedium = {2, 0x3A, 0};
inline constexpr Sense kNoMediumTrayOpen = {2, 0x3A, 2};
inline constexpr Sense kNotReadyStopped = {2, 0x04, 2};
inline constexpr Sense kReadError = {3, 0x11, 0};
inline constexpr Sense kWriteError = {3, 0x0C, 0};
inline constexpr Sense kParameterListLength = {5, 0x1A, 0};
inline constexpr Sense kInvalidOpcode = {5, 0x20, 0};
inline constexpr Sense kBlockOutOfRange = {5, 0x21, 0};
inline constexpr Sense kInvalidFieldInCdb = {5, 0x24, 0};
inline constexpr Sense kLogicalUnitNotSupported = {5, 0x25, 0};
inline constexpr Sense kInvalidFieldInParameters = {5, 0x26, 0};
inline constexpr Sense kIncompatibleFormat = {5, 0x30, 0};
inline constexpr Sense kMediumRemovalPrevented = {5, 0x53, 2};
inline constexpr Sense kIllegalModeForTrack = {5, 0x64, 0};
inline constexpr Sense kMediumMayHaveChanged = {6, 0x28, 0};
inline constexpr Sense kPowerOnOrReset = {6, 0x29, 0};
inline constexpr Sense kReportedLunsChanged = {6, 0x3F, 0x0E};
inline constexpr Sense kCapacityChanged = {6, 0x2A, 9};
inline constexpr Sense kWriteProtected = {7, 0x27, 0};
inline constexpr Sense kSpaceExhausted = {7, 0x27, 7};
inline constexpr Sense kInternalFailure = {4, 0x44, 0};
}  // namespace sense

inline constexpr size_t kFixedSenseBytes = 18;
/// Sense data in fixed format (SPC-4 4.5.3).
[[nodiscard]] std::array<uint8_t, kFixedSenseBytes> fixed_sense(const Sense& sense);

/// How a command ended.
struct Outcome {
  Status status = Status::kGood;
  Sense sense = {};          ///< With kCheckCondition.
  uint64_t transferred = 0;  ///< Bytes of data, in whichever direction.
};

struct Command {
  static constexpr size_t kCdbBytes = 32;
  std::array<uint8_t, kCdbBytes> cdb = {};  ///< Padded with zeroes.
  std::vector<iovec> data_out = {};         ///< From the initiator. Valid until `done` was called.
  std::vector<iovec> data_in = {};          ///< To the initiator.
  uint64_t out_bytes = 0;
  uint64_t in_bytes = 0;
  std::function<void(const Outcome&)> done = {};  ///< Called once, on any thread.
};

/// Operation codes (SPC-4, SBC-3, MMC-6).
enum Opcode : uint8_t {
  kTestUnitReady = 0x00,
  kRequestSense = 0x03,
  kRead6 = 0x08,
  kWrite6 = 0x0A,
  kSeek6 = 0x0B,
  kInquiry = 0x12,
  kModeSelect6 = 0x15,
  kReserve6 = 0x16,
  kRelease6 = 0x17,
  kModeSense6 = 0x1A,
  kStartStopUnit = 0x1B,
  kSendDiagnostic = 0x1D,
  kPreventAllowMediumRemoval = 0x1E,
  kReadFormatCapacities = 0x23,
  kReadCapacity10 = 0x25,
  kRead10 = 0x28,
  kWrite10 = 0x2A,
  kSeek10 = 0x2B,
  kWriteAndVerify10 = 0x2E,
  kVerify10 = 0x2F,
  kSynchronizeCache10 = 0x35,
  kWriteSame10 = 0x41,
  kUnmap = 0x42,
  kReadToc = 0x43,
  kGetConfiguration = 0x46,
  kGetEventStatus = 0x4A,
  kReadDiscInformation = 0x51,
  kReadTrackInformation = 0x52,
  kModeSelect10 = 0x55,
  kReserve10 = 0x56,
  kRelease10 = 0x57,
  kModeSense10 = 0x5A,
  kRead16 = 0x88,
  kWrite16 = 0x8A,
  kWriteAndVerify16 = 0x8E,
  kVerify16 = 0x8F,
  kSynchronizeCache16 = 0x91,
  kWriteSame16 = 0x93,
  kServiceActionIn16 = 0x9E,
  kReportLuns = 0xA0,
  kMaintenanceIn = 0xA3,
  kRead12 = 0xA8,
  kWrite12 = 0xAA,
  kReadDvdStructure = 0xAD,
  kWriteAndVerify12 = 0xAE,
  kVerify12 = 0xAF,
  kSetCdSpeed = 0xBB,
  kMechanismStatus = 0xBD,
  kReadCd = 0xBE,
};
inline constexpr uint8_t kReadCapacity16Action = 0x10;

/// Bytes of a command descriptor block, by its group code (SPC-4 4.3.2); 0: the code has no length.
[[nodiscard]] size_t cdb_length(uint8_t opcode);

/// Big-endian fields, as all of SCSI has them.
template <size_t kBytes>
[[nodiscard]] uint64_t get_be(const uint8_t* from) {
  uint64_t value = 0;
  for (size_t i = 0; i < kBytes; ++i) value = value << 8 | from[i];
  return value;
}
template <size_t kBytes>
void put_be(uint8_t* to, uint64_t value) {
  for (size_t i = kBytes; i-- > 0; value >>= 8) to[i] = static_cast<uint8_t>(value);
}

/// Copies up to the buffers' end; returns the number of bytes.
size_t copy_to(std::span<const iovec> buffers, std::span<const uint8_t> bytes);
size_t copy_from(std::span<const iovec> buffers, std::span<uint8_t> bytes);

}  // namespace limen::block::scsi
