#include "virtio/virtio_pci.h"

#include <utility>

#include "base/trace.h"

namespace limen::virtio {

namespace {

trace::Event trace_notify("virtio_notify");

constexpr unsigned kMsixBar = 1, kRegisterBar = 4;
constexpr unsigned kVgaMemoryBar = 0, kVgaMsixBar = 4, kVgaRegisterBar = 2;
constexpr uint64_t kRegionBytes = 0x1000, kRegisterBarBytes = 0x4000;
enum Region : uint64_t { kCommon = 0, kIsr = 1, kDevice = 2, kNotify = 3 };  // pages of the BAR
constexpr uint32_t kNotifyMultiplier = 4;

constexpr uint16_t kNoVector = 0xFFFF;
constexpr uint8_t kIsrQueue = 1, kIsrConfiguration = 2;

/// struct virtio_pci_cap (virtio 1.2 §4.1.4).
constexpr uint8_t kVendorCapability = 0x09, kCapabilityBytes = 16;
enum CapabilityType : uint8_t {
  kCapCommon = 1,
  kCapNotify = 2,
  kCapIsr = 3,
  kCapDevice = 4,
  kCapPci = 5
};
constexpr uint16_t kCapBar = 4, kCapOffset = 8, kCapLength = 12, kCapExtra = 16;

/// Offsets in struct virtio_pci_common_cfg (§4.1.4.3).
enum CommonField : uint64_t {
  kDeviceFeatureSelect = 0x00,
  kDeviceFeature = 0x04,
  kDriverFeatureSelect = 0x08,
  kDriverFeature = 0x0C,
  kConfigVector = 0x10,
  kNumQueues = 0x12,
  kDeviceStatus = 0x14,
  kConfigGeneration = 0x15,
  kQueueSelect = 0x16,
  kQueueSize = 0x18,
  kQueueVector = 0x1A,
  kQueueEnable = 0x1C,
  kQueueNotifyOff = 0x1E,
  kQueueDescriptors = 0x20,
  kQueueDriver = 0x28,
  kQueueDevice = 0x30,
  kCommonEnd = 0x38,
};

pci::PciFunction::Identity identity(const VirtioDevice& device) {
  return {.vendor = 0x1AF4,
          .device = static_cast<uint16_t>(0x1040 + static_cast<uint16_t>(device.type())),
          .revision = 1,
          .class_code = device.pci_class(),
          .subsystem_vendor = 0x1AF4,
          .subsystem = 0x1100};
}

}  // namespace

VirtioPci::VirtioPci(const VirtioPciProperties& properties, std::unique_ptr<VirtioDevice> device,
                     memory::GuestMemory& memory)
    : PciFunction(properties.name, identity(*device)),
      VirtioTransport(properties.name, std::move(device), memory),
      register_bar_(properties.video_memory.empty() ? kRegisterBar : kVgaRegisterBar),
      queue_vectors_(queues_.size()) {
  for (auto& vector : queue_vectors_) vector = kNoVector;
  const bool vga = !properties.video_memory.empty();
  if (vga)
    set_bar(kVgaMemoryBar, {.kind = pci::BarKind::kMemory32,
                            .prefetchable = true,
                            .size = properties.video_memory.size(),
                            .ram = properties.video_memory});
  add_msix(vga ? kVgaMsixBar : kMsixBar,
           properties.vectors != 0 ? properties.vectors : this->device().queue_count() + 1);
  set_bar(register_bar_, {.kind = pci::BarKind::kMemory64,
                          .prefetchable = true,
                          .size = kRegisterBarBytes,
                          .handler = this});
  add_capabilities();
  set_interrupt_pin(1);
  this->device().connect(*this);
}

VirtioPci::~VirtioPci() {
  PciFunction::reset();  // unmaps, and with that gives back the doorbells while there are events
  end_device();
}

memory::Doorbell VirtioPci::notification_of(unsigned index) const {
  // The driver writes the queue's index, 16 bits wide (§4.1.4.4); each queue has its own address.
  return {.offset = kNotify * kRegionBytes + uint64_t{index} * kNotifyMultiplier, .size = 2};
}

void VirtioPci::add_capabilities() {
  const auto add = [this](CapabilityType type, Region region, uint32_t length, uint8_t size) {
    const uint16_t at = add_capability(kVendorCapability, size);
    set_register(static_cast<uint16_t>(at + 2), 2, uint32_t{type} << 8 | size);
    set_register(static_cast<uint16_t>(at + kCapBar), 1, register_bar_);
    set_register(static_cast<uint16_t>(at + kCapOffset), 4,
                 static_cast<uint32_t>(region * kRegionBytes));
    set_register(static_cast<uint16_t>(at + kCapLength), 4, length);
    return at;
  };
  add(kCapCommon, kCommon, kRegionBytes, kCapabilityBytes);
  add(kCapIsr, kIsr, kRegionBytes, kCapabilityBytes);
  if (device().configuration_size() != 0) add(kCapDevice, kDevice, kRegionBytes, kCapabilityBytes);
  const uint16_t notify = add(kCapNotify, kNotify, kRegionBytes, kCapabilityBytes + 4);
  set_register(static_cast<uint16_t>(notify + kCapExtra), 4, kNotifyMultiplier);
  // The window of §4.1.4.9: bar, offset, length and data are the driver's to write.
  pci_cfg_capability_ = add(kCapPci, kCommon, 0, kCapabilityBytes + 4);
  set_register(static_cast<uint16_t>(pci_cfg_capability_ + kCapBar), 1, 0);
  set_register_writable(static_cast<uint16_t>(pci_cfg_capability_ + kCapBar), 1, 0xFF);
  for (const uint16_t field : {kCapOffset, kCapLength, kCapExtra})
    set_register_writable(static_cast<uint16_t>(pci_cfg_capability_ + field), 4, 0xFFFF'FFFF);
}

// --- The window into the BAR through configuration space ----------------------------------------

std::optional<VirtioPci::WindowAccess> VirtioPci::window_access(uint16_t offset,
                                                                unsigned size) const {
  const unsigned data = pci_cfg_capability_ + kCapExtra;
  if (offset >= data + 4 || offset + size <= data) return std::nullopt;
  const auto field = [this](uint16_t at, unsigned bytes) {
    return register_value(static_cast<uint16_t>(pci_cfg_capability_ + at), bytes);
  };
  const WindowAccess access{field(kCapOffset, 4), field(kCapLength, 4)};
  if (field(kCapBar, 1) != register_bar_) return std::nullopt;
  if (access.length != 1 && access.length != 2 && access.length != 4) return std::nullopt;
  if (access.offset % access.length != 0 || access.offset >= kRegisterBarBytes) return std::nullopt;
  return access;
}

std::optional<uint32_t> VirtioPci::config_read_hook(uint16_t offset, unsigned size) {
  if (const auto access = window_access(offset, size))
    set_register(static_cast<uint16_t>(pci_cfg_capability_ + kCapExtra), 4,
                 static_cast<uint32_t>(io_read(access->offset, access->length)));
  return std::nullopt;
}

void VirtioPci::config_written(uint16_t offset, unsigned size) {
  // Who takes bus mastering away, as Linux does before it starts another kernel, wants memory left
  // alone from then on. A driver that goes on begins with a reset anyway.
  if (offset <= pci::reg::kCommand && offset + size > pci::reg::kCommand && !bus_master() &&
      (status_ & status::kDriverOk) != 0)
    reset_device();
  if (const auto access = window_access(offset, size))
    io_write(
        access->offset, access->length,
        register_value(static_cast<uint16_t>(pci_cfg_capability_ + kCapExtra), access->length));
}

// --- BAR 4 --------------------------------------------------------------------------------------

uint64_t VirtioPci::io_read(uint64_t offset, unsigned size) {
  const uint64_t within = offset % kRegionBytes;
  switch (offset / kRegionBytes) {
    case kCommon: {
      const std::lock_guard lock(mutex_);
      return read_common_locked(within, size);
    }
    case kIsr:
      return within == 0 ? take_isr() : 0;
    case kDevice:
      return read_device(within, size);
    default:
      return 0;
  }
}

void VirtioPci::io_write(uint64_t offset, unsigned size, uint64_t value) {
  const uint64_t within = offset % kRegionBytes;
  switch (offset / kRegionBytes) {
    case kCommon:
      write_common(within, size, value);
      break;
    case kDevice:
      write_device(within, size, value);
      break;
    case kNotify:
      if (within % kNotifyMultiplier == 0)
        notify(static_cast<unsigned>(within / kNotifyMultiplier));
      break;
    default:
      break;
  }
}

uint64_t VirtioPci::read_common_locked(uint64_t offset, unsigned size) {
  // Reads have no effects, so any access is made of the aligned words that it touches.
  const uint64_t aligned = offset & ~uint64_t{3};
  const uint64_t both = common_word_locked(aligned) | uint64_t{common_word_locked(aligned + 4)}
                                                          << 32;
  const uint64_t value = both >> (8 * (offset - aligned));
  return size >= 8 ? value : value & ((uint64_t{1} << (8 * size)) - 1);
}

uint32_t VirtioPci::common_word_locked(uint64_t offset) {
  const auto pair = [](unsigned low, unsigned high) { return low | uint32_t{high} << 16; };
  const Queue* queue = selected_queue_locked();
  switch (offset) {
    case kDeviceFeatureSelect:
      return device_feature_select_;
    case kDeviceFeature:
      return offered_word_locked();
    case kDriverFeatureSelect:
      return driver_feature_select_;
    case kDriverFeature:
      return driver_word_locked();
    case kConfigVector:  // and num_queues
      return pair(config_vector_, static_cast<unsigned>(queues_.size()));
    case kDeviceStatus:  // and config_generation, queue_select
      return pair(status_ | unsigned{generation_} << 8, queue_select_);
    case kQueueSize:  // and queue_msix_vector
      return queue != nullptr ? pair(queue->size, queue_vectors_[queue_select_])
                              : pair(0, kNoVector);
    case kQueueEnable:  // and queue_notify_off
      return queue != nullptr ? pair(queue->enabled, queue_select_) : 0;
    case kQueueDescriptors:
    case kQueueDescriptors + 4:
    case kQueueDriver:
    case kQueueDriver + 4:
    case kQueueDevice:
    case kQueueDevice + 4: {
      if (queue == nullptr) return 0;
      const uint64_t address = offset < kQueueDriver   ? queue->descriptors
                               : offset < kQueueDevice ? queue->driver_area
                                                       : queue->device_area;
      return static_cast<uint32_t>(address >> (offset % 8 * 8));
    }
    default:
      return 0;
  }
}

void VirtioPci::write_common(uint64_t offset, unsigned size, uint64_t value) {
  if (offset == kDeviceStatus && size == 1) return write_status(static_cast<uint8_t>(value));
  std::string refused;
  unsigned selected = 0;
  {
    const std::lock_guard lock(mutex_);
    selected = queue_select_;
    refused = write_field_locked(offset, size, static_cast<uint32_t>(value));
    if (size == 8 && refused.empty() && offset >= kQueueDescriptors)
      refused = write_field_locked(offset + 4, 4, static_cast<uint32_t>(value >> 32));
  }
  if (!refused.empty()) needs_reset(refused);
  if (offset == kQueueVector) vector_changed(selected);
}

std::string VirtioPci::write_field_locked(uint64_t offset, unsigned size, uint32_t value) {
  // Fields take writes of their own width; 64-bit ones also half by half (§4.1.3.1).
  const bool in_addresses = offset >= kQueueDescriptors && offset < kCommonEnd;
  const bool word = offset < kConfigVector || in_addresses;
  if (word ? size < 4 || offset % 4 != 0 : size != 2) return {};
  Queue* queue = selected_queue_locked();
  const auto vector = [&] {
    return static_cast<uint16_t>(value < msix()->vectors() ? value : kNoVector);
  };
  switch (offset) {
    case kDeviceFeatureSelect:
      device_feature_select_ = value;
      return {};
    case kDriverFeatureSelect:
      driver_feature_select_ = value;
      return {};
    case kDriverFeature:
      write_driver_word_locked(value);
      return {};
    case kConfigVector:
      config_vector_ = vector();
      return {};
    case kQueueSelect:
      queue_select_ = static_cast<uint16_t>(value);
      return {};
    default:
      break;
  }
  if (queue == nullptr) return {};
  if (offset == kQueueVector) {
    queue_vectors_[queue_select_] = vector();
    return {};
  }
  if (queue->enabled) return {};  // the rest is fixed until reset
  if (offset == kQueueSize) {
    queue->size = static_cast<uint16_t>(value);
  } else if (offset == kQueueEnable && value == 1) {
    return enable_queue_locked(*queue);
  } else if (in_addresses) {
    uint64_t& address = offset < kQueueDriver   ? queue->descriptors
                        : offset < kQueueDevice ? queue->driver_area
                                                : queue->device_area;
    set_half(address, offset % 8 == 4, value);
  }
  return {};
}

// --- Notifications ------------------------------------------------------------------------------

void VirtioPci::reset() {
  reset_device();
  PciFunction::reset();
}

void VirtioPci::reset_notifications() {
  for (auto& vector : queue_vectors_) vector = kNoVector;
  config_vector_ = kNoVector;
  take_isr();
}

void VirtioPci::interrupt_queue(unsigned index) {
  trace_notify("vdev {} vq {}", name(), index);
  raise(queue_vectors_[index], kIsrQueue);
}

void VirtioPci::connect_interrupt(unsigned index, int event,
                                  const std::function<void(bool)>& changed) {
  const std::lock_guard lock(events_mutex_);
  events_[index] = {event, changed};
  connect_event_locked(index);
}

void VirtioPci::disconnect_interrupt(unsigned index) {
  const std::lock_guard lock(events_mutex_);
  if (const auto found = events_.find(index); found != events_.end()) {
    msix()->disconnect_event(found->second.event);
    events_.erase(found);
  }
}

void VirtioPci::connect_event_locked(unsigned index) {
  const InterruptEvent& interrupt = events_.at(index);
  if (const uint16_t vector = queue_vectors_[index]; vector != kNoVector)
    msix()->connect_event(interrupt.event, vector, interrupt.changed);
}

void VirtioPci::vector_changed(unsigned index) {
  const std::lock_guard lock(events_mutex_);
  const auto found = events_.find(index);
  if (found == events_.end()) return;
  msix()->disconnect_event(found->second.event);
  found->second.changed(false);
  connect_event_locked(index);
}

void VirtioPci::interrupt_configuration() { raise(config_vector_, kIsrConfiguration); }

void VirtioPci::raise(uint16_t vector, uint8_t isr_bit) {
  if (msix()->enabled()) {
    if (vector != kNoVector) msix()->notify(vector);
    return;
  }
  {
    const std::lock_guard lock(isr_mutex_);
    isr_ = static_cast<uint8_t>(isr_ | isr_bit);
    record_intx(true);
  }
  deliver_intx();
}

uint8_t VirtioPci::take_isr() {
  uint8_t isr = 0;
  {
    const std::lock_guard lock(isr_mutex_);
    isr = std::exchange(isr_, uint8_t{0});
    record_intx(false);
  }
  deliver_intx();
  return isr;
}

}  // namespace limen::virtio
