// The system instructions that translated code does by calling here, and page faults. Each does the
// usual case as interpret/system has it, and leaves every other to that.
#include <sys/syscall.h>

#include <optional>

#include "soft/cpu.h"
#include "soft/interpret/debug.h"
#include "soft/interpret/system/descriptor.h"
#include "soft/translate/quiet.h"
#include "soft/translate/translator.h"

namespace limen::soft::translate {

using interpret::Descriptor;
using x86::Segment;
namespace flags = x86::rflags;

namespace {

bool is_canonical(uint64_t linear) {
  return static_cast<uint64_t>(static_cast<int64_t>(linear << 16) >> 16) == linear;
}

/// Serializing instructions let no code run behind them that another processor changed before:
/// whoever changes code sets the flag.
bool must_look_up(const Cpu& cpu) { return cpu.attention.is_called(); }

std::optional<uint64_t> read(Cpu& cpu, uint64_t linear) {
  const std::byte* host = cpu.mmu.quick_supervisor(linear, sizeof(uint64_t), Access::kRead);
  if (host == nullptr) return std::nullopt;
  uint64_t value;
  __builtin_memcpy(&value, host, sizeof value);
  return value;
}

/// The segment that a selector of the GDT names, if its attributes are `wanted` under `mask` and it
/// is marked accessed.
std::optional<Segment> load_segment(Cpu& cpu, uint16_t selector, uint16_t mask, uint16_t wanted) {
  constexpr unsigned kLocal = 4;  // TI
  const auto& gdtr = cpu.system.gdtr;
  if (interpret::is_null(selector) || (selector & kLocal) != 0 || (selector | 7u) > gdtr.limit)
    return std::nullopt;
  const auto low = read(cpu, gdtr.base + (selector & 0xFFF8u));
  if (!low) return std::nullopt;
  const Descriptor descriptor{.low = *low};
  const uint16_t attributes = descriptor.attributes();
  if ((attributes & mask) != wanted) return std::nullopt;
  return Segment{.selector = selector,
                 .attributes = attributes,
                 .limit = descriptor.limit(),
                 .base = descriptor.base()};
}

constexpr uint16_t kDplMask = 3u << 5;

/// 64-bit code that is not conforming.
std::optional<Segment> load_code(Cpu& cpu, uint16_t selector, unsigned dpl) {
  constexpr uint16_t kWanted = Segment::kPresent | Segment::kNotSystem | Segment::kCode |
                               Segment::kAccessed | Segment::kLong;
  constexpr uint16_t kMask = kWanted | Segment::kExpandDown | Segment::kDefaultBig | kDplMask;
  return load_segment(cpu, selector, kMask, static_cast<uint16_t>(kWanted | (dpl << 5)));
}

std::optional<Segment> load_stack(Cpu& cpu, uint16_t selector, unsigned cpl) {
  if ((selector & 3u) != cpl) return std::nullopt;
  if (interpret::is_null(selector) && cpl != 3)
    return Segment{.selector = selector, .attributes = static_cast<uint16_t>(cpl << 5)};
  constexpr uint16_t kWanted =
      Segment::kPresent | Segment::kNotSystem | Segment::kWritable | Segment::kAccessed;
  constexpr uint16_t kMask = kWanted | Segment::kCode | kDplMask;
  return load_segment(cpu, selector, kMask, static_cast<uint16_t>(kWanted | (cpl << 5)));
}

/// Whether a return to CPL 3 leaves DS, ES, FS and GS alone (SDM Vol. 3A 5.8.6).
bool keeps_data_segments(const Cpu& cpu) {
  for (const uint8_t number : {x86::kEs, x86::kDs, x86::kFs, x86::kGs}) {
    const Segment& used = cpu.system.segments[number];
    if (used.present() && used.dpl() < 3) return false;
  }
  return true;
}

}  // namespace

Continuation on_interrupt_return(Cpu* cpu, uint64_t, const CallSite* site) noexcept {
  const auto leave = [&] { return leave_to_interpreter(*cpu, *site); };
  if (must_look_up(*cpu) || cpu->activity.nmi_blocked ||
      (cpu->flags_rest & flags::kNestedTask) != 0)
    return leave();
  struct [[gnu::packed]] Frame {  // at any address
    uint64_t rip, code, flags, rsp, stack;
  };
  const std::byte* host = cpu->mmu.quick_host(cpu->gpr[x86::kRsp], sizeof(Frame), Access::kRead);
  if (host == nullptr) return leave();
  const auto* const frame = reinterpret_cast<const Frame*>(host);
  const auto selector = static_cast<uint16_t>(frame->code);
  const unsigned cpl = selector & 3u;
  if ((cpl != 0 && cpl != 3) || !is_canonical(frame->rip)) return leave();
  // RF matters to instruction breakpoints alone, and with those armed no translated code runs.
  const uint64_t value = frame->flags & ~flags::kResume;
  uint64_t refused = flags::kTrap | flags::kVirtual8086;
  if (cpl == 3) refused |= flags::kAlignmentCheck;
  if ((value & refused) != 0) return leave();
  if ((value & flags::kInterrupt) != 0 && cpu->attention.interrupt_waits) return leave();
  const auto code = load_code(*cpu, selector, cpl);
  if (!code) return leave();
  const auto stack = load_stack(*cpu, static_cast<uint16_t>(frame->stack), cpl);
  if (!stack || (cpl == 3 && !keeps_data_segments(*cpu))) return leave();

  constexpr uint64_t kLoaded = flags::kInterrupt | flags::kDirection | flags::kIopl |
                               flags::kNestedTask | flags::kAlignmentCheck |
                               flags::kVirtualInterrupt | flags::kVirtualInterruptPending |
                               flags::kIdentification;
  const uint64_t rip = frame->rip;
  cpu->gpr[x86::kRsp] = frame->rsp;
  cpu->system.segments[x86::kCs] = *code;
  cpu->system.segments[x86::kSs] = *stack;
  cpu->flags_rest = value & kLoaded;
  cpu->cpl = static_cast<uint8_t>(cpl);
  cpu->mmu.quick_set_privilege(cpl == 3, (value & flags::kAlignmentCheck) != 0);
  // AH and AL as LAHF and SETO would leave them; RAX itself was put aside.
  cpu->gpr[x86::kRax] = (value & 0xFF) << 8 | (value >> 11 & 1);
  return {rip, cpl == 3 ? cpu->generated.go_on_outside_restoring
                        : cpu->generated.go_on_inside_restoring};
}

Continuation deliver_page_fault(Cpu& cpu, const Mmu::QuickAccess& fault,
                                const CallSite& site) noexcept {
  const auto leave = [&] { return leave_to_interpreter(cpu, site); };
  if (cpu.traces_interrupts || cpu.mode != decode::CodeMode::k64) return leave();
  const bool inward = cpu.cpl == 3;
  const bool alignment_check = (cpu.flags_rest & flags::kAlignmentCheck) != 0;
  if (inward && alignment_check) return leave();

  // The gate (SDM Vol. 3A 6.14.1).
  constexpr uint64_t kEntry = uint64_t{static_cast<uint8_t>(x86::Vector::kPageFault)} * 16;
  const auto& idtr = cpu.system.idtr;
  if (kEntry + 15 > idtr.limit) return leave();
  const auto low = read(cpu, idtr.base + kEntry);
  const auto high = read(cpu, idtr.base + kEntry + 8);
  if (!low || !high) return leave();
  const Descriptor gate{.low = *low, .high = *high & 0xFFFF'FFFF};
  const unsigned type = gate.type();
  if (!gate.is_system() || !gate.present() ||
      (type != interpret::system_type::kInterruptGate32 &&
       type != interpret::system_type::kTrapGate32))
    return leave();
  const uint64_t handler = gate.gate_offset();
  auto code = load_code(cpu, gate.gate_selector(), 0);
  if (!code || !is_canonical(handler)) return leave();
  code->selector = static_cast<uint16_t>(code->selector & ~3u);

  // The stack (SDM Vol. 3A 6.14.2, 6.14.5).
  const Segment& task = cpu.system.tr;
  uint64_t stack = cpu.gpr[x86::kRsp];
  const unsigned ist = gate.interrupt_stack();
  if (ist != 0 || inward) {
    const uint64_t offset = ist != 0 ? 28 + uint64_t{ist} * 8 : 4;
    if (offset + 7 > task.limit) return leave();
    const auto pointer = read(cpu, task.base + offset);
    if (!pointer) return leave();
    stack = *pointer;
  }
  struct [[gnu::packed]] Frame {
    uint64_t error_code, rip, code, flags, rsp, stack;
  };
  stack = (stack & ~uint64_t{15}) - sizeof(Frame);
  std::byte* const host = cpu.mmu.quick_supervisor(stack, sizeof(Frame), Access::kWrite);
  if (host == nullptr) return leave();

  // Where no flag was put aside, none is needed.
  const uint64_t image = site.flags_saved != 0 ? cpu.gpr[x86::kRax] : 0x200;
  const uint64_t arithmetic = (image >> 8 & 0xFF) | (image & 0xFF) << 11;
  auto& segments = cpu.system.segments;
  *reinterpret_cast<Frame*>(host) = {
      .error_code = fault.error_code,
      .rip = static_cast<const Translator*>(cpu.generated.translator)->quick_rip(site.site),
      .code = segments[x86::kCs].selector,
      .flags = cpu.flags_rest | arithmetic | flags::kResume,
      .rsp = cpu.gpr[x86::kRsp],
      .stack = segments[x86::kSs].selector};
  uint64_t cleared = flags::kTrap | flags::kNestedTask | flags::kResume | flags::kVirtual8086;
  if (type == interpret::system_type::kInterruptGate32) cleared |= flags::kInterrupt;
  cpu.flags_rest &= ~cleared;
  cpu.gpr[x86::kRsp] = stack;
  segments[x86::kCs] = *code;
  if (inward) segments[x86::kSs] = {};
  cpu.system.cr2 = fault.fault_address;
  cpu.cpl = 0;
  cpu.mmu.quick_set_privilege(false, alignment_check);
  return {handler, site.flags_saved != 0 ? cpu.generated.go_on_inside_restoring
                                         : cpu.generated.go_on_inside};
}

Continuation on_load_cr3(Cpu* cpu, uint64_t value, const CallSite* site) noexcept {
  constexpr uint64_t kNoFlush = uint64_t{1} << 63;
  const bool keep = (cpu->system.cr4 & x86::cr4::kPcide) != 0 && (value & kNoFlush) != 0;
  if (keep) value &= ~kNoFlush;
  if (must_look_up(*cpu) || !cpu->mmu.quick_load_cr3(value, keep))
    return leave_to_interpreter(*cpu, *site);
  cpu->system.cr3 = value;
  return {0, cpu->generated.code + site->resume};
}

Continuation on_pause(Cpu* cpu, uint64_t, const CallSite* site) noexcept {
  /// A few microseconds: longer than most locks are held by a processor that runs.
  constexpr uint32_t kMostPauses = 64;
  if (++cpu->generated.pauses < kMostPauses || !cpu->mmu.shares_code()) {
    __builtin_ia32_pause();
  } else {
    cpu->generated.pauses = 0;
    // The C library's function may not keep vector registers.
    long result = SYS_sched_yield;
    asm volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
  }
  return {0, cpu->generated.code + site->resume};
}

Continuation on_invalidate_page(Cpu* cpu, uint64_t linear, const CallSite* site) noexcept {
  if (must_look_up(*cpu)) return leave_to_interpreter(*cpu, *site);
  cpu->mmu.invalidate_page(linear);
  return {0, cpu->generated.code + site->resume};
}

}  // namespace limen::soft::translate
