// The whole architectural state of one processor, in a form that no engine owns:
// what one accelerator saves, another can load.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "x86/registers.h"

namespace limen::x86 {

/// A segment register with its hidden part (SDM Vol. 3A 3.4.3).
struct Segment {
  uint16_t selector = 0;
  /// Descriptor attribute bits as they stand in bytes 5 and 6 of the descriptor, limit bits
  /// removed: type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15.
  uint16_t attributes = 0;
  uint32_t limit = 0;  ///< In bytes, granularity applied.
  uint64_t base = 0;

  static constexpr uint16_t kTypeMask = 0xF;
  static constexpr uint16_t kAccessed = 1u << 0;
  static constexpr uint16_t kWritable = 1u << 1;    ///< Data; "readable" for code.
  static constexpr uint16_t kExpandDown = 1u << 2;  ///< Data; "conforming" for code.
  static constexpr uint16_t kCode = 1u << 3;
  static constexpr uint16_t kNotSystem = 1u << 4;
  static constexpr uint16_t kPresent = 1u << 7;
  static constexpr uint16_t kLong = 1u << 13;
  static constexpr uint16_t kDefaultBig = 1u << 14;
  static constexpr uint16_t kGranularity = 1u << 15;

  [[nodiscard]] constexpr unsigned type() const { return attributes & kTypeMask; }
  [[nodiscard]] constexpr unsigned dpl() const { return (attributes >> 5) & 3; }
  [[nodiscard]] constexpr bool present() const { return attributes & kPresent; }
  [[nodiscard]] constexpr bool is_long() const { return attributes & kLong; }
  [[nodiscard]] constexpr bool default_big() const { return attributes & kDefaultBig; }
};

/// GDTR or IDTR.
struct DescriptorTableRegister {
  uint64_t base = 0;
  uint16_t limit = 0xFFFF;
};

/// Control, segment, debug and model-specific registers.
struct SystemState {
  std::array<Segment, 6> segments;  ///< Indexed by SegmentRegister.
  Segment ldtr;
  Segment tr;
  DescriptorTableRegister gdtr;
  DescriptorTableRegister idtr;
  uint64_t cr0 = 0;
  uint64_t cr2 = 0;
  uint64_t cr3 = 0;
  uint64_t cr4 = 0;
  uint64_t efer = 0;
  uint64_t xcr0 = 1;
  std::array<uint64_t, 8> dr{};  ///< DR4 and DR5 unused.

  uint64_t star = 0;
  uint64_t lstar = 0;
  uint64_t cstar = 0;
  uint64_t fmask = 0;
  uint64_t kernel_gs_base = 0;
  uint64_t sysenter_cs = 0;
  uint64_t sysenter_esp = 0;
  uint64_t sysenter_eip = 0;
  uint64_t pat = 0x0007040600070406;
  uint64_t tsc_aux = 0;
  uint64_t tsc_offset = 0;  ///< Guest TSC = host TSC + tsc_offset.
  uint64_t tsc_adjust = 0;
  uint64_t misc_enable = 1;  ///< Fast strings.
  uint64_t spec_ctrl = 0;
  uint64_t xss = 0;
  uint32_t pkrs = 0;  ///< Rights of supervisor protection keys.
  uint64_t debug_ctl = 0;
  uint64_t mtrr_def_type = 0;
  std::array<uint64_t, 16> mtrr_variable{};  ///< Base, mask, base, mask, ...
  std::array<uint64_t, 11> mtrr_fixed{};     ///< 64K, 16K x2, 4K x8.

  // What a guest's own hypervisor needs.
  uint64_t feature_control = 0;  ///< IA32_FEATURE_CONTROL (SDM Vol. 3C 24.7).
  uint64_t vm_hsave_pa = 0;      ///< APM Vol. 2 15.30.4.

  // The MSRs of x86/kvm_paravirtual.h; the local APIC has that of PV EOI.
  uint64_t kvm_wall_clock = 0;
  uint64_t kvm_system_time = 0;
  uint64_t kvm_steal_time = 0;
};

/// x87, SSE, AVX and AVX-512 registers. XMM and YMM registers are the low parts of `zmm`.
struct VectorState {
  alignas(64) std::array<std::array<uint8_t, 64>, 32> zmm{};
  std::array<uint64_t, 8> opmask{};
  /// Bytes 0-31 and 32-159 of an FXSAVE64 image: control words, pointers, MXCSR, ST0-ST7 (16 bytes
  /// each, the low 8 of which are MM0-MM7). MXCSR lives here, at offset 24 (SDM Vol. 1 10.5.1).
  alignas(16) std::array<uint8_t, 160> fxsave{};
  uint32_t pkru = 0;  ///< Rights of user protection keys.
};

/// What keeps the processor from taking an interrupt or running.
struct ActivityState {
  bool halted = false;
  bool wait_for_sipi = false;
  bool sti_shadow = false;     ///< The instruction before was STI (SDM Vol. 2B STI).
  bool mov_ss_shadow = false;  ///< The instruction before was MOV SS or POP SS.
  bool nmi_blocked = false;    ///< Between NMI delivery and IRET.
  bool nmi_pending = false;
  uint64_t pending_debug = 0;  ///< DR6 bits of debug traps not yet delivered.
  /// An interrupt that was taken from the controller and is not delivered yet: it comes before the
  /// next instruction, whatever else there is.
  std::optional<uint8_t> interrupt = {};
};

/// Where the processor is between a guest's own hypervisor and that one's guests, as KVM keeps it
/// (struct kvm_nested_state; Documentation/virt/kvm/api.rst 4.114). Empty where that is what it is
/// after reset: not in use, or in a hypervisor whose state is all in registers and memory.
struct NestedState {
  std::vector<uint8_t> bytes = {};

  [[nodiscard]] bool empty() const { return bytes.empty(); }
};

struct Msr {
  uint32_t index = 0;
  uint64_t value = 0;
  bool operator==(const Msr&) const = default;
};

struct CpuState {
  std::array<uint64_t, 16> gpr{};  ///< Indexed by Gpr.
  uint64_t rip = 0;
  uint64_t rflags = rflags::kAlwaysSet;
  SystemState system;
  VectorState vector;
  ActivityState activity;
  NestedState nested;
  /// Registers that only some accelerators have, as those of performance counters; what is not here
  /// is as after reset.
  std::vector<Msr> other_msrs;
};

/// The state after RESET (SDM Vol. 3A 9.1.1, table 9-1). `signature` is CPUID.1:EAX, which RDX
/// holds after reset.
[[nodiscard]] CpuState reset_state(uint32_t signature);

/// What INIT makes of `state`: unlike RESET it keeps the caches' control, the vector state and most
/// MSRs (table 9-1). Application processors then wait for a start-up IPI, the bootstrap processor
/// starts anew (SDM Vol. 3A 8.4.3).
[[nodiscard]] CpuState state_after_init(const CpuState& state, uint32_t signature,
                                        bool bootstrap_processor);
/// Has a processor that waits for a start-up IPI start at page `vector` (SDM Vol. 3A 8.4.3); any
/// other is left alone.
void start_up(CpuState& state, uint8_t vector);

}  // namespace limen::x86
