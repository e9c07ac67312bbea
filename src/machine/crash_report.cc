#include "machine/crash_report.h"

#include <fmt/format.h>

#include <array>

namespace limen::machine {
namespace {

constexpr std::array kGprNames = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                  "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
constexpr std::array kSegmentNames = {"ES", "CS", "SS", "DS", "FS", "GS"};

std::string format_segment(std::string_view name, const x86::Segment& segment) {
  return fmt::format("{:<3} selector={:04x} base={:016x} limit={:08x} attributes={:04x}\n", name,
                     segment.selector, segment.base, segment.limit, segment.attributes);
}

}  // namespace

std::string format_registers(const x86::CpuState& state) {
  const auto& system = state.system;
  std::string text;
  for (size_t i = 0; i < state.gpr.size(); ++i)
    text += fmt::format("{}={:016x}{}", kGprNames[i], state.gpr[i], i % 4 == 3 ? '\n' : ' ');
  text += fmt::format("RIP={:016x} RFLAGS={:08x} halted={}\n", state.rip, state.rflags,
                      state.activity.halted ? 1 : 0);
  for (size_t i = 0; i < kSegmentNames.size(); ++i)
    text += format_segment(kSegmentNames[i], system.segments[i]);
  text += format_segment("LDT", system.ldtr);
  text += format_segment("TR", system.tr);
  text += fmt::format("GDT base={:016x} limit={:04x}   IDT base={:016x} limit={:04x}\n",
                      system.gdtr.base, system.gdtr.limit, system.idtr.base, system.idtr.limit);
  text += fmt::format("CR0={:08x} CR2={:016x} CR3={:016x} CR4={:08x} EFER={:08x}\n", system.cr0,
                      system.cr2, system.cr3, system.cr4, system.efer);
  return text;
}

std::string crash_report(std::string_view what, const x86::CpuState& state,
                         std::string_view recent_instructions) {
  std::string text = fmt::format("{}\n{}", what, format_registers(state));
  if (!recent_instructions.empty()) {
    text += "last instructions, oldest first:\n";
    text += recent_instructions;
    if (!text.ends_with('\n')) text += '\n';
  }
  return text;
}

}  // namespace limen::machine
