#include "conformance/soft_processor.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>

#include "conformance/guest_tables.h"
#include "conformance/native_processor.h"
#include "memory/io_space.h"
#include "soft/cpu.h"
#include "soft/interpret/runner.h"

namespace limen::conformance {
namespace {

using namespace x86;  // NOLINT(google-build-using-namespace): register names

class NoInterrupts : public vcpu::LocalInterruptController {
 public:
  bool has_interrupt() override { return false; }
  std::optional<uint8_t> acknowledge() override { return std::nullopt; }
  EventRequest take_event() override { return {}; }
  uint8_t task_priority() override { return 0; }
  void set_task_priority(uint8_t) override {}
  bool read_msr(uint32_t, uint64_t&) override { return false; }
  bool write_msr(uint32_t, uint64_t) override { return false; }
  uint64_t next_timer_tsc() override { return UINT64_MAX; }
  void timer_due(uint64_t) override {}
};

// The ports that handlers write to: stops the run.
class ExitPorts : public memory::IoHandler {
 public:
  uint64_t io_read(uint64_t, unsigned) override { return 0; }
  void io_write(uint64_t offset, unsigned, uint64_t) override {
    vector = static_cast<uint8_t>(offset);
    hit = true;
    runner->kick();
  }
  soft::interpret::Runner* runner = nullptr;
  uint8_t vector = 0;
  bool hit = false;
};

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

bool has_error_code(uint8_t vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

}  // namespace

struct SoftProcessor::Guest {
  Guest(std::unique_ptr<memory::GuestMemory> memory, Tier tier)
      : ram(std::move(memory)),
        cpuid(host_cpuid()),
        cpu(*ram, ports, mmio, cpuid, interrupts),
        runner(cpu, 1'000'000'000, tier == Tier::kTranslator ? size_t{4} << 20 : 0) {}

  std::unique_ptr<memory::GuestMemory> ram;
  memory::IoSpace ports{"ports"};
  memory::IoSpace mmio{"mmio"};
  CpuidTable cpuid;
  NoInterrupts interrupts;
  soft::Cpu cpu;
  soft::interpret::Runner runner;
  ExitPorts exit_ports;

  std::byte* host(uint64_t physical) { return ram->span({physical}, 1).data(); }
  void load_system_state();
  void load_registers(const Registers& before);
  void load_memory(const Trial& trial, const Image& image);
  void store_outcome(Outcome& outcome);
};

void SoftProcessor::Guest::load_system_state() {
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
  cpu.set_state(state);
}

void SoftProcessor::Guest::load_registers(const Registers& before) {
  std::ranges::copy(before.gpr, cpu.gpr.begin());
  cpu.rip = before.rip;
  cpu.set_rflags(before.rflags);
  for (size_t i = 0; i < before.selectors.size(); ++i)
    cpu.system.segments[i] = segment_for(before.selectors[i]);
  if (before.selectors[kFs] < 4) cpu.system.segments[kFs].base = before.fs_base;
  if (before.selectors[kGs] < 4) cpu.system.segments[kGs].base = before.gs_base;
  cpu.system.cr2 = 0;
  cpu.vector = before.vector;
  cpu.activity = {};
  cpu.update_mode();
}

void SoftProcessor::Guest::load_memory(const Trial& trial, const Image& image) {
  std::memcpy(host(kWritablePagesStart), image.data(), image.size());
  for (const Patch& patch : trial.patches)
    std::memcpy(host(kWritablePagesStart + patch.offset), patch.bytes.data(), patch.size);
  std::byte* code = host(kCodePage);
  std::memset(code, 0xCC, kPage);
  const uint64_t offset = trial.before.rip - kCodeAddress;
  std::memcpy(code + offset, trial.code.data(),
              std::min<uint64_t>(trial.code_size, kPage - offset));
  ram->note_written({kCodePage}, kPage);
}

void SoftProcessor::Guest::store_outcome(Outcome& outcome) {
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
  std::memcpy(outcome.image.data(), host(kWritablePagesStart), outcome.image.size());
}

Result<std::unique_ptr<SoftProcessor>> SoftProcessor::create(
    std::span<const uint8_t> read_only_page, Tier tier) {
  const memory::GuestMemory::Layout layout{.start = {0}, .size = kGuestRamSize};
  auto guest =
      std::make_unique<Guest>(LIMEN_TRY(memory::GuestMemory::create(std::span(&layout, 1))), tier);
  LIMEN_TRY(write_guest_tables(*guest->ram));
  std::ranges::copy(std::as_bytes(read_only_page), guest->host(kReadOnlyPage));
  guest->exit_ports.runner = &guest->runner;
  guest->ports.claim(0, kExitPorts, guest->exit_ports, "conformance");
  guest->load_system_state();
  return std::unique_ptr<SoftProcessor>(new SoftProcessor(std::move(guest)));
}

SoftProcessor::SoftProcessor(std::unique_ptr<Guest> guest) : guest_(std::move(guest)) {}
SoftProcessor::~SoftProcessor() = default;

void SoftProcessor::run(const Trial& trial, const Image& image, Outcome& outcome) {
  guest_->load_memory(trial, image);
  guest_->load_registers(trial.before);
  guest_->exit_ports.hit = false;
  (void)guest_->runner.run();
  guest_->store_outcome(outcome);
}

}  // namespace limen::conformance
