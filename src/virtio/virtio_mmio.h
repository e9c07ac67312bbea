// A virtio device's registers in memory, and a line of the interrupt controller (virtio 1.2 §4.2):
// for boards without PCI. Version 2 of the interface only.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "device/device.h"
#include "irq/interrupt_line.h"
#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "virtio/virtio_transport.h"

namespace limen::virtio {

class VirtioMmio final : public device::Device, public VirtioTransport, private memory::IoHandler {
 public:
  /// Bytes of a device's registers.
  static constexpr uint64_t kSize = 0x200;

  /// `memory` and `mmio` outlive the device. `base`: where the registers stand.
  VirtioMmio(std::string name, std::unique_ptr<VirtioDevice> device, memory::GuestMemory& memory,
             memory::IoSpace& mmio, uint64_t base, irq::InterruptLine line);
  ~VirtioMmio() override;

  void reset() override { reset_device(); }
  void interrupt_queue(unsigned index) override;
  Result<> take_doorbells(EventLoop& main) override;

 private:
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;
  [[nodiscard]] std::span<const memory::Doorbell> doorbells() const override {
    return notifications();
  }
  [[nodiscard]] memory::Doorbell notification_of(unsigned index) const override;
  void interrupt_configuration() override;
  void reset_notifications() override;

  uint32_t read_register_locked(uint64_t offset);
  std::string write_register_locked(uint64_t offset, uint32_t value);
  void raise(uint32_t bit);
  void acknowledge(uint32_t bits);

  const std::string name_;
  memory::IoSpace& mmio_;
  const uint64_t base_;
  std::mutex interrupt_mutex_;
  irq::InterruptLine line_;        // guarded by interrupt_mutex_
  uint32_t interrupt_status_ = 0;  // guarded by interrupt_mutex_
};

}  // namespace limen::virtio
