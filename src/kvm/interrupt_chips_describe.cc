// The kernel's interrupt controllers in words, for people at a monitor: QEMU's words.
#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "kvm/interrupt_chips.h"
#include "kvm/ioctl.h"

namespace limen::kvm {
namespace {

std::string describe_pic(unsigned number, const kvm_pic_state& pic) {
  return fmt::format(
      "pic{}: irr={:02x} imr={:02x} isr={:02x} hprio={} irq_base={:02x} rr_sel={} elcr={:02x} "
      "fnm={}\n",
      number, pic.irr, pic.imr, pic.isr, pic.priority_add, pic.irq_base, pic.read_reg_select,
      pic.elcr, pic.special_fully_nested_mode);
}

std::string describe_io_apic(const kvm_ioapic_state& state) {
  std::string text =
      fmt::format("ioapic0: ver=0x11 id={:#04x} sel={:#04x}\n", state.id, state.ioregsel);
  for (unsigned line = 0; line < KVM_IOAPIC_NUM_PINS; ++line) {
    uint64_t entry = 0;
    std::memcpy(&entry, &state.redirtbl[line], sizeof entry);
    text += fmt::format("  pin {:<2} {:#018x} dest={:X} vec={:<3} {:5} {:6} {}\n", line, entry,
                        entry >> 56, entry & 0xFF, (entry >> 15 & 1) != 0 ? "level" : "edge",
                        (entry >> 16 & 1) != 0 ? "masked" : "",
                        (entry >> 11 & 1) != 0 ? "logical" : "physical");
  }
  return text + fmt::format("  IRR     {:#08x}\n", state.irr);
}

/// The 256 bits of IRR or ISR, each 32 of them 16 bytes after those before.
std::string vectors(const kvm_lapic_state& apic, size_t at) {
  std::string text;
  for (unsigned vector = 0; vector < 256; ++vector) {
    uint32_t word = 0;
    std::memcpy(&word, &apic.regs[at + size_t{vector} / 32 * 16], sizeof word);
    if ((word >> (vector % 32) & 1) != 0) text += fmt::format(" {}", vector);
  }
  return text.empty() ? " (none)" : text;
}

}  // namespace

std::string InterruptChips::describe() {
  std::string text;
  for (uint32_t i = 0; i < chips_.size(); ++i) {
    kvm_irqchip chip{};
    chip.chip_id = i;
    if (call(vm_, KVM_GET_IRQCHIP, &chip) < 0) continue;
    text += i == KVM_IRQCHIP_IOAPIC ? describe_io_apic(chip.chip.ioapic)
                                    : describe_pic(i, chip.chip.pic);
  }
  return text;
}

std::string InterruptChips::describe_local_apic(unsigned processor) {
  // Offsets in the page: SDM Vol. 3A table 11-1.
  constexpr std::pair<const char*, size_t> kRegisters[] = {
      {"LVT0", 0x350}, {"LVT1", 0x360},  {"LVTPC", 0x340}, {"LVTERR", 0x370}, {"LVTTHMR", 0x330},
      {"LVTT", 0x320}, {"SPIV", 0xF0},   {"ICR", 0x300},   {"ESR", 0x280},    {"TPR", 0x80},
      {"PPR", 0xA0},   {"TMICT", 0x380}, {"TMCCT", 0x390}, {"TDCR", 0x3E0}};
  constexpr size_t kIsr = 0x100, kIrr = 0x200;
  kvm_lapic_state apic{};
  if (processor >= local_apics_.size() ||
      call(local_apics_[processor].vcpu, KVM_GET_LAPIC, &apic) < 0)
    return {};
  std::string text = fmt::format("dumping local APIC state for CPU {}\n\n", processor);
  for (const auto& [name, at] : kRegisters) {
    uint32_t value = 0;
    std::memcpy(&value, &apic.regs[at], sizeof value);
    text += fmt::format("{:<8} {:#010x}\n", name, value);
  }
  return text + fmt::format("ISR     {}\nIRR     {}\n", vectors(apic, kIsr), vectors(apic, kIrr));
}

}  // namespace limen::kvm
