#include <fmt/format.h>

#include <array>
#include <cstring>

#include "monitor/hmp/command.h"
#include "x86/registers.h"

namespace limen::monitor {
namespace {

constexpr std::array kNames = {"RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP",
                               "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
constexpr std::array<size_t, 16> kOrder = {0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15};

std::string flags_text(uint64_t rflags) {
  using namespace x86::rflags;
  const auto mark = [&](uint64_t bit, char letter) { return (rflags & bit) != 0 ? letter : '-'; };
  return fmt::format("{}{}{}{}{}{}{}", mark(kDirection, 'D'), mark(kOverflow, 'O'),
                     mark(kSign, 'S'), mark(kZero, 'Z'), mark(kAuxiliary, 'A'), mark(kParity, 'P'),
                     mark(kCarry, 'C'));
}

std::string segment_text(const char* name, const x86::Segment& segment) {
  std::string text = fmt::format("{:<3}={:04x} {:016x} {:08x} {:08x}", name, segment.selector,
                                 segment.base, segment.limit, uint32_t{segment.attributes} << 8);
  using x86::Segment;
  if (segment.present()) {
    const auto attributes = segment.attributes;
    text += fmt::format(" DPL={} ", segment.dpl());
    if ((attributes & Segment::kNotSystem) == 0) {
      constexpr std::array kSystemTypes = {"Reserved",   "Reserved",  "LDT",       "Reserved",
                                           "Reserved",   "Reserved",  "Reserved",  "Reserved",
                                           "Reserved",   "TSS64-avl", "Reserved",  "TSS64-busy",
                                           "CallGate64", "Reserved",  "IntGate64", "TrapGate64"};
      text += kSystemTypes[segment.type()];
    } else if ((attributes & Segment::kCode) != 0) {
      text += segment.is_long() ? "CS64" : segment.default_big() ? "CS32" : "CS16";
      text += fmt::format(" [{}{}", (attributes & Segment::kExpandDown) != 0 ? 'C' : '-',
                          (attributes & Segment::kWritable) != 0 ? 'R' : '-');
      text += (attributes & Segment::kAccessed) != 0 ? "A]" : "-]";
    } else {
      text += segment.default_big() ? "DS  " : "DS16";
      text += fmt::format(" [{}{}", (attributes & Segment::kExpandDown) != 0 ? 'E' : '-',
                          (attributes & Segment::kWritable) != 0 ? 'W' : '-');
      text += (attributes & Segment::kAccessed) != 0 ? "A]" : "-]";
    }
  }
  return text + "\n";
}

template <typename T>
T field(const x86::VectorState& vector, size_t offset) {
  T value{};
  std::memcpy(&value, vector.fxsave.data() + offset, sizeof value);
  return value;
}

std::string vector_text(const x86::VectorState& vector) {
  const auto status = field<uint16_t>(vector, 2);
  std::string text = fmt::format("FCW={:04x} FSW={:04x} [ST={}] FTW={:02x} MXCSR={:08x}\n",
                                 field<uint16_t>(vector, 0), status & ~0x3800, status >> 11 & 7,
                                 field<uint8_t>(vector, 4), field<uint32_t>(vector, 24));
  constexpr size_t kFirstRegister = 32, kStep = 16;
  for (size_t i = 0; i < 8; ++i)
    text += fmt::format(
        "FPR{}={:016x} {:04x}{}", i, field<uint64_t>(vector, kFirstRegister + kStep * i),
        field<uint16_t>(vector, kFirstRegister + kStep * i + 8), i % 2 == 1 ? '\n' : ' ');
  for (size_t i = 0; i < 16; ++i) {
    uint64_t low = 0;
    uint64_t high = 0;
    std::memcpy(&low, vector.zmm[i].data(), sizeof low);
    std::memcpy(&high, vector.zmm[i].data() + sizeof low, sizeof high);
    text += fmt::format("XMM{:02}={:016x} {:016x}{}", i, high, low, i % 2 == 1 ? '\n' : ' ');
  }
  return text;
}

}  // namespace

std::string registers_text(const x86::CpuState& state) {
  const auto& system = state.system;
  std::string text;
  for (size_t i = 0; i < kOrder.size(); ++i)
    text += fmt::format("{}={:016x}{}", kNames[i], state.gpr[kOrder[i]], i % 4 == 3 ? '\n' : ' ');
  text += fmt::format("RIP={:016x} RFL={:08x} [{}] CPL={} II={} A20=1 SMM=0 HLT={}\n", state.rip,
                      state.rflags, flags_text(state.rflags), system.segments[x86::kSs].dpl(),
                      state.activity.sti_shadow || state.activity.mov_ss_shadow ? 1 : 0,
                      state.activity.halted ? 1 : 0);
  constexpr std::array kSegments = {"ES", "CS", "SS", "DS", "FS", "GS"};
  for (size_t i = 0; i < kSegments.size(); ++i)
    text += segment_text(kSegments[i], system.segments[i]);
  text += segment_text("LDT", system.ldtr);
  text += segment_text("TR", system.tr);
  text += fmt::format("GDT=     {:016x} {:08x}\n", system.gdtr.base, system.gdtr.limit);
  text += fmt::format("IDT=     {:016x} {:08x}\n", system.idtr.base, system.idtr.limit);
  text += fmt::format("CR0={:08x} CR2={:016x} CR3={:016x} CR4={:08x}\n", system.cr0, system.cr2,
                      system.cr3, system.cr4);
  text += fmt::format("DR0={:016x} DR1={:016x} DR2={:016x} DR3={:016x} \n", system.dr[0],
                      system.dr[1], system.dr[2], system.dr[3]);
  text += fmt::format("DR6={:016x} DR7={:016x}\n", system.dr[6], system.dr[7]);
  text += fmt::format("EFER={:016x}\n", system.efer);
  return text + vector_text(state.vector);
}

}  // namespace limen::monitor
