// What an NVMe controller and its driver share (NVM Express Base 1.4).
#pragma once

#include <cstdint>

namespace limen::storage::nvme {

/// Registers (§3.1); those of 64 bits are two here.
enum Register : uint32_t {
  kCap = 0x00,
  kCapHigh = 0x04,
  kVs = 0x08,
  kIntms = 0x0C,
  kIntmc = 0x10,
  kCc = 0x14,
  kCsts = 0x1C,
  kAqa = 0x24,
  kAsq = 0x28,
  kAsqHigh = 0x2C,
  kAcq = 0x30,
  kAcqHigh = 0x34,
};
inline constexpr uint32_t kDoorbells = 0x1000;

namespace cc {
inline constexpr uint32_t kEnable = 1;
inline constexpr uint32_t kWritable = 0x00FF'FFF1;
}  // namespace cc
namespace csts {
inline constexpr uint32_t kReady = 1, kFatal = 2, kShutdownOccurring = 1 << 2,
                          kShutdownComplete = 2 << 2, kShutdownMask = 3 << 2;
}

/// Opcodes (§5, NVM Command Set §6).
enum AdminOpcode : uint8_t {
  kDeleteSubmissionQueue = 0x00,
  kCreateSubmissionQueue = 0x01,
  kGetLogPage = 0x02,
  kDeleteCompletionQueue = 0x04,
  kCreateCompletionQueue = 0x05,
  kIdentify = 0x06,
  kAbort = 0x08,
  kSetFeatures = 0x09,
  kGetFeatures = 0x0A,
  kAsynchronousEventRequest = 0x0C,
};
enum Opcode : uint8_t {
  kFlush = 0x00,
  kWrite = 0x01,
  kRead = 0x02,
  kWriteZeroes = 0x08,
  kDatasetManagement = 0x09,
};

/// Status code type and code of a completion (§4.6.1), as they stand in its status field.
enum Status : uint16_t {
  kSuccess = 0x000,
  kInvalidOpcode = 0x001,
  kInvalidField = 0x002,
  kDataTransferError = 0x004,
  kInternalError = 0x006,
  kInvalidNamespace = 0x00B,
  kPrpOffsetInvalid = 0x013,
  kLbaOutOfRange = 0x080,
  kCapacityExceeded = 0x081,
  kCompletionQueueInvalid = 0x100,
  kInvalidQueueIdentifier = 0x101,
  kInvalidQueueSize = 0x102,
  kEventRequestLimit = 0x105,
  kInvalidInterruptVector = 0x108,
  kInvalidLogPage = 0x109,
  kInvalidQueueDeletion = 0x10C,
  kNotSaveable = 0x10D,
  kNotChangeable = 0x10E,
  kWriteFault = 0x280,
  kUnrecoveredReadError = 0x281,
};
/// Trying again would end the same.
inline constexpr uint16_t kDoNotRetry = 0x4000;

/// An entry of a submission queue (§4.2).
struct Command {
  uint8_t opcode = 0;
  uint8_t flags = 0;  ///< Bits 7:6: how data are described; 0: PRPs.
  uint16_t id = 0;
  uint32_t namespace_id = 0;
  uint32_t reserved[2] = {};
  uint64_t metadata = 0;
  uint64_t prp1 = 0, prp2 = 0;
  uint32_t words[6] = {};  ///< Command dwords 10 to 15.
};
static_assert(sizeof(Command) == 64);

/// An entry of a completion queue (§4.6).
struct Completion {
  uint32_t result;
  uint32_t reserved;
  uint16_t submission_head;
  uint16_t submission_queue;
  uint16_t id;
  uint16_t status;  ///< Bit 0: the phase.
};
static_assert(sizeof(Completion) == 16);

/// A range of DATASET MANAGEMENT (NVM Command Set §6.7.1.1).
struct Range {
  uint32_t attributes;
  uint32_t blocks;
  uint64_t start;
};
static_assert(sizeof(Range) == 16);

enum FeatureId : uint8_t {
  kArbitration = 0x01,
  kPowerManagement = 0x02,
  kTemperatureThreshold = 0x04,
  kErrorRecovery = 0x05,
  kVolatileWriteCache = 0x06,
  kNumberOfQueues = 0x07,
  kInterruptCoalescing = 0x08,
  kInterruptVector = 0x09,
  kWriteAtomicity = 0x0A,
  kAsynchronousEvents = 0x0B,
};

}  // namespace limen::storage::nvme
