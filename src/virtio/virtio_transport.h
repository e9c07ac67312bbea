// What the transports of virtio devices share: features, device status and the set-up of queues
// (virtio 1.2 §2.1, §2.2, §3.1). A transport maps its registers onto this.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "memory/doorbell.h"
#include "memory/guest_memory.h"
#include "virtio/doorbells.h"
#include "virtio/virtio_device.h"

namespace limen::virtio {

class VirtioTransport : public Transport {
 public:
  [[nodiscard]] VirtioDevice& device() { return *device_; }

  // Transport:
  Virtqueue& queue(unsigned index) override { return *queues_[index].ring; }
  [[nodiscard]] uint64_t negotiated_features() const override { return driver_features_; }
  [[nodiscard]] bool running() const override;
  void configuration_changed() override;
  void needs_reset(std::string_view reason) override;
  [[nodiscard]] int leave_notifications(unsigned index) override;
  void return_notifications(unsigned index) override;

  /// Has notifications come as events where the device wants them so; `main` is the machine's loop.
  /// Once, before the machine runs, where IoSpace::takes_doorbells().
  virtual Result<> take_doorbells(EventLoop& main);

 protected:
  struct Queue {
    std::unique_ptr<Virtqueue> ring;
    uint16_t size = 0;
    bool enabled = false;
    uint64_t descriptors = 0;
    uint64_t driver_area = 0;
    uint64_t device_area = 0;
  };

  /// `name`: for messages. `memory` outlives the transport. The class that derives from this calls
  /// device().connect() when it can take notifications, and end_device() before its end.
  VirtioTransport(std::string name, std::unique_ptr<VirtioDevice> device,
                  memory::GuestMemory& memory);

  /// Configuration change notification.
  virtual void interrupt_configuration() = 0;
  /// What the transport keeps of notifications is as after power-on, no interrupt is asserted.
  virtual void reset_notifications() = 0;

  /// Where the driver notifies queue `index`, but for the event.
  [[nodiscard]] virtual memory::Doorbell notification_of(unsigned index) const = 0;
  [[nodiscard]] std::span<const memory::Doorbell> notifications() const { return notifications_; }
  /// The end of the device: what derives from this calls it in its destructor, after it has given
  /// up its addresses.
  void end_device();

  /// Back to the state after power-on.
  void reset_device();
  void write_status(uint8_t value);
  /// The driver's notification of a queue; ignored where the device does not run.
  void notify(unsigned index);
  uint64_t read_device(uint64_t offset, unsigned size);
  void write_device(uint64_t offset, unsigned size, uint64_t value);

  // With mutex_ held.
  [[nodiscard]] uint32_t offered_word_locked() const;  ///< That which device_feature_select_ names.
  [[nodiscard]] uint32_t driver_word_locked() const;
  void write_driver_word_locked(uint32_t value);
  [[nodiscard]] Queue* selected_queue_locked();  ///< nullptr: there is no such queue.
  /// Why the device must stop; empty: it need not.
  std::string enable_queue_locked(Queue& queue);
  static void set_half(uint64_t& value, bool high, uint32_t half);

  std::atomic<uint8_t> status_ = 0;
  std::atomic<uint8_t> generation_ = 0;
  std::mutex mutex_;                    // taken after reset_mutex_
  uint32_t device_feature_select_ = 0;  // guarded by mutex_
  uint32_t driver_feature_select_ = 0;  // guarded by mutex_
  uint16_t queue_select_ = 0;           // guarded by mutex_
  std::vector<Queue> queues_;           // setup guarded by mutex_; the rings guard themselves

 private:
  void reset_locked();
  [[nodiscard]] uint64_t offered_features() const;

  const std::string name_;
  const std::unique_ptr<VirtioDevice> device_;
  std::vector<memory::Doorbell> notifications_;
  std::unique_ptr<Doorbells> doorbells_;
  std::atomic<bool> warned_ = false;
  std::atomic<uint64_t> driver_features_ = 0;
  std::mutex reset_mutex_;  // held through a reset, which may wait for requests under way
};

}  // namespace limen::virtio
