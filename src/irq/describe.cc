// Interrupt controllers in words, for people at a monitor: QEMU's words.
#include <fmt/format.h>

#include <array>
#include <bit>

#include "irq/io_apic.h"
#include "irq/local_apic.h"
#include "irq/local_apic_registers.h"
#include "irq/pic_8259.h"

namespace limen::irq {
namespace {

constexpr std::array kModes = {"fixed", "lowest", "SMI", "...", "NMI", "INIT", "...", "ExtINT"};

std::string bits(const std::array<uint32_t, 8>& words) {
  std::string text;
  for (unsigned vector = 0; vector < 256; ++vector)
    if ((words[vector / 32] >> (vector % 32) & 1) != 0) text += fmt::format(" {}", vector);
  return text.empty() ? " (none)" : text;
}

std::string lines(uint32_t set) {
  std::string text;
  for (; set != 0; set &= set - 1) text += fmt::format(" {}", std::countr_zero(set));
  return text.empty() ? " (none)" : text;
}

}  // namespace

std::string Pic8259::describe() {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (size_t i = 0; i < chips_.size(); ++i) {
    const auto& chip = chips_[i];
    text += fmt::format(
        "pic{}: irr={:02x} imr={:02x} isr={:02x} hprio={} irq_base={:02x} rr_sel={} elcr={:02x} "
        "fnm={}\n",
        i, chip.irr, chip.imr, chip.isr, (chip.lowest + 1) % 8, chip.vector_base,
        chip.read_isr ? 1 : 0, chip.elcr, chip.special_fully_nested ? 1 : 0);
  }
  return text;
}

std::string IoApic::describe() {
  constexpr uint64_t kRemoteIrr = 1u << 14;
  const std::lock_guard lock(mutex_);
  std::string text = fmt::format("ioapic0: ver={:#x} id={:#04x} sel={:#04x}\n",
                                 read_register(1) & 0xFF, id_, select_);
  uint32_t remote = 0;
  for (unsigned line = 0; line < kLines; ++line) {
    const uint64_t entry = redirection_[line];
    if ((entry & kRemoteIrr) != 0) remote |= 1u << line;
    text += fmt::format(
        "  pin {:<2} {:#018x} dest={:X} vec={:<3} {} {:5} {:6} {:6} {}\n", line, entry, entry >> 56,
        entry & 0xFF, (entry >> 13 & 1) != 0 ? "active-lo" : "active-hi",
        (entry >> 15 & 1) != 0 ? "level" : "edge", (entry >> 16 & 1) != 0 ? "masked" : "",
        kModes[entry >> 8 & 7], (entry >> 11 & 1) != 0 ? "logical" : "physical");
  }
  text += fmt::format("  IRR     {}\n  Remote IRR{}\n", lines(pending_).substr(1), lines(remote));
  return text;
}

std::string LocalApic::describe() {
  const std::lock_guard lock(mutex_);
  std::string text = fmt::format("dumping local APIC state for CPU {}\n\n", config_.id);
  constexpr std::array<std::pair<const char*, LvtIndex>, 6> kNames = {{{"LVT0", kLvtLint0},
                                                                       {"LVT1", kLvtLint1},
                                                                       {"LVTPC", kLvtPerformance},
                                                                       {"LVTERR", kLvtError},
                                                                       {"LVTTHMR", kLvtThermal},
                                                                       {"LVTT", kLvtTimer}}};
  constexpr std::array kTimerModes = {"one-shot", "periodic", "tsc-deadline", "..."};
  for (const auto& [name, index] : kNames) {
    const uint32_t entry = lvt_[index];
    text += fmt::format("{:<8} {:#010x} {} {:5} {:6} ", name, entry,
                        (entry >> 13 & 1) != 0 ? "active-lo" : "active-hi",
                        (entry & apic::kLvtLevel) != 0 ? "level" : "edge",
                        (entry & apic::kLvtMasked) != 0 ? "masked" : "");
    if (index == kLvtTimer) text += fmt::format("{:12} ", kTimerModes[timer_mode() & 3]);
    text += fmt::format("{:6} (vec {})\n", index == kLvtTimer ? "fixed" : kModes[entry >> 8 & 7],
                        entry & 0xFF);
  }
  text += fmt::format("Timer    DCR={:#x} (divide by {}) initial_count = {} current_count = {}\n",
                      divide_, 1u << divide_shift(), initial_count_, current_count());
  text += fmt::format("SPIV     {:#010x} APIC {}, focus={}, spurious vec {}\n", svr_,
                      software_enabled() ? "enabled" : "disabled",
                      (svr_ >> 9 & 1) != 0 ? "off" : "on", svr_ & 0xFF);
  text += fmt::format("ICR      {:#010x} {} dest={:#x}\n", icr_ & 0xFFFF'FFFF,
                      (icr_ >> 11 & 1) != 0 ? "logical" : "physical", icr_ >> 32);
  text +=
      fmt::format("ESR      {:#010x}\nISR     {}\nIRR     {}\n\n", esr_, bits(isr_), bits(irr_));
  text += fmt::format("APR {:#04x} TPR {:#04x} PPR {:#04x} {} {}\n", 0, tpr_, processor_priority(),
                      x2apic_mode() ? "x2APIC" : "xAPIC", globally_enabled() ? "" : "(disabled)");
  return text;
}

}  // namespace limen::irq
