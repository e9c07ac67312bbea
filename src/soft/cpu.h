// The state of one virtual processor inside the software engine: hot fields first, laid out for the
// interpreter. x86::CpuState is its neutral form.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "soft/debugger.h"
#include "soft/decode/decoder.h"
#include "soft/interpret/operation.h"
#include "soft/mmu/mmu.h"
#include "soft/paravirtual.h"
#include "soft/translate/context.h"
#include "vcpu/local_interrupt_controller.h"
#include "x86/cpu_state.h"
#include "x86/cpuid.h"
#include "x86/exception.h"

namespace limen::soft {

class Trace;

struct Cpu {
  /// Processor `index` of those that share `code`; nullptr: the only one.
  Cpu(memory::GuestMemory& ram, memory::IoSpace& ports, memory::IoSpace& mmio,
      const x86::CpuidTable& cpuid, vcpu::LocalInterruptController& interrupts,
      CodeSharing* code = nullptr, unsigned index = 0);
  Cpu(const Cpu&) = delete;
  Cpu& operator=(const Cpu&) = delete;

  /// Sixteen registers, then interpret::kZeroRegister and interpret::kNextRip.
  std::array<uint64_t, 18> gpr{};
  uint64_t rip = 0;  ///< The running instruction's address (offset in CS).

  // RFLAGS in three parts; the first two stand as AL and AH do after SETO AL and LAHF.
  uint8_t flags_overflow = 0;  ///< 0 or 1.
  uint8_t flags_low = 2;       ///< SF ZF - AF - PF 1 CF, as in the low byte of RFLAGS.
  uint64_t flags_rest = 0;     ///< Every other bit (TF, IF, DF, IOPL, NT, RF, VM, AC, ID, ...).

  // Derived by update_mode().
  decode::CodeMode mode = decode::CodeMode::k16;
  uint8_t cpl = 0;
  bool long_mode = false;       ///< EFER.LMA: 64-bit or compatibility mode.
  bool protected_mode = false;  ///< CR0.PE and not RFLAGS.VM.
  bool virtual_8086 = false;
  uint64_t stack_mask = 0xFFFF;  ///< Width of SP, ESP or RSP by SS.B and mode.
  uint64_t rip_mask = 0xFFFF;    ///< Width of IP, EIP or RIP by mode (for wrap-around).

  x86::SystemState system;
  x86::VectorState vector;
  x86::ActivityState activity;

  Mmu mmu;

  /// Called when the run loop must look up from the guest's code.
  Attention attention{mmu.stack_pages()};
  /// Set by handlers after which decoded code or the mode must be looked up anew (mode, CS, TLB or
  /// own-code change): the run loop leaves the current block.
  bool leave_block = false;

  /// The translator's.
  translate::Context generated;

  memory::GuestMemory& ram;
  memory::IoSpace& ports;
  const x86::CpuidTable& cpuid;
  vcpu::LocalInterruptController& interrupts;

  Paravirtual paravirtual;

  Debugger debugger;

  Trace* trace = nullptr;          ///< What -d asks for; nullptr: nothing.
  bool traces_interrupts = false;  ///< Every delivery is to be told to `trace`.

  [[nodiscard]] uint64_t rflags() const {
    return flags_rest | flags_low | (static_cast<uint64_t>(flags_overflow) << 11);
  }
  /// Sets every bit as given, without asking who may; bit 1 stays set. Calls no update.
  void set_rflags(uint64_t value) {
    flags_low = static_cast<uint8_t>((value & 0xD5) | 2);
    flags_overflow = (value >> 11) & 1;
    flags_rest = value & ~uint64_t{0x8FF};
  }
  [[nodiscard]] bool flag(uint64_t bit) const { return (rflags() & bit) != 0; }

  /// Recomputes what is derived from CR0, CR4, EFER, CS, SS, RFLAGS.VM and AC, and tells the MMU.
  /// To be called after any of them changed.
  void update_mode();

  /// The linear address of offset `rip` in the code segment.
  [[nodiscard]] uint64_t code_linear(uint64_t offset) const {
    return mode == decode::CodeMode::k64 ? offset
                                         : (system.segments[x86::kCs].base + offset) & 0xFFFFFFFF;
  }
  /// The first byte of the page behind the one that holds linear code address `linear`.
  [[nodiscard]] uint64_t next_code_page(uint64_t linear) const {
    const uint64_t next = (linear | 0xFFF) + 1;
    return mode == decode::CodeMode::k64 ? next : next & 0xFFFFFFFF;
  }
  /// GuestMemory's code generation of a page of RAM; 0 for what is not RAM.
  [[nodiscard]] uint32_t code_generation(uint64_t ram_page) const {
    return ram_page < ram.page_count()
               ? ram.code_generations()[ram_page].load(std::memory_order_acquire)
               : 0;
  }

  [[nodiscard]] uint64_t guest_tsc() const { return __builtin_ia32_rdtsc() + system.tsc_offset; }

  /// What a debugger wants from now on; no guest code runs meanwhile.
  void set_debug(const vcpu::DebugRequest& request);

  [[nodiscard]] x86::CpuState state() const;
  void set_state(const x86::CpuState& state);

  [[noreturn]] static void raise(const x86::Exception& exception) { throw exception; }
};

}  // namespace limen::soft
