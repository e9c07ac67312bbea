#include "virtio/virtio_mmio.h"

#include <utility>

namespace limen::virtio {
namespace {

constexpr uint32_t kMagic = 0x7472'6976;   // "virt"
constexpr uint32_t kVendor = 0x554D'4551;  // "QEMU"
constexpr uint32_t kVersion = 2;
constexpr uint32_t kUsedBuffer = 1, kConfigurationChange = 2;

/// Offsets (§4.2.2).
enum Register : uint64_t {
  kMagicValue = 0x000,
  kVersionNumber = 0x004,
  kDeviceId = 0x008,
  kVendorId = 0x00C,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSel = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSel = 0x024,
  kQueueSel = 0x030,
  kQueueNumMax = 0x034,
  kQueueNum = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = 0x050,
  kInterruptStatus = 0x060,
  kInterruptAcknowledge = 0x064,
  kStatus = 0x070,
  kQueueDescriptors = 0x080,
  kQueueDriver = 0x090,
  kQueueDevice = 0x0A0,
  kSharedMemoryLength = 0x0B0,
  kSharedMemoryBase = 0x0B8,
  kConfigGeneration = 0x0FC,
  kConfiguration = 0x100,
};

}  // namespace

VirtioMmio::VirtioMmio(std::string name, std::unique_ptr<VirtioDevice> device,
                       memory::GuestMemory& memory, memory::IoSpace& mmio, uint64_t base,
                       irq::InterruptLine line)
    : VirtioTransport(name, std::move(device), memory),
      name_(std::move(name)),
      mmio_(mmio),
      base_(base),
      line_(line) {
  mmio_.claim(base_, kSize, *this, name_);
  this->device().connect(*this);
}

Result<> VirtioMmio::take_doorbells(EventLoop& main) {
  mmio_.release(base_, *this);
  auto taken = VirtioTransport::take_doorbells(main);
  mmio_.claim(base_, kSize, *this, name_);
  return taken;
}

VirtioMmio::~VirtioMmio() {
  mmio_.release(base_, *this);  // and with it the doorbells, while there are events behind them
  end_device();
}

memory::Doorbell VirtioMmio::notification_of(unsigned index) const {
  return {.offset = kQueueNotify, .size = 4, .value = index};
}

uint64_t VirtioMmio::io_read(uint64_t offset, unsigned size) {
  if (offset >= kConfiguration) return read_device(offset - kConfiguration, size);
  // Registers are 32 bits wide and take no other access.
  if (size != 4 || offset % 4 != 0) return 0;
  if (offset == kInterruptStatus) {
    const std::lock_guard lock(interrupt_mutex_);
    return interrupt_status_;
  }
  const std::lock_guard lock(mutex_);
  return read_register_locked(offset);
}

uint32_t VirtioMmio::read_register_locked(uint64_t offset) {
  const Queue* queue = selected_queue_locked();
  switch (offset) {
    case kMagicValue:
      return kMagic;
    case kVersionNumber:
      return kVersion;
    case kDeviceId:
      return static_cast<uint32_t>(device().type());
    case kVendorId:
      return kVendor;
    case kDeviceFeatures:
      return offered_word_locked();
    case kQueueNumMax:
      return queue != nullptr ? device().queue_size(queue_select_) : 0;
    case kQueueReady:
      return queue != nullptr && queue->enabled ? 1 : 0;
    case kStatus:
      return status_;
    case kSharedMemoryLength:
    case kSharedMemoryLength + 4:
    case kSharedMemoryBase:
    case kSharedMemoryBase + 4:
      return UINT32_MAX;  // there is no such region
    case kConfigGeneration:
      return generation_;
    default:
      return 0;
  }
}

void VirtioMmio::io_write(uint64_t offset, unsigned size, uint64_t value) {
  if (offset >= kConfiguration) return write_device(offset - kConfiguration, size, value);
  if (size != 4 || offset % 4 != 0) return;
  const auto word = static_cast<uint32_t>(value);
  switch (offset) {
    case kStatus:
      return write_status(static_cast<uint8_t>(word));
    case kQueueNotify:
      return notify(word);
    case kInterruptAcknowledge:
      return acknowledge(word);
    default:
      break;
  }
  std::string refused;
  {
    const std::lock_guard lock(mutex_);
    refused = write_register_locked(offset, word);
  }
  if (!refused.empty()) needs_reset(refused);
  if (offset == kQueueReady && word == 0) device().stopped();
}

std::string VirtioMmio::write_register_locked(uint64_t offset, uint32_t value) {
  switch (offset) {
    case kDeviceFeaturesSel:
      device_feature_select_ = value;
      return {};
    case kDriverFeaturesSel:
      driver_feature_select_ = value;
      return {};
    case kDriverFeatures:
      write_driver_word_locked(value);
      return {};
    case kQueueSel:
      queue_select_ = static_cast<uint16_t>(value);
      return {};
    default:
      break;
  }
  Queue* queue = selected_queue_locked();
  if (queue == nullptr) return {};
  if (offset == kQueueReady) {
    if (value != 0) return queue->enabled ? std::string() : enable_queue_locked(*queue);
    queue->ring->disable();
    queue->enabled = false;
    return {};
  }
  if (queue->enabled) return {};  // the rest is fixed while it is ready
  switch (offset) {
    case kQueueNum:
      queue->size = static_cast<uint16_t>(value);
      return {};
    case kQueueDescriptors:
    case kQueueDescriptors + 4:
      set_half(queue->descriptors, offset != kQueueDescriptors, value);
      return {};
    case kQueueDriver:
    case kQueueDriver + 4:
      set_half(queue->driver_area, offset != kQueueDriver, value);
      return {};
    case kQueueDevice:
    case kQueueDevice + 4:
      set_half(queue->device_area, offset != kQueueDevice, value);
      return {};
    default:
      return {};
  }
}

// --- Notifications ------------------------------------------------------------------------------

void VirtioMmio::interrupt_queue(unsigned /*index*/) { raise(kUsedBuffer); }

void VirtioMmio::interrupt_configuration() { raise(kConfigurationChange); }

void VirtioMmio::raise(uint32_t bit) {
  const std::lock_guard lock(interrupt_mutex_);
  interrupt_status_ |= bit;
  line_.set(true);
}

void VirtioMmio::acknowledge(uint32_t bits) {
  const std::lock_guard lock(interrupt_mutex_);
  interrupt_status_ &= ~bits;
  // What is left is an edge of its own, for controllers that look at edges.
  line_.set(false);
  if (interrupt_status_ != 0) line_.set(true);
}

void VirtioMmio::reset_notifications() { acknowledge(UINT32_MAX); }

}  // namespace limen::virtio
