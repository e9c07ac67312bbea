// A virtio device on PCI, modern interface only (virtio 1.2 §4.1).
//
// BAR 1: MSI-X table and pending bits. BAR 4 (64-bit, prefetchable, 16 KiB): common configuration
// at 0, ISR status at 1000h, device configuration at 2000h, notification at 3000h with 4 bytes a
// queue.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "pci/pci_function.h"
#include "virtio/virtio_transport.h"

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

class VirtioPci final : public pci::PciFunction, public VirtioTransport, private memory::IoHandler {
 public:
  /// `memory` outlives the function.
  VirtioPci(const VirtioPciProperties& properties, std::unique_ptr<VirtioDevice> device,
            memory::GuestMemory& memory);
  ~VirtioPci() override;

  void reset() override;
  void interrupt_queue(unsigned index) override;
  void connect_interrupt(unsigned index, int event,
                         const std::function<void(bool)>& changed) override;
  void disconnect_interrupt(unsigned index) override;

 protected:
  void config_written(uint16_t offset, unsigned size) override;
  std::optional<uint32_t> config_read_hook(uint16_t offset, unsigned size) override;

 private:
  /// What the driver asked of the window in VIRTIO_PCI_CAP_PCI_CFG.
  struct WindowAccess {
    uint32_t offset = 0;
    uint32_t length = 0;
  };

  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;
  [[nodiscard]] std::span<const memory::Doorbell> doorbells() const override {
    return notifications();
  }
  [[nodiscard]] memory::Doorbell notification_of(unsigned index) const override;
  void interrupt_configuration() override;
  void reset_notifications() override;

  void add_capabilities();
  [[nodiscard]] std::optional<WindowAccess> window_access(uint16_t offset, unsigned size) const;
  uint64_t read_common_locked(uint64_t offset, unsigned size);
  uint32_t common_word_locked(uint64_t offset);
  void write_common(uint64_t offset, unsigned size, uint64_t value);
  // Returns why the device must stop; empty: it need not.
  std::string write_field_locked(uint64_t offset, unsigned size, uint32_t value);
  void raise(uint16_t vector, uint8_t isr_bit);
  /// The driver chose another vector for a queue.
  void vector_changed(unsigned index);
  void connect_event_locked(unsigned index);
  uint8_t take_isr();

  const unsigned register_bar_;
  uint16_t pci_cfg_capability_ = 0;
  std::vector<std::atomic<uint16_t>> queue_vectors_;
  std::atomic<uint16_t> config_vector_ = 0xFFFF;

  /// The interrupts of a queue that somebody else serves.
  struct InterruptEvent {
    int event = -1;
    std::function<void(bool)> changed;
  };
  std::mutex events_mutex_;
  std::map<unsigned, InterruptEvent> events_;  // guarded by events_mutex_; by queue

  std::mutex isr_mutex_;
  uint8_t isr_ = 0;  // guarded by isr_mutex_
};

}  // namespace limen::virtio
