#include "usb/hid/hid.h"

#include <chrono>

#include "block/scsi/command.h"

namespace limen::usb {
namespace {

constexpr uint16_t kVendor = 0x0627, kProduct = 0x0001;
constexpr uint8_t kHidClass = 3, kHidDescriptor = 0x21, kReportDescriptor = 0x22;

/// bRequest with bmRequestType (HID 1.11 §7.1, §7.2).
constexpr uint8_t kClassIn = 0xA1, kClassOut = 0x21, kInterfaceIn = 0x81;
enum Request : uint8_t {
  kGetReport = 1,
  kGetIdle = 2,
  kGetProtocol = 3,
  kGetDescriptor = 6,
  kSetReport = 9,
  kSetIdle = 10,
  kSetProtocol = 11,
};
constexpr uint8_t kInputReport = 1, kOutputReport = 2;

constexpr Outcome kStalled = {.status = Status::kStall, .bytes = 0};

std::vector<uint8_t> hid_descriptor(std::span<const uint8_t> report) {
  return {9,
          kHidDescriptor,
          0x11,
          0x01,
          0,
          1,
          kReportDescriptor,
          static_cast<uint8_t>(report.size() & 0xFF),
          static_cast<uint8_t>(report.size() >> 8)};
}

}  // namespace

Description Hid::describe(const Kind& kind, const HidProperties& properties) {
  const auto interface = [&](uint8_t interval) {
    return Interface{.device_class = kHidClass,
                     .subclass = kind.subclass,
                     .protocol = kind.protocol,
                     .class_descriptor = hid_descriptor(kind.descriptor),
                     .endpoints = {{.address = kReports,
                                    .kind = EndpointDescription::Kind::kInterrupt,
                                    .packet_bytes = kind.report_bytes,
                                    .interval = interval}}};
  };
  Description description{.vendor = kVendor,
                          .product = kProduct,
                          .name = kind.name,
                          .serial = properties.serial.empty() ? "42" : properties.serial,
                          .power = 50,
                          .wakes = true};
  description.speeds.emplace_back(Speed::kFull, interface(kind.interval));
  if (properties.high_speed)
    description.speeds.emplace_back(Speed::kHigh, interface(kind.high_speed_interval));
  return description;
}

Hid::Hid(const Kind& kind, const HidProperties& properties, EventLoop& loop)
    : UsbDevice(describe(kind, properties)),
      loop_(loop),
      kind_(kind),
      repeat_timer_(loop, [this] { repeat(); }),
      activation_timer_(loop, [this] { set_active(active_); }) {}

void Hid::configured(bool on) {
  active_ = on;
  // Elsewhere: whoever is called now may hold the locks that input takes.
  activation_timer_.arm(loop_.now());
}

void Hid::cancel_timers() {
  activation_timer_.cancel();
  repeat_timer_.cancel();
}

void Hid::device_reset() {
  const std::lock_guard lock(mutex_);
  boot_protocol_ = false;
  idle_ = 0;
  repeat_due_ = false;
  repeat_timer_.disarm();
  clear();
}

void Hid::repeat() {
  {
    const std::lock_guard lock(mutex_);
    if (idle_ == 0) return;
    repeat_due_ = true;
  }
  ready(kReports);
}

Outcome Hid::class_request(const Setup& setup, std::span<uint8_t> data) {
  const std::lock_guard lock(mutex_);
  const auto high = static_cast<uint8_t>(setup.value >> 8);
  if (setup.type == kInterfaceIn && setup.request == kGetDescriptor) {
    if (high == kReportDescriptor) return give(kind_.descriptor, data);
    if (high == kHidDescriptor) return give(hid_descriptor(kind_.descriptor), data);
    return kStalled;
  }
  if (setup.type == kClassIn) {
    switch (setup.request) {
      case kGetReport:
        return high == kInputReport ? give(report(), data) : kStalled;
      case kGetIdle:
        return give({&idle_, 1}, data);
      case kGetProtocol: {
        const uint8_t protocol = boot_protocol_ ? 0 : 1;
        return give({&protocol, 1}, data);
      }
      default:
        return kStalled;
    }
  }
  if (setup.type != kClassOut) return kStalled;
  switch (setup.request) {
    case kSetReport:
      if (high != kOutputReport) return kStalled;
      output(data);
      return {.bytes = data.size()};
    case kSetIdle:
      idle_ = high;
      repeat_due_ = false;
      if (idle_ == 0)
        repeat_timer_.disarm();
      else
        repeat_timer_.arm(loop_.now() + std::chrono::milliseconds(4) * idle_);
      return {};
    case kSetProtocol:
      if (kind_.subclass == 0 || setup.value > 1) return kStalled;
      boot_protocol_ = setup.value == 0;
      return {};
    default:
      return kStalled;
  }
}

Outcome Hid::endpoint_transfer(uint8_t, std::span<const iovec> buffers, uint64_t) {
  const std::lock_guard lock(mutex_);
  if (changed())
    advance();
  else if (!repeat_due_)
    return {.status = Status::kNotReady};
  repeat_due_ = false;
  if (idle_ != 0) repeat_timer_.arm(loop_.now() + std::chrono::milliseconds(4) * idle_);
  const auto bytes = block::scsi::copy_to(buffers, report());
  reported();
  return {.bytes = bytes};
}

}  // namespace limen::usb
