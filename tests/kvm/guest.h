// A small machine under the kernel's hypervisor: 8 MiB of RAM, one processor, ports and a device in
// memory that keep what they are given.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>
#include <span>
#include <vector>

#include "kvm/kvm_accelerator.h"
#include "kvm/kvm_test.h"
#include "kvm/vcpu.h"
#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "vcpu/accelerator.h"

namespace limen::kvm {

/// A local interrupt controller whose interrupts and events a test queues. Thread-safe.
class QueuedInterrupts final : public vcpu::LocalInterruptController {
 public:
  void add(uint8_t vector) {
    const std::lock_guard lock(mutex_);
    vectors_.push_back(vector);
  }
  void add(EventRequest event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
  }
  bool has_interrupt() override {
    const std::lock_guard lock(mutex_);
    return !vectors_.empty();
  }
  std::optional<uint8_t> acknowledge() override;
  EventRequest take_event() override;
  uint8_t task_priority() override { return priority_; }
  void set_task_priority(uint8_t priority) override { priority_ = priority; }
  bool read_msr(uint32_t index, uint64_t& value) override;
  bool write_msr(uint32_t, uint64_t) override { return true; }
  uint64_t next_timer_tsc() override { return deadline; }
  void timer_due(uint64_t) override;

  std::atomic<uint64_t> deadline = UINT64_MAX;  ///< At which vector 20H comes.
  std::atomic<bool> bootstrap = true;

 private:
  std::mutex mutex_;
  std::deque<uint8_t> vectors_;
  std::deque<EventRequest> events_;
  std::atomic<uint8_t> priority_ = 0;
};

/// Keeps writes and answers reads with 5A in every byte.
struct Recorder final : memory::IoHandler {
  struct Write {
    uint64_t offset = 0;
    unsigned size = 0;
    uint64_t value = 0;
    bool operator==(const Write&) const = default;
  };
  uint64_t io_read(uint64_t, unsigned size) override {
    return 0x5A5A'5A5A'5A5A'5A5A >> (64 - 8 * size);
  }
  void io_write(uint64_t offset, unsigned size, uint64_t value) override {
    {
      const std::lock_guard lock(mutex);
      writes.push_back({offset, size, value});
    }
    if (on_write) on_write(writes.back());
  }

  std::mutex mutex;
  std::vector<Write> writes;
  std::function<void(const Write&)> on_write;
};

inline void PrintTo(const Recorder::Write& write, std::ostream* out) {
  *out << fmt::format("{} bytes at {:#x}: {:#x}", write.size, write.offset, write.value);
}

class KvmGuest : public KvmTest {
 protected:
  explicit KvmGuest(KvmOptions options = {.irqchip = IrqChip::kOff}) : options_(options) {}

  static constexpr uint64_t kRam = 8 << 20, kCode = 0x1000, kDevice = 0xF000'0000;

  void SetUp() override;

  void put(uint64_t address, std::span<const std::byte> bytes) {
    ASSERT_TRUE(memory_->write({address}, bytes));
  }
  void put(uint64_t address, std::initializer_list<uint8_t> bytes) {
    put(address, std::as_bytes(std::span(bytes.begin(), bytes.size())));
  }
  /// A processor in real mode at 0:1000H, or one that waits for a start-up IPI.
  std::unique_ptr<vcpu::Vcpu> make_vcpu(unsigned index, QueuedInterrupts& interrupts);
  static x86::CpuState real_mode_at(uint64_t address);
  /// Flat 64-bit code at kCode with pages of its own at 10000H, all of RAM.
  x86::CpuState long_mode();
  /// Runs until something other than a kick comes back, at most `seconds` long.
  vcpu::Exit run(vcpu::Vcpu& vcpu, double seconds = 10);
  vcpu::Exit run() { return run(*vcpu_); }

  const KvmOptions options_;
  std::unique_ptr<memory::GuestMemory> memory_;
  memory::IoSpace ports_{"ports"}, mmio_{"memory"};
  Recorder port_writes_, low_device_, high_device_;
  std::unique_ptr<vcpu::Accelerator> accelerator_;
  std::unique_ptr<vcpu::Vm> vm_;
  QueuedInterrupts interrupts_;
  std::unique_ptr<vcpu::Vcpu> vcpu_;
};

}  // namespace limen::kvm
