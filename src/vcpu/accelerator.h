// The interfaces between a machine and whatever runs its instructions: Accelerator makes a Vm, a Vm
// makes Vcpus. kvm/ and soft/ implement them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "vcpu/debug.h"
#include "vcpu/interrupt_chips.h"
#include "vcpu/local_interrupt_controller.h"
#include "x86/address.h"
#include "x86/cpu_state.h"
#include "x86/cpuid.h"

namespace limen::vcpu {

/// Why Vcpu::run() came back.
enum class ExitReason {
  kInterrupted,    ///< kick() was called.
  kShutdown,       ///< Triple fault (SDM Vol. 3A 6.15, "Interrupt 8").
  kDebug,          ///< What set_debug() asked for; `debug` says what.
  kInternalError,  ///< The engine cannot go on; `detail` says why.
};

struct Exit {
  ExitReason reason = ExitReason::kInterrupted;
  std::string detail = {};
  DebugStop debug = {};
};

/// One virtual processor. All calls but kick() and interrupt() belong to the thread that runs it
/// (or to anyone while it does not run).
class Vcpu {
 public:
  virtual ~Vcpu() = default;

  /// Runs guest code until something outside must act. Port and memory-mapped I/O is sent to the
  /// machine's IoSpaces on this thread; HLT waits here for the next interrupt.
  virtual Exit run() = 0;

  /// Makes the current or the next run() return kInterrupted soon. Thread-safe.
  virtual void kick() = 0;

  /// Says that the local interrupt controller may have an interrupt to deliver; wakes a halted
  /// vCPU. Thread-safe.
  virtual void interrupt() = 0;

  [[nodiscard]] virtual x86::CpuState state() const = 0;
  virtual void set_state(const x86::CpuState& state) = 0;

  /// Asks for stops; an engine that cannot says so.
  virtual Result<> set_debug([[maybe_unused]] const DebugRequest& request) {
    return fail("this accelerator cannot be debugged");
  }
  /// Where the processor's page tables lead to now, whatever the rights; nothing: nowhere. Changes
  /// no state of the guest's.
  [[nodiscard]] virtual std::optional<GuestPhysicalAddress> translate(
      [[maybe_unused]] GuestLinearAddress address) const {
    return std::nullopt;
  }

  /// The last instructions that ran, one per line, oldest first: for a person who reads why the
  /// guest died. May be empty.
  [[nodiscard]] virtual std::string recent_instructions() { return {}; }
  /// What the engine counted, for a person. May be empty.
  [[nodiscard]] virtual std::string statistics() { return {}; }
};

/// What the vCPUs of one machine share. All outlive the Vm.
struct VmResources {
  memory::GuestMemory& ram;
  memory::IoSpace& ports;
  memory::IoSpace& mmio;
};

class Vm {
 public:
  virtual ~Vm() = default;
  /// `interrupts` outlives the Vcpu.
  virtual Result<std::unique_ptr<Vcpu>> create_vcpu(unsigned index, const x86::CpuidTable& cpuid,
                                                    LocalInterruptController& interrupts) = 0;
  /// Has it note which pages processors write from now on, or no longer.
  virtual Result<> log_writes([[maybe_unused]] bool on) {
    return fail("this accelerator cannot log writes");
  }
  /// The pages that processors wrote since the last call, by GuestMemory::page_index(), ascending;
  /// what one writes that has not left run() since may come with the next call.
  virtual Result<std::vector<uint64_t>> take_written_pages() {
    return fail("this accelerator cannot log writes");
  }
  /// What turns writes to doorbells into events; nullptr: it cannot. For VmResources::mmio.
  [[nodiscard]] virtual memory::DoorbellTaker* doorbell_taker() { return nullptr; }
  /// What gives devices writes late; nullptr: all come at once. For VmResources::ports and ::mmio.
  [[nodiscard]] virtual memory::LateWriteTaker* late_port_writes() { return nullptr; }
  [[nodiscard]] virtual memory::LateWriteTaker* late_memory_writes() { return nullptr; }
  /// Others than the processors and this process may write RAM, without note_written(): the kernel
  /// that moves frames.
  [[nodiscard]] virtual bool others_may_write() const { return false; }
  /// Controllers of its own; nullptr: the machine brings all of them.
  [[nodiscard]] virtual InterruptChips* interrupt_chips() { return nullptr; }
};

class Accelerator {
 public:
  virtual ~Accelerator() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Everything that a guest of this accelerator on this host can be shown.
  [[nodiscard]] virtual x86::CpuidTable supported_cpuid() const = 0;
  /// The largest number of processors that one machine can have.
  [[nodiscard]] virtual unsigned most_vcpus() const = 0;
  virtual Result<std::unique_ptr<Vm>> create_vm(const VmResources& resources) = 0;
};

}  // namespace limen::vcpu
