// A virtio device on PCI, modern interface only (virtio 1.2 §4.1).
//
// BAR 1: MSI-X table and pending bits. BAR 4 (64-bit, prefetchable, 16 KiB): common configuration
// at 0, ISR status at 1000h, device configuration at 2000h, notification at 3000h with 4 bytes a
// queue.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "memory/guest_memory.h"
#include "pci/pci_function.h"
#include "virtio/virtio_device.h"

namespace limen::virtio {

/// What the user of a virtio device may say of its PCI side.
struct VirtioPciProperties {
  std::string name;  ///< For messages: "virtio-blk-pci" or the user's id.
  unsigned vectors =
      0;  ///< MSI-X vectors; 0: one for each queue and one for configuration changes.
  /// virtio-vga: memory for BAR 0, where a VGA has it; the registers are then behind BAR 2 and
  /// MSI-X behind BAR 4.
  std::span<std::byte> video_memory = {};
};

class VirtioPci final : public pci::PciFunction, public Transport, private memory::IoHandler {
 public:
  /// `memory` outlives the function.
  VirtioPci(const VirtioPciProperties& properties, std::unique_ptr<VirtioDevice> device,
            memory::GuestMemory& memory);
  ~VirtioPci() override;

  [[nodiscard]] VirtioDevice& device() { return *device_; }

  void reset() override;

  // Transport:
  Virtqueue& queue(unsigned index) override { return *queues_[index].ring; }
  [[nodiscard]] uint64_t negotiated_features() const override;
  [[nodiscard]] bool running() const override;
  void interrupt_queue(unsigned index) override;
  void configuration_changed() override;
  void needs_reset(std::string_view reason) override;

 protected:
  void config_written(uint16_t offset, unsigned size) override;
  std::optional<uint32_t> config_read_hook(uint16_t offset, unsigned size) override;

 private:
  struct Queue {
    std::unique_ptr<Virtqueue> ring;
    uint16_t size = 0;
    bool enabled = false;
    std::atomic<uint16_t> vector{0xFFFF};
    uint64_t descriptors = 0;
    uint64_t driver_area = 0;
    uint64_t device_area = 0;
    Queue() = default;
    Queue(Queue&& other) noexcept : ring(std::move(other.ring)), size(other.size) {}
  };

  /// What the driver asked of the window in VIRTIO_PCI_CAP_PCI_CFG.
  struct WindowAccess {
    uint32_t offset = 0;
    uint32_t length = 0;
  };

  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

  void add_capabilities();
  [[nodiscard]] std::optional<WindowAccess> window_access(uint16_t offset, unsigned size) const;
  uint64_t read_common_locked(uint64_t offset, unsigned size);
  uint32_t common_word_locked(uint64_t offset);
  void write_common(uint64_t offset, unsigned size, uint64_t value);
  // These return why the device must stop; empty: it need not.
  std::string write_field_locked(uint64_t offset, unsigned size, uint32_t value);
  std::string enable_queue_locked(Queue& queue);
  uint64_t read_device(uint64_t offset, unsigned size);
  void write_device(uint64_t offset, unsigned size, uint64_t value);
  void write_status(uint8_t value);
  void reset_device();
  void reset_locked();
  void notify(unsigned index);
  void raise(uint16_t vector, uint8_t isr_bit);
  uint8_t take_isr();
  [[nodiscard]] uint64_t offered_features() const;

  std::unique_ptr<VirtioDevice> device_;
  const unsigned register_bar_;
  uint16_t pci_cfg_capability_ = 0;

  std::atomic<bool> warned_ = false;
  std::atomic<uint8_t> status_ = 0;
  std::atomic<uint8_t> generation_ = 0;
  std::atomic<uint64_t> driver_features_ = 0;
  std::atomic<uint16_t> config_vector_ = 0xFFFF;

  std::mutex isr_mutex_;
  uint8_t isr_ = 0;  // guarded by isr_mutex_

  std::mutex reset_mutex_;  // held through a reset, which may wait for requests under way
  std::mutex mutex_;        // taken after reset_mutex_
  uint32_t device_feature_select_ = 0;  // guarded by mutex_
  uint32_t driver_feature_select_ = 0;  // guarded by mutex_
  uint16_t queue_select_ = 0;           // guarded by mutex_
  std::vector<Queue> queues_;           // setup guarded by mutex_; the rings guard themselves
};

}  // namespace limen::virtio
