#include "virtio/virtio_transport.h"

#include <algorithm>

#include "base/log.h"
#include "base/trace.h"

namespace limen::virtio {
namespace {

trace::Event trace_set_status("virtio_set_status");
trace::Event trace_queue_notify("virtio_queue_notify");

}  // namespace

VirtioTransport::VirtioTransport(std::string name, std::unique_ptr<VirtioDevice> device,
                                 memory::GuestMemory& memory)
    : queues_(device->queue_count()), name_(std::move(name)), device_(std::move(device)) {
  for (unsigned i = 0; i < queues_.size(); ++i) {
    queues_[i].ring = std::make_unique<Virtqueue>(memory);
    queues_[i].size = device_->queue_size(i);
  }
}

// --- Features and queues ------------------------------------------------------------------------

void VirtioTransport::set_half(uint64_t& value, bool high, uint32_t half) {
  value = high ? (value & 0xFFFF'FFFF) | uint64_t{half} << 32 : (value & ~0xFFFF'FFFFull) | half;
}

uint64_t VirtioTransport::offered_features() const {
  return device_->features() | feature::kVersion1 | feature::kIndirectDescriptors |
         feature::kEventIndex;
}

uint32_t VirtioTransport::offered_word_locked() const {
  if (device_feature_select_ > 1) return 0;
  return static_cast<uint32_t>(offered_features() >> (32 * device_feature_select_));
}

uint32_t VirtioTransport::driver_word_locked() const {
  if (driver_feature_select_ > 1) return 0;
  return static_cast<uint32_t>(driver_features_ >> (32 * driver_feature_select_));
}

void VirtioTransport::write_driver_word_locked(uint32_t value) {
  if (driver_feature_select_ > 1 || (status_ & status::kFeaturesOk) != 0) return;
  uint64_t features = driver_features_;
  set_half(features, driver_feature_select_ == 1, value);
  driver_features_ = features;
}

VirtioTransport::Queue* VirtioTransport::selected_queue_locked() {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

std::string VirtioTransport::enable_queue_locked(Queue& queue) {
  if ((status_ & status::kFeaturesOk) == 0) return {};  // too early: the rings' form is not agreed
  queue.enabled = true;
  const uint64_t features = driver_features_;
  const bool sound =
      queue.ring->enable({.size = queue.size,
                          .descriptors = {queue.descriptors},
                          .driver_area = {queue.driver_area},
                          .device_area = {queue.device_area},
                          .event_index = (features & feature::kEventIndex) != 0,
                          .indirect = (features & feature::kIndirectDescriptors) != 0});
  return sound ? std::string() : queue.ring->broken_reason();
}

// --- Device status (§2.1, §3.1) -----------------------------------------------------------------

bool VirtioTransport::running() const {
  constexpr uint8_t kRunning = status::kDriverOk | status::kFeaturesOk;
  return (status_ & (kRunning | status::kNeedsReset)) == kRunning;
}

void VirtioTransport::write_status(uint8_t value) {
  trace_set_status("vdev {} val {}", name_, value);
  const std::lock_guard reset_lock(reset_mutex_);
  if (value == 0) return reset_locked();
  bool start = false;
  {
    const std::lock_guard lock(mutex_);
    const uint8_t old = status_;
    const uint64_t features = driver_features_;
    if ((value & status::kFeaturesOk) != 0 && (old & status::kFeaturesOk) == 0 &&
        ((features & ~offered_features()) != 0 || (features & feature::kVersion1) == 0))
      value = static_cast<uint8_t>(value & ~status::kFeaturesOk);
    // Only a reset clears bits, and NEEDS_RESET is the device's to set.
    status_.fetch_or(static_cast<uint8_t>(value & ~status::kNeedsReset));
    start = (old & status::kDriverOk) == 0 && running();
  }
  if (!start) return;
  device_->started();
  for (unsigned i = 0; i < queues_.size(); ++i) notify(i);  // requests made before DRIVER_OK
}

void VirtioTransport::reset_locked() {
  status_ = 0;
  for (Queue& queue : queues_) queue.ring->disable();
  device_->reset();
  reset_notifications();
  const std::lock_guard lock(mutex_);
  for (unsigned i = 0; i < queues_.size(); ++i) {
    Queue& queue = queues_[i];
    queue.ring->disable();
    queue.size = device_->queue_size(i);
    queue.enabled = false;
    queue.descriptors = queue.driver_area = queue.device_area = 0;
  }
  device_feature_select_ = driver_feature_select_ = 0;
  queue_select_ = 0;
  driver_features_ = 0;
  generation_ = 0;
}

Result<> VirtioTransport::take_doorbells(EventLoop& main) {
  EventLoop* const loop = device_->doorbell_loop(main);
  if (loop == nullptr) return {};
  const auto count = static_cast<unsigned>(queues_.size());
  doorbells_ =
      LIMEN_TRY(Doorbells::create(count, *loop, [this](unsigned index) { notify(index); }));
  for (unsigned i = 0; i < count; ++i) {
    notifications_.push_back(notification_of(i));
    notifications_.back().event = doorbells_->event(i);
  }
  return {};
}

void VirtioTransport::end_device() {
  reset_device();  // and with it nobody else has the doorbells
  doorbells_.reset();
}

int VirtioTransport::leave_notifications(unsigned index) {
  if (doorbells_ == nullptr) return -1;
  doorbells_->leave(index);
  return doorbells_->event(index);
}

void VirtioTransport::return_notifications(unsigned index) {
  if (doorbells_ != nullptr) doorbells_->resume(index);
}

void VirtioTransport::reset_device() {
  const std::lock_guard lock(reset_mutex_);
  reset_locked();
}

void VirtioTransport::needs_reset(std::string_view reason) {
  uint8_t old = status_;
  do {
    // Without FEATURES_OK the driver has reset the device meanwhile: the reason is gone.
    if ((old & status::kNeedsReset) != 0 || (old & status::kFeaturesOk) == 0) return;
  } while (!status_.compare_exchange_weak(old, old | status::kNeedsReset));
  // Once: a guest can break its device as often as it likes.
  if (!warned_.exchange(true))
    log::warning("{}: stopped until the guest resets it: {}", name_, reason);
  else
    log::debug("{}: stopped again: {}", name_, reason);
  device_->stopped();
  if ((old & status::kDriverOk) != 0) interrupt_configuration();
}

// --- Notifications ------------------------------------------------------------------------------

void VirtioTransport::notify(unsigned index) {
  if (index >= queues_.size() || !running()) return;
  trace_queue_notify("vdev {} n {}", name_, index);
  Virtqueue& ring = *queues_[index].ring;
  if (ring.enabled()) device_->queue_notified(index);
  if (ring.broken()) needs_reset(ring.broken_reason());
}

void VirtioTransport::configuration_changed() {
  ++generation_;
  if (running()) interrupt_configuration();
}

// --- Device configuration -----------------------------------------------------------------------

uint64_t VirtioTransport::read_device(uint64_t offset, unsigned size) {
  uint64_t value = 0;
  const size_t end = device_->configuration_size();
  if (offset < end) {
    const size_t count = std::min<size_t>(size, end - offset);
    device_->read_configuration(offset, std::as_writable_bytes(std::span(&value, 1)).first(count));
  }
  return value;
}

void VirtioTransport::write_device(uint64_t offset, unsigned size, uint64_t value) {
  if (offset >= device_->configuration_size() || size > device_->configuration_size() - offset)
    return;
  device_->write_configuration(offset, std::as_bytes(std::span(&value, 1)).first(size));
}

}  // namespace limen::virtio
