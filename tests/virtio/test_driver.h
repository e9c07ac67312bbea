// The guest's side: a driver that finds a virtio device on the bus, sets it up and plays its rings
// in guest memory, by the book or against it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "pci/pci_bus.h"
#include "virtio/virtio_pci.h"

namespace limen::virtio {

inline constexpr uint64_t kRamSize = 16 << 20;
inline constexpr uint64_t kRegisters = 0xC000'0000;  ///< BAR 4: the first that is assigned.

struct RecordingMsiSink final : irq::MsiSink {
  void send_msi(const irq::MsiMessage& message) override {
    const std::lock_guard lock(mutex);
    ++count[message.data % 256];
    changed.notify_all();
  }
  /// Waits until vector `data` was sent `wanted` times.
  void wait(uint32_t data, unsigned wanted) {
    std::unique_lock lock(mutex);
    EXPECT_TRUE(
        changed.wait_for(lock, std::chrono::seconds(20), [&] { return count[data] >= wanted; }))
        << "vector " << data << " came " << count[data] << " times, wanted " << wanted;
  }
  unsigned received(uint32_t data) {
    const std::lock_guard lock(mutex);
    return count[data];
  }
  std::mutex mutex;
  std::condition_variable changed;
  unsigned count[256] = {};
};

struct RecordingLine final : irq::InterruptSink {
  void set_line(unsigned, bool new_level) override { level = new_level; }
  std::atomic<bool> level = false;
};

/// A split ring as the driver sees it.
class DriverQueue {
 public:
  static constexpr uint16_t kNext = 1, kWrite = 2, kIndirect = 4;
  struct Descriptor {
    uint64_t address = 0;
    uint32_t length = 0;
    uint16_t flags = 0;
    uint16_t next = 0;
  };
  struct Used {
    uint32_t id = 0;
    uint32_t length = 0;
  };

  DriverQueue(memory::GuestMemory& memory, uint64_t rings, uint16_t entries)
      : memory_(&memory), size(entries), base(rings) {}

  [[nodiscard]] uint64_t available() const { return base + 16u * size; }
  [[nodiscard]] uint64_t used() const { return (available() + 6 + 2u * size + 3) & ~3ull; }

  void write_descriptor(uint64_t table, unsigned index, const Descriptor& descriptor) {
    put(table + 16 * index, descriptor);
  }
  /// Chains `parts` from descriptor `head` on, adding NEXT flags.
  void write_chain(unsigned head, std::vector<Descriptor> parts) {
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i + 1 < parts.size()) {
        parts[i].flags |= kNext;
        parts[i].next = static_cast<uint16_t>(head + i + 1);
      }
      write_descriptor(base, static_cast<unsigned>(head + i), parts[i]);
    }
  }
  void offer(uint16_t head) {
    put(available() + 4 + 2u * (next_available % size), head);
    set_available_index(++next_available);
  }
  void set_available_index(uint16_t index) { store(available() + 2, index); }
  void set_no_interrupt(bool no) { store(available(), no); }
  void set_used_event(uint16_t event) { store(available() + 4 + 2u * size, event); }
  uint16_t available_event() { return get<uint16_t>(used() + 4 + 8u * size); }
  uint16_t used_index() {
    return std::atomic_ref(*reinterpret_cast<uint16_t*>(memory_->span({used() + 2}, 2).data()))
        .load(std::memory_order_acquire);
  }
  Used used_entry(uint16_t index) { return get<Used>(used() + 4 + 8u * (index % size)); }

  template <typename T>
  void put(uint64_t address, const T& value) {
    std::memcpy(memory_->span({address}, sizeof value).data(), &value, sizeof value);
  }
  template <typename T>
  T get(uint64_t address) {
    T value;
    std::memcpy(&value, memory_->span({address}, sizeof value).data(), sizeof value);
    return value;
  }

 private:
  void store(uint64_t address, uint16_t value) {
    std::atomic_ref(*reinterpret_cast<uint16_t*>(memory_->span({address}, 2).data()))
        .store(value, std::memory_order_release);
  }

  memory::GuestMemory* memory_;

 public:
  uint16_t size;
  uint64_t base;
  uint16_t next_available = 0;
};

/// Fixture: a device on a bus.
class VirtioTest : public testing::Test {
 protected:
  VirtioTest() {
    const memory::GuestMemory::Layout layout{{0}, kRamSize};
    memory_ = *memory::GuestMemory::create(std::span(&layout, 1));
  }

  void plug(std::unique_ptr<VirtioDevice> device) {
    function_ = std::make_unique<VirtioPci>(VirtioPciProperties{"virtio-test", 0},
                                            std::move(device), *memory_);
    ASSERT_TRUE(bus_.attach(*function_));
    bus_.connect_interrupts(line_);
    assign();
  }
  void assign() {
    ASSERT_TRUE(pci::assign_resources(bus_, {kRegisters, 0x1000'0000}, {0xC000, 0x1000}));
    function_->config_write(
        pci::reg::kCommand, 2,
        function_->config_read(pci::reg::kCommand, 2) | pci::command::kBusMaster);
  }

  uint32_t common(uint64_t offset, unsigned size) {
    return static_cast<uint32_t>(mmio_.read(kRegisters + offset, size));
  }
  void set_common(uint64_t offset, unsigned size, uint64_t value) {
    mmio_.write(kRegisters + offset, size, value);
  }
  uint8_t status() { return static_cast<uint8_t>(common(0x14, 1)); }
  void set_status(uint8_t value) { set_common(0x14, 1, value); }
  uint8_t isr() { return static_cast<uint8_t>(mmio_.read(kRegisters + 0x1000, 1)); }
  uint64_t device_config(uint64_t offset, unsigned size) {
    return mmio_.read(kRegisters + 0x2000 + offset, size);
  }
  uint64_t offered() {
    set_common(0x00, 4, 1);
    const uint64_t high = common(0x04, 4);
    set_common(0x00, 4, 0);
    return high << 32 | common(0x04, 4);
  }

  /// Reset to FEATURES_OK with `features`; false: the device refused them.
  bool negotiate(uint64_t features) {
    set_status(0);
    set_status(status::kAcknowledge | status::kDriver);
    set_common(0x08, 4, 0);
    set_common(0x0C, 4, features & 0xFFFF'FFFF);
    set_common(0x08, 4, 1);
    set_common(0x0C, 4, features >> 32);
    set_status(status::kAcknowledge | status::kDriver | status::kFeaturesOk);
    return (status() & status::kFeaturesOk) != 0;
  }
  /// Zeroes and enables queue `index`; its MSI-X vector is index + 1.
  DriverQueue enable_queue(uint16_t index, uint16_t size) {
    DriverQueue queue(*memory_, 0x1'0000 + 0x1'0000ull * index, size);
    std::ranges::fill(memory_->span({queue.base}, 0x1'0000), std::byte{});
    set_common(0x16, 2, index);
    set_common(0x18, 2, size);
    set_common(0x1A, 2, index + 1u);
    set_address(0x20, queue.base);
    set_address(0x28, queue.available());
    set_address(0x30, queue.used());
    set_common(0x1C, 2, 1);
    return queue;
  }
  void set_address(uint64_t offset, uint64_t address) {
    set_common(offset, 4, address & 0xFFFF'FFFF);
    set_common(offset + 4, 4, address >> 32);
  }
  void driver_ok() {
    set_status(status::kAcknowledge | status::kDriver | status::kFeaturesOk | status::kDriverOk);
  }
  void kick(unsigned queue) { mmio_.write(kRegisters + 0x3000 + 4ull * queue, 2, queue); }

  /// Turns MSI-X on; vector n sends data n. Vector 0 is for configuration changes.
  void enable_msix() {
    const uint64_t table = *function_->bar_mapping(1);
    const uint32_t control = function_->config_read(0x42, 2);
    for (unsigned i = 0; i <= (control & 0x7FF); ++i) {
      mmio_.write(table + 16 * i, 8, 0xFEE0'0000);
      mmio_.write(table + 16 * i + 8, 8, i);
    }
    function_->config_write(0x42, 2, 0x8000);
    set_common(0x10, 2, 0);
  }

  memory::IoSpace ports_{"ports"};
  memory::IoSpace mmio_{"mmio"};
  RecordingMsiSink msi_;
  RecordingLine line_;
  pci::PciBus bus_{"pcie.0", {.ports = &ports_, .mmio = &mmio_, .msi = &msi_}};
  std::unique_ptr<memory::GuestMemory> memory_;
  std::unique_ptr<VirtioPci> function_;
};

}  // namespace limen::virtio
