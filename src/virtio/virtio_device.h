// What a kind of virtio device provides, and what its transport provides to it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "base/event_loop.h"
#include "virtio/features.h"
#include "virtio/virtqueue.h"

namespace limen::virtio {

/// The transport's side. Every call is thread-safe; call without a lock that VirtioDevice's
/// functions take.
class Transport {
 public:
  virtual ~Transport() = default;
  [[nodiscard]] virtual Virtqueue& queue(unsigned index) = 0;
  [[nodiscard]] virtual uint64_t negotiated_features() const = 0;
  /// True between DRIVER_OK and reset, while the device is sound.
  [[nodiscard]] virtual bool running() const = 0;
  /// Used-buffer notification of a queue.
  virtual void interrupt_queue(unsigned index) = 0;
  /// The device configuration changed: bumps the generation and notifies.
  virtual void configuration_changed() = 0;
  /// Sets DEVICE_NEEDS_RESET and notifies (virtio 1.2 §2.1.2). The device does nothing more until
  /// the driver resets it.
  virtual void needs_reset(std::string_view reason) = 0;

  // For a queue that somebody else serves, who knows events (eventfd(2)) only.

  /// The event that notifications of the queue are added to; nobody here looks at it until
  /// return_notifications(). -1: there is none. Either way a notification may come to
  /// VirtioDevice::queue_notified() all the same.
  [[nodiscard]] virtual int leave_notifications(unsigned /*index*/) { return -1; }
  virtual void return_notifications(unsigned /*index*/) {}
  /// Until disconnect_interrupt(), signals of `event` are used-buffer notifications of the queue
  /// while the accelerator can have them so. `changed`, which may be called on any thread, says
  /// when it can and when not: then the caller watches the event and has interrupt_queue() called.
  /// At first it cannot.
  virtual void connect_interrupt(unsigned /*index*/, int /*event*/,
                                 const std::function<void(bool connected)>& /*changed*/) {}
  virtual void disconnect_interrupt(unsigned /*index*/) {}
};

/// One device type. Its transport outlives its use: connect() comes first.
class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;
  [[nodiscard]] virtual DeviceType type() const = 0;
  /// PCI class code 0xBBSSII.
  [[nodiscard]] virtual uint32_t pci_class() const = 0;
  /// Feature bits of the device type, without those of the transport.
  [[nodiscard]] virtual uint64_t features() const = 0;
  [[nodiscard]] virtual unsigned queue_count() const = 0;
  [[nodiscard]] virtual uint16_t queue_size(unsigned index) const = 0;
  [[nodiscard]] virtual size_t configuration_size() const = 0;
  /// `offset` + size is within configuration_size().
  virtual void read_configuration(size_t offset, std::span<std::byte> into) = 0;
  virtual void write_configuration(size_t offset, std::span<const std::byte> from) = 0;

  /// Once, before the machine runs.
  virtual void connect(Transport& transport) = 0;
  /// The driver set DRIVER_OK; features are fixed.
  virtual void started() {}
  /// The driver notified a queue that is enabled. On a vCPU thread, or on that of doorbell_loop();
  /// several at once for different queues, and the same.
  virtual void queue_notified(unsigned index) = 0;
  /// Where notifications are best taken that an accelerator turned into events (memory::Doorbell);
  /// `main` is the machine's loop. nullptr: on the vCPU's thread.
  [[nodiscard]] virtual EventLoop* doorbell_loop(EventLoop& main) { return &main; }
  /// The driver turned a queue off, or broke the device (Transport::needs_reset()): who serves
  /// queues elsewhere stops before this returns.
  virtual void stopped() {}
  /// Back to the state after power-on. The queues are off already. Returns only when the device
  /// will not touch guest memory again: waits for what is under way.
  virtual void reset() = 0;
};

/// After a pop() outside queue_notified() that gave nothing: stops the device if the driver broke
/// the queue. (After queue_notified() the transport looks by itself.)
inline void stop_if_broken(Transport& transport, unsigned index) {
  const Virtqueue& queue = transport.queue(index);
  if (queue.broken()) transport.needs_reset(queue.broken_reason());
}

}  // namespace limen::virtio
