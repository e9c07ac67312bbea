// KVM's paravirtual clock and steal time: what the engine writes into pages of the guest's.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/unique_fd.h"
#include "memory/guest_memory.h"
#include "x86/cpu_state.h"
#include "x86/kvm_paravirtual.h"

namespace limen::soft {

struct Cpu;

/// Nanoseconds that the calling thread could have run in and did not, as the kernel's scheduler
/// counts them; 0 where it does not say.
class RunDelay {
 public:
  [[nodiscard]] uint64_t operator()();

 private:
  UniqueFd file_;
};

/// The pages are guest-controlled: they are reached by GuestMemory::span() alone, and nothing that
/// stands in them is believed but the version that goes on counting.
class Paravirtual {
 public:
  /// What `run_delay` gives is the steal time; tests put one of their own in.
  explicit Paravirtual(std::move_only_function<uint64_t()> run_delay = RunDelay());

  /// Whether RDMSR and WRMSR of that register come here.
  [[nodiscard]] static bool is_register(uint32_t index);
  /// False: #GP(0). The processor has no such register, or the value is not one that it takes.
  [[nodiscard]] bool read(const Cpu& cpu, uint32_t index, uint64_t& value) const;
  [[nodiscard]] bool write(Cpu& cpu, uint32_t index, uint64_t value);

  /// To be called after the registers in SystemState or the guest's TSC were changed otherwise.
  void registers_changed(Cpu& cpu);
  void tsc_changed(Cpu& cpu) { write_system_time(cpu, false); }

  /// Brings the steal time up to date every few milliseconds. To be called by the processor's
  /// thread when it has been away from the guest's code.
  void looked_up(Cpu& cpu, uint64_t host_tsc) {
    if (host_tsc >= next_look_) [[unlikely]]
      update_steal_time(cpu, host_tsc);
  }
  /// The processor stood still for so long that a watchdog of the guest's may bark: says so to it.
  void note_stopped(Cpu& cpu) { write_system_time(cpu, true); }

 private:
  void write_system_time(Cpu& cpu, bool stopped);
  void update_steal_time(Cpu& cpu, uint64_t host_tsc);

  std::move_only_function<uint64_t()> run_delay_;
  uint64_t run_delay_seen_ = 0;
  uint64_t next_look_ = UINT64_MAX;
  bool baseline_wanted_ = false;  // run_delay_seen_ is to be read by the processor's thread
};

}  // namespace limen::soft
