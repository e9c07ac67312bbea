#include "usb/device.h"

#include <algorithm>
#include <array>
#include <utility>

namespace limen::usb {
namespace {

/// bmRequestType (USB 2.0 table 9-2).
constexpr uint8_t kTypeMask = 0x60, kStandard = 0x00, kRecipientMask = 0x1F;
enum Recipient : uint8_t { kToDevice = 0, kToInterface = 1, kToEndpoint = 2 };

/// bRequest (USB 2.0 table 9-4, USB 3.2 table 9-5).
enum Request : uint8_t {
  kGetStatus = 0,
  kClearFeature = 1,
  kSetFeature = 3,
  kSetAddress = 5,
  kGetDescriptor = 6,
  kGetConfiguration = 8,
  kSetConfiguration = 9,
  kGetInterface = 10,
  kSetInterface = 11,
  kSetSel = 48,
  kSetIsochDelay = 49,
};
/// Feature selectors (USB 2.0 table 9-6, USB 3.2 table 9-7).
constexpr uint16_t kEndpointHalt = 0, kFunctionSuspend = 0, kRemoteWakeup = 1, kU1Enable = 48,
                   kLtmEnable = 50;

constexpr Outcome kStalled = {.status = Status::kStall, .bytes = 0};

}  // namespace

UsbDevice::UsbDevice(Description description) : description_(std::move(description)) {}

void UsbDevice::connect(Host& host, unsigned connector, Speed speed) {
  host_ = &host;
  connector_ = connector;
  speed_ = speed;
}

void UsbDevice::ready(uint8_t endpoint) {
  if (Host* host = host_; host != nullptr) host->endpoint_ready(connector_, endpoint);
}

void UsbDevice::reset() {
  configuration_ = 0;
  remote_wakeup_ = false;
  halted_.clear();
  device_reset();
  configured(false);
}

bool UsbDevice::has_endpoint(uint8_t address) const {
  return std::ranges::any_of(description_.find(speed_)->endpoints,
                             [&](const auto& each) { return each.address == address; });
}

Outcome UsbDevice::give(std::span<const uint8_t> reply, std::span<uint8_t> data) {
  const size_t count = std::min(reply.size(), data.size());
  std::copy_n(reply.begin(), count, data.begin());
  return {.status = Status::kDone, .bytes = count};
}

Outcome UsbDevice::get_status(const Setup& setup, std::span<uint8_t> data) const {
  std::array<uint8_t, 2> status = {};
  switch (setup.type & kRecipientMask) {
    case kToDevice:
      status[0] = remote_wakeup_ ? 2 : 0;
      break;
    case kToInterface:
      break;
    case kToEndpoint:
      status[0] = halted_.contains(static_cast<uint8_t>(setup.index)) ? 1 : 0;
      break;
    default:
      return kStalled;
  }
  return give(status, data);
}

Outcome UsbDevice::change_feature(const Setup& setup, bool on) {
  switch (setup.type & kRecipientMask) {
    case kToDevice:
      if (setup.value == kRemoteWakeup && description_.wakes) {
        remote_wakeup_ = on;
        return {};
      }
      if (speed_ == Speed::kSuper && setup.value >= kU1Enable && setup.value <= kLtmEnable)
        return {};
      return kStalled;
    case kToInterface:
      if (speed_ != Speed::kSuper || setup.value != kFunctionSuspend) return kStalled;
      // Bit 1 of the options: it may wake the host.
      remote_wakeup_ = on && (setup.index & 0x0200) != 0 && description_.wakes;
      return {};
    case kToEndpoint: {
      const auto address = static_cast<uint8_t>(setup.index);
      if (setup.value != kEndpointHalt || (!has_endpoint(address) && (address & 0x7F) != 0))
        return kStalled;
      if (on) {
        halted_.insert(address);
      } else {
        halted_.erase(address);
        halt_cleared(address);
      }
      return {};
    }
    default:
      return kStalled;
  }
}

Outcome UsbDevice::standard_request(const Setup& setup, std::span<uint8_t> data) {
  switch (setup.request) {
    case kGetStatus:
      return get_status(setup, data);
    case kClearFeature:
      return change_feature(setup, false);
    case kSetFeature:
      return change_feature(setup, true);
    case kSetAddress:  // the controller's business
      return {};
    case kGetDescriptor: {
      if ((setup.type & kRecipientMask) != kToDevice) return class_request(setup, data);
      const auto reply = description_.descriptor(speed_, static_cast<uint8_t>(setup.value >> 8),
                                                 static_cast<uint8_t>(setup.value & 0xFF));
      return reply ? give(*reply, data) : kStalled;
    }
    case kGetConfiguration:
      return give({&configuration_, 1}, data);
    case kSetConfiguration:
      if (setup.value > 1) return kStalled;
      configuration_ = static_cast<uint8_t>(setup.value);
      halted_.clear();
      configured(configuration_ != 0);
      return {};
    case kGetInterface: {
      const uint8_t alternate = 0;
      return setup.index == 0 ? give({&alternate, 1}, data) : kStalled;
    }
    case kSetInterface:
      return setup.index == 0 && setup.value == 0 ? Outcome{} : kStalled;
    case kSetSel:
    case kSetIsochDelay:
      return speed_ == Speed::kSuper ? Outcome{.bytes = data.size()} : kStalled;
    default:
      return kStalled;
  }
}

Outcome UsbDevice::control(const Setup& setup, std::span<uint8_t> data) {
  return (setup.type & kTypeMask) == kStandard ? standard_request(setup, data)
                                               : class_request(setup, data);
}

Outcome UsbDevice::transfer(uint8_t endpoint, std::span<const iovec> buffers, uint64_t bytes) {
  if (configuration_ == 0 || halted_.contains(endpoint) || !has_endpoint(endpoint)) return kStalled;
  const auto outcome = endpoint_transfer(endpoint, buffers, bytes);
  if (outcome.status == Status::kStall) halted_.insert(endpoint);
  return outcome;
}

}  // namespace limen::usb
