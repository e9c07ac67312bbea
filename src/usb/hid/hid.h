// What keyboard, mouse and tablet share: reports over an interrupt endpoint, and the requests of
// their class (Device Class Definition for Human Interface Devices 1.11).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "display/input.h"
#include "usb/device.h"

namespace limen::usb {

struct HidProperties {
  std::string serial = {};  ///< "": the same for all.
  bool high_speed = true;   ///< usb_version=2; otherwise it is a full-speed device.
};

class Hid : public UsbDevice {
 public:
  static constexpr uint8_t kReports = kIn | 1;  ///< The interrupt endpoint's address.

 protected:
  struct Kind {
    std::string name = {};
    uint8_t subclass = 0, protocol = 0;  ///< Of the boot interface (HID 1.11 §4.2, §4.3).
    uint16_t report_bytes = 8;
    uint8_t interval = 10;            ///< Milliseconds.
    uint8_t high_speed_interval = 7;  ///< Exponent, in microframes.
    std::span<const uint8_t> descriptor = {};
  };
  Hid(const Kind& kind, const HidProperties& properties, EventLoop& loop);

  /// Its driver came, or went: it gets what a person does, or no more. On the loop's thread.
  virtual void set_active(bool active) = 0;

  // With `mutex_` held:
  /// Something happened that the host has not heard of.
  [[nodiscard]] virtual bool changed() const = 0;
  /// Takes one change into the state; then report() is what the host hears.
  virtual void advance() = 0;
  [[nodiscard]] virtual std::vector<uint8_t> report() const = 0;
  /// The host has it: movements are over.
  virtual void reported() {}
  virtual void clear() = 0;
  /// The host's output report.
  virtual void output(std::span<const uint8_t> /*bytes*/) {}

  [[nodiscard]] bool active() const { return active_; }
  [[nodiscard]] bool boot_protocol() const { return boot_protocol_; }
  void changes_made() { ready(kReports); }
  /// For destructors: set_active() is not called any more.
  void cancel_timers();

  mutable std::mutex mutex_;

 private:
  Outcome class_request(const Setup& setup, std::span<uint8_t> data) override;
  Outcome endpoint_transfer(uint8_t endpoint, std::span<const iovec> buffers,
                            uint64_t bytes) override;
  void device_reset() override;
  void configured(bool on) override;
  void repeat();

  static Description describe(const Kind& kind, const HidProperties& properties);

  EventLoop& loop_;
  const Kind kind_;
  std::atomic<bool> active_ = false;
  bool boot_protocol_ = false;  // guarded by mutex_, as what follows
  uint8_t idle_ = 0;            ///< In 4 ms; 0: reports are sent for changes alone.
  bool repeat_due_ = false;
  Timer repeat_timer_, activation_timer_;
};

}  // namespace limen::usb
