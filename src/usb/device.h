// A USB device as a host controller sees it: descriptors, control requests, bulk and interrupt
// endpoints (Universal Serial Bus 2.0 chapter 9, 3.2 chapter 9).
//
// A transfer is over when the call returns. A device that has nothing to give, or no room, answers
// kNotReady, as with NAK or NRDY on the wire, and calls Host::endpoint_ready() later.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "usb/descriptors.h"

namespace limen::usb {

/// What a control transfer begins with (USB 2.0 §9.3); all of it is the guest's.
struct Setup {
  uint8_t type = 0;  ///< bmRequestType.
  uint8_t request = 0;
  uint16_t value = 0;
  uint16_t index = 0;
  uint16_t length = 0;

  [[nodiscard]] bool to_host() const { return (type & 0x80) != 0; }
};

enum class Status : uint8_t { kDone, kNotReady, kStall };

/// How a transfer ended, and how many bytes it moved.
struct Outcome {
  Status status = Status::kDone;
  uint64_t bytes = 0;
};

/// The controller's side of a port.
class Host {
 public:
  virtual ~Host() = default;
  /// Endpoint `address` (with 80h: IN) of the device at `connector` may go on, or wants to: a
  /// suspended port wakes up. Any thread, also from within a transfer; no lock of the device held.
  virtual void endpoint_ready(unsigned connector, uint8_t address) = 0;
};

class UsbDevice {
 public:
  explicit UsbDevice(Description description);
  virtual ~UsbDevice() = default;
  UsbDevice(const UsbDevice&) = delete;
  UsbDevice& operator=(const UsbDevice&) = delete;

  [[nodiscard]] const Description& description() const { return description_; }
  [[nodiscard]] bool supports(Speed speed) const { return description_.find(speed) != nullptr; }

  /// Plugs it in; `host` outlives it or calls disconnect().
  void connect(Host& host, unsigned connector, Speed speed);
  void disconnect() { host_ = nullptr; }
  [[nodiscard]] Speed speed() const { return speed_; }

  /// The port's reset: settings as after power-on.
  void reset();
  /// `data`: of the data stage, `setup.length` bytes; filled for a request to the host.
  Outcome control(const Setup& setup, std::span<uint8_t> data);
  /// One bulk or interrupt transfer of at most `bytes`, which is what `buffers` have; with fewer it
  /// was short.
  Outcome transfer(uint8_t endpoint, std::span<const iovec> buffers, uint64_t bytes);
  /// It was told that it may wake a port that sleeps.
  [[nodiscard]] bool remote_wakeup() const { return remote_wakeup_; }

 protected:
  /// Requests of a class or to an interface that are not the standard's.
  virtual Outcome class_request(const Setup& setup, std::span<uint8_t> data) = 0;
  virtual Outcome endpoint_transfer(uint8_t endpoint, std::span<const iovec> buffers,
                                    uint64_t bytes) = 0;
  virtual void device_reset() = 0;
  /// The host chose its configuration, or a reset took it away.
  virtual void configured(bool /*on*/) {}
  /// The host cleared the halt of an endpoint.
  virtual void halt_cleared(uint8_t /*endpoint*/) {}
  void ready(uint8_t endpoint);
  /// Gives as much of `reply` as was asked for.
  static Outcome give(std::span<const uint8_t> reply, std::span<uint8_t> data);

 private:
  Outcome standard_request(const Setup& setup, std::span<uint8_t> data);
  Outcome get_status(const Setup& setup, std::span<uint8_t> data) const;
  Outcome change_feature(const Setup& setup, bool on);
  [[nodiscard]] bool has_endpoint(uint8_t address) const;

  const Description description_;
  std::atomic<Host*> host_ = nullptr;
  unsigned connector_ = 0;
  Speed speed_ = Speed::kFull;
  // The controller's lock guards these: it makes one call at a time.
  uint8_t configuration_ = 0;
  bool remote_wakeup_ = false;
  std::set<uint8_t> halted_;
};

}  // namespace limen::usb
