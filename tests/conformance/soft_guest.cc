#include "conformance/soft_guest.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>

#include "conformance/guest_tables.h"
#include "conformance/native_processor.h"

namespace limen::conformance {
namespace {

using namespace x86;  // NOLINT(google-build-using-namespace): register names

CpuidTable host_cpuid() {
  CpuidTable table;
  const auto add = [&](uint32_t leaf, uint32_t subleaf, bool indexed) {
    CpuidResult result;
    __cpuid_count(leaf, subleaf, result.eax, result.ebx, result.ecx, result.edx);
    table.set(leaf, subleaf, indexed, result);
  };
  const uint32_t last = __get_cpuid_max(0, nullptr);
  for (uint32_t leaf = 0; leaf <= last; ++leaf) {
    const bool indexed = leaf == 4 || leaf == 7 || leaf == 0xD || leaf >= 0xF;
    for (uint32_t subleaf = 0; subleaf < (indexed ? 20u : 1u); ++subleaf)
      add(leaf, subleaf, indexed);
  }
  const uint32_t last_extended = __get_cpuid_max(0x80000000, nullptr);
  for (uint32_t leaf = 0x80000000; leaf <= last_extended; ++leaf) add(leaf, 0, false);
  return table;
}

CpuState system_state() {
  CpuState state = reset_state(0);
  auto& system = state.system;
  // As Linux has them for a program (CR4.UMIP is left out: its instructions are not compared).
  system.cr0 = cr0::kProtection | cr0::kMonitorCoprocessor | cr0::kExtensionType |
               cr0::kNumericError | cr0::kWriteProtect | cr0::kAlignmentMask | cr0::kPaging;
  system.cr4 = cr4::kPse | cr4::kPae | cr4::kMce | cr4::kPge | cr4::kOsfxsr | cr4::kOsxmmexcpt |
               cr4::kFsgsbase | cr4::kOsxsave | cr4::kUmip;
  system.cr3 = kPageTableRoot;
  system.efer = efer::kSce | efer::kLme | efer::kLma | efer::kNxe;
  system.xcr0 = host_vector_features();
  system.gdtr = {.base = kSupervisorBase + kGdt, .limit = kGdtLimit};
  system.idtr = {.base = kSupervisorBase + kIdt, .limit = 0xFFF};
  system.tr = {.selector = kTaskSelector,
               .attributes = Segment::kPresent | 11,
               .limit = 0x67,
               .base = kSupervisorBase + kTss};
  system.ldtr = {};
  system.segments[kCs] = segment_for(0x33);
  system.segments[kSs] = segment_for(0x2B);
  return state;
}

}  // namespace

SoftGuest::SoftGuest(std::unique_ptr<memory::GuestMemory> memory, size_t code_size)
    : ram(std::move(memory)),
      cpuid(host_cpuid()),
      cpu(*ram, ports, mmio, cpuid, interrupts),
      runner(cpu, 1'000'000'000, code_size) {
  exit_ports.runner = &runner;
  ports.claim(0, kExitPorts, exit_ports, "conformance");
  cpu.set_state(system_state());
}

void SoftGuest::load_registers(const Registers& before) {
  std::ranges::copy(before.gpr, cpu.gpr.begin());
  cpu.rip = before.rip;
  cpu.set_rflags(before.rflags);
  for (size_t i = 0; i < before.selectors.size(); ++i)
    cpu.system.segments[i] = segment_for(before.selectors[i]);
  if (before.selectors[kFs] < 4) cpu.system.segments[kFs].base = before.fs_base;
  if (before.selectors[kGs] < 4 || before.selectors[kCs] == kKernelCode32)
    cpu.system.segments[kGs].base = before.gs_base;
  cpu.system.cr2 = 0;
  cpu.vector = before.vector;
  cpu.activity = {};
  cpu.update_mode();
}

void SoftGuest::store_outcome(Outcome& outcome) const {
  outcome.ran = exit_ports.hit;
  if (!exit_ports.hit) return;
  outcome.vector = exit_ports.vector;
  const uint64_t stack = kSupervisorBase + kKernelStackTop;
  const uint64_t words = has_error_code(outcome.vector) ? 6 : 5;
  // Error code (or nothing), RIP, CS, RFLAGS, RSP, SS (SDM Vol. 3A 6.14.2).
  std::array<uint64_t, 6> frame{};
  std::memcpy(frame.data() + (6 - words), host(kKernelStackTop - words * 8), words * 8);
  outcome.ran = cpu.gpr[kRsp] == stack - words * 8;
  outcome.error_code = static_cast<uint32_t>(frame[0]);
  outcome.fault_address = outcome.vector == 14 ? cpu.system.cr2 : 0;
  Registers& after = outcome.after;
  std::copy_n(cpu.gpr.begin(), 16, after.gpr.begin());
  after.rip = frame[1];
  after.rflags = frame[3];
  after.gpr[kRsp] = frame[4];
  for (size_t i = 0; i < 6; ++i) after.selectors[i] = cpu.system.segments[i].selector;
  after.selectors[kCs] = static_cast<uint16_t>(frame[2]);
  after.selectors[kSs] = static_cast<uint16_t>(frame[5]);
  after.fs_base = cpu.system.segments[kFs].base;
  after.gs_base = cpu.system.segments[kGs].base;
  after.vector = cpu.vector;
}

Result<std::unique_ptr<memory::GuestMemory>> SoftGuest::create_memory() {
  const memory::GuestMemory::Layout layout{.start = {0}, .size = kGuestRamSize};
  auto ram = LIMEN_TRY(memory::GuestMemory::create(std::span(&layout, 1)));
  LIMEN_TRY(write_guest_tables(*ram));
  return ram;
}

}  // namespace limen::conformance
