#include "device/tpm/crb.h"

#include <algorithm>
#include <utility>

namespace limen::device {
namespace {

/// Registers of locality 0 (table 31).
enum Register : uint32_t {
  kLocState = 0x00,
  kLocCtrl = 0x08,
  kLocSts = 0x0C,
  kInterfaceId = 0x30,
  kInterfaceIdHigh = 0x34,
  kCtrlReq = 0x40,
  kCtrlSts = 0x44,
  kCtrlCancel = 0x48,
  kCtrlStart = 0x4C,
  kCommandSize = 0x58,
  kCommandAddress = 0x5C,
  kResponseSize = 0x64,
  kResponseAddress = 0x68,
};
constexpr uint32_t kEstablished = 1, kAssigned = 1 << 1, kRegistersValid = 1 << 7;
constexpr uint32_t kRequestAccess = 1, kRelinquish = 1 << 1;
constexpr uint32_t kCommandReady = 1, kGoIdle = 1 << 1, kIdle = 1 << 1;
/// A command response buffer, version 1, the only interface; transfers of up to 64 bytes.
constexpr uint32_t kInterface = 1 | 1 << 4 | 3 << 11 | 1 << 14 | 1 << 17;
constexpr uint32_t kVendor = 0x0001'1014;  ///< As QEMU's.

}  // namespace

TpmCrb::TpmCrb(memory::IoSpace& mmio, TpmBackend& backend) : mmio_(mmio), backend_(backend) {
  mmio_.claim(kBase, kSize, *this, "tpm-crb");
}

TpmCrb::~TpmCrb() { mmio_.release(kBase, *this); }

void TpmCrb::reset() {
  backend_.start();  // and with it a command that was under way is over
  const bool established = backend_.established();
  const std::lock_guard lock(mutex_);
  assigned_ = executing_ = false;
  idle_ = true;
  established_ = established;
  cancel_ = 0;
  buffer_ = {};
  ++serial_;
  to_start_ = to_cancel_ = false;
}

uint32_t TpmCrb::register_value(uint32_t offset) const {
  switch (offset) {
    case kLocState:
      return kRegistersValid | (assigned_ ? kAssigned : 0) | (established_ ? 0 : kEstablished);
    case kLocSts:
      return assigned_ ? 1 : 0;
    case kInterfaceId:
      return kInterface;
    case kInterfaceIdHigh:
      return kVendor;
    case kCtrlSts:
      return idle_ ? kIdle : 0;
    case kCtrlCancel:
      return cancel_;
    case kCtrlStart:
      return executing_ ? 1 : 0;
    case kCommandSize:
    case kResponseSize:
      return kBufferBytes;
    case kCommandAddress:
    case kResponseAddress:
      return static_cast<uint32_t>(kBase + kBuffer);
    default:
      return 0;
  }
}

void TpmCrb::write_register(uint32_t offset, uint32_t value) {
  switch (offset) {
    case kLocCtrl:
      if ((value & kRequestAccess) != 0)
        assigned_ = true;
      else if ((value & kRelinquish) != 0)
        assigned_ = false;
      return;
    case kCtrlReq:
      if (executing_ || !assigned_) return;
      if ((value & kCommandReady) != 0)
        idle_ = false;
      else if ((value & kGoIdle) != 0)
        idle_ = true;
      return;
    case kCtrlCancel:
      cancel_ = value & 1;
      to_cancel_ = executing_ && cancel_ != 0;
      return;
    case kCtrlStart:
      if (executing_ || idle_ || !assigned_ || (value & 1) == 0) return;
      executing_ = to_start_ = true;
      ++serial_;
      return;
    default:
      return;
  }
}

void TpmCrb::completed(uint64_t serial, const std::vector<uint8_t>& response) {
  const std::lock_guard lock(mutex_);
  if (serial != serial_ || !executing_) return;
  const auto& fitting = response.size() <= buffer_.size() ? response : tpm_error(kTpmFailure);
  std::ranges::copy(fitting, buffer_.begin());
  executing_ = false;
}

void TpmCrb::act() {
  std::vector<uint8_t> command;
  uint64_t serial = 0;
  bool start = false, cancel = false;
  {
    const std::lock_guard lock(mutex_);
    start = std::exchange(to_start_, false);
    cancel = std::exchange(to_cancel_, false);
    serial = serial_;
    const uint32_t size = tpm_size(buffer_.data());
    if (start && size >= kTpmHeaderBytes && size <= buffer_.size())
      command.assign(buffer_.begin(), buffer_.begin() + size);
  }
  if (start && command.empty()) return completed(serial, tpm_error(kTpmCommandSize));
  if (start)
    backend_.execute(0, std::move(command), [this, serial](const std::vector<uint8_t>& response) {
      completed(serial, response);
    });
  if (cancel) backend_.cancel();
}

uint64_t TpmCrb::io_read(uint64_t offset, unsigned size) {
  const std::lock_guard lock(mutex_);
  uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const auto at = static_cast<uint32_t>(offset) + i;
    const uint32_t byte = at < kBuffer ? register_value(at & ~3u) >> 8 * (at & 3) & 0xFF
                          : executing_ ? 0xFF
                                       : buffer_.at(at - kBuffer);
    value |= uint64_t{byte} << 8 * i;
  }
  return value;
}

void TpmCrb::io_write(uint64_t offset, unsigned size, uint64_t value) {
  {
    const std::lock_guard lock(mutex_);
    const auto at = static_cast<uint32_t>(offset);
    if (at < kBuffer) {
      write_register(at & ~3u, static_cast<uint32_t>(value << 8 * (at & 3)));
    } else if (!executing_ && assigned_) {
      for (unsigned i = 0; i < size; ++i)
        buffer_.at(at - kBuffer + i) = static_cast<uint8_t>(value >> 8 * i);
    }
  }
  act();
}

}  // namespace limen::device
