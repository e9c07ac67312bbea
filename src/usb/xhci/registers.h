// Registers, contexts and transfer request blocks of an xHCI controller (eXtensible Host Controller
// Interface for Universal Serial Bus, revision 1.2).
#pragma once

#include <array>
#include <cstdint>

namespace limen::usb::xhci {

// Where the groups begin in BAR 0.
inline constexpr uint32_t kCapabilityBytes = 0x40, kOperational = kCapabilityBytes,
                          kPorts = kOperational + 0x400, kRuntime = 0x1000, kDoorbells = 0x2000,
                          kRegisterBytes = 0x4000;

/// Capability registers (§5.3).
enum Capability : uint32_t {
  kCapLengthVersion = 0x00,
  kHcsParams1 = 0x04,
  kHcsParams2 = 0x08,
  kHcsParams3 = 0x0C,
  kHccParams1 = 0x10,
  kDoorbellOffset = 0x14,
  kRuntimeOffset = 0x18,
  kHccParams2 = 0x1C,
  kExtended = 0x20,  ///< Supported protocols: USB 2, then USB 3 (§7.2).
};

/// Operational registers, from kOperational on (§5.4).
enum Operational : uint32_t {
  kUsbCmd = 0x00,
  kUsbSts = 0x04,
  kPageSize = 0x08,
  kDnCtrl = 0x14,
  kCrcr = 0x18,
  kCrcrHigh = 0x1C,
  kDcbaap = 0x30,
  kDcbaapHigh = 0x34,
  kConfig = 0x38,
};
namespace cmd {
inline constexpr uint32_t kRun = 1 << 0, kReset = 1 << 1, kInterrupts = 1 << 2, kSave = 1 << 8,
                          kRestore = 1 << 9, kWritable = 0x0000'0C0D;
}  // namespace cmd
namespace sts {
inline constexpr uint32_t kHalted = 1 << 0, kSystemError = 1 << 2, kEvent = 1 << 3,
                          kPortChange = 1 << 4, kRestoreError = 1 << 10, kControllerError = 1 << 12,
                          kClearable = kSystemError | kEvent | kPortChange | kRestoreError;
}  // namespace sts
namespace crcr {
inline constexpr uint32_t kCycle = 1 << 0, kStop = 1 << 1, kAbort = 1 << 2, kRunning = 1 << 3;
}  // namespace crcr

/// Of a port, each 16 bytes from kPorts on (§5.4.8 on).
enum PortRegister : uint32_t { kPortSc = 0x0, kPortPmsc = 0x4, kPortLi = 0x8, kPortHlpmc = 0xC };
namespace portsc {
inline constexpr uint32_t kConnected = 1u << 0, kEnabled = 1u << 1, kReset = 1u << 4,
                          kLinkShift = 5, kLinkMask = 0xFu << kLinkShift, kPower = 1u << 9,
                          kSpeedShift = 10, kSpeedMask = 0xFu << kSpeedShift, kLinkWrite = 1u << 16,
                          kConnectChange = 1u << 17, kEnableChange = 1u << 18,
                          kWarmResetChange = 1u << 19, kOverCurrentChange = 1u << 20,
                          kResetChange = 1u << 21, kLinkChange = 1u << 22, kConfigError = 1u << 23,
                          kWarmReset = 1u << 31, kChanges = 0x7Fu << 17, kIndicators = 3u << 14,
                          kWakes = 7u << 25;
}  // namespace portsc
enum class Link : uint32_t { kU0 = 0, kU3 = 3, kRxDetect = 5, kPolling = 7, kResume = 15 };

/// Of an interrupter, each 32 bytes from kRuntime + 20H on (§5.5.2).
enum InterrupterRegister : uint32_t {
  kIman = 0x00,
  kImod = 0x04,
  kErstSz = 0x08,
  kErstBa = 0x10,
  kErstBaHigh = 0x14,
  kErdp = 0x18,
  kErdpHigh = 0x1C,
};
inline constexpr uint32_t kMfIndex = 0x00, kInterrupters = 0x20;
namespace iman {
inline constexpr uint32_t kPending = 1 << 0, kEnabled = 1 << 1;
}
inline constexpr uint32_t kHandlerBusy = 1 << 3;  ///< ERDP.EHB.

/// A transfer request block (§4.11.1), as it lies in memory.
struct Trb {
  uint64_t parameter = 0;
  uint32_t status = 0;
  uint32_t control = 0;

  [[nodiscard]] unsigned type() const { return control >> 10 & 0x3F; }
  [[nodiscard]] bool cycle() const { return (control & 1) != 0; }
};
static_assert(sizeof(Trb) == 16);

enum TrbType : uint32_t {
  kNormal = 1,
  kSetupStage = 2,
  kDataStage = 3,
  kStatusStage = 4,
  kIsoch = 5,
  kLink = 6,
  kEventData = 7,
  kNoOp = 8,
  kEnableSlot = 9,
  kDisableSlot = 10,
  kAddressDevice = 11,
  kConfigureEndpoint = 12,
  kEvaluateContext = 13,
  kResetEndpoint = 14,
  kStopEndpoint = 15,
  kSetTrDequeue = 16,
  kResetDevice = 17,
  kNoOpCommand = 23,
  kTransferEvent = 32,
  kCommandCompletion = 33,
  kPortStatusChange = 34,
};
namespace trb {
inline constexpr uint32_t kToggleCycle = 1 << 1, kShortPacketEvent = 1 << 2, kChain = 1 << 4,
                          kInterrupt = 1 << 5, kImmediate = 1 << 6, kBlockInterrupt = 1 << 9,
                          kBlockSetAddress = 1 << 9, kDeconfigure = 1 << 9, kDirectionIn = 1 << 16,
                          kEventDataFlag = 1 << 2, kLengthMask = 0x1FFFF;
}  // namespace trb

/// Completion codes (§6.4.5).
enum class Code : uint8_t {
  kSuccess = 1,
  kTransactionError = 4,
  kTrbError = 5,
  kStall = 6,
  kNoSlots = 9,
  kSlotNotEnabled = 11,
  kEndpointNotEnabled = 12,
  kShortPacket = 13,
  kParameterError = 17,
  kContextStateError = 19,
  kCommandRingStopped = 24,
  kStopped = 26,
};

/// A slot context's or endpoint context's words (§6.2.2, §6.2.3), and their states.
using Context = std::array<uint32_t, 8>;
enum class SlotState : uint32_t { kDisabled = 0, kDefault = 1, kAddressed = 2, kConfigured = 3 };
enum class EndpointState : uint32_t {
  kDisabled = 0,
  kRunning = 1,
  kHalted = 2,
  kStopped = 3,
  kError = 4
};
enum EndpointType : uint32_t {
  kNoType = 0,
  kIsochOut = 1,
  kBulkOut = 2,
  kInterruptOut = 3,
  kControl = 4,
  kIsochIn = 5,
  kBulkIn = 6,
  kInterruptIn = 7,
};
inline constexpr uint64_t kContextBytes = sizeof(Context);
/// Device context indexes: 0 the slot, 1 the control endpoint, 2n and 2n + 1 endpoint n.
inline constexpr unsigned kContexts = 32, kControlEndpoint = 1;

}  // namespace limen::usb::xhci
