#include "kvm/probe_guest.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <time.h>

#include <cerrno>
#include <cstring>
#include <span>

#include "kvm/ioctl.h"
#include "kvm/supported_cpuid.h"
#include "kvm/time_limit.h"
#include "x86/registers.h"

namespace limen::kvm {
namespace {

// Guest-physical addresses, which linear ones are equal to.
constexpr uint64_t kGdt = 0x0000, kTss = 0x0800, kIdt = 0x1000;
constexpr uint64_t kPml4 = 0x2000, kDirectoryPointers = 0x3000, kDirectory = 0x4000,
                   kPageTable = 0x5000;
constexpr uint64_t kKernelCode = 0x6000, kKernelStackTop = 0x8000;
constexpr uint64_t kUserCode = 0x8000, kUserData = 0x9000, kUserStackTop = 0xB000;
constexpr uint64_t kMemorySize = 0x10000;
constexpr uint64_t kAnswer = 0x100000;  ///< Not memory: a store there ends a program.
/// Where Intel's VMX wants pages of its own (KVM_SET_TSS_ADDR).
constexpr uint64_t kTssPages = 0xFFFB'D000;

// Parts of kKernelCode.
constexpr uint64_t kKernelLoop = kKernelCode, kBreakpointCode = kKernelCode + 0x100,
                   kBreakpointHandler = kKernelCode + 0x200, kSystemCallEntry = kKernelCode + 0x300,
                   kHandlers = kKernelCode + 0x400;
constexpr uint64_t kHandlerSize = 16;
constexpr unsigned kExceptions = 32, kBreakpointVector = 3;
// Parts of kUserCode.
constexpr uint64_t kUserLoop = kUserCode, kSystemCallCode = kUserCode + 0x100;

// As Linux has them, which is what a paravirtual back end counts on.
constexpr uint16_t kKernelCs = 0x10, kKernelSs = 0x18, kUserSs = 0x2B, kUserCs = 0x33,
                   kTaskSelector = 0x40;
constexpr uint64_t kStar = uint64_t{0x23} << 48 | uint64_t{kKernelCs} << 32;

// What a program answers. Of an exception that it does not want: kExceptionAnswer plus the vector.
constexpr uint32_t kBreakpointAnswer = 0x33;
constexpr uint32_t kSystemCallAnswer = uint32_t{kUserCs} << 16 | kKernelCs;
constexpr uint32_t kExceptionAnswer = 0xEC00;

/// mov [rdi], eax; jmp to itself. RDI is kAnswer.
constexpr std::array<uint8_t, 4> kStoreEax = {0x89, 0x07, 0xEB, 0xFE};
constexpr std::array<uint8_t, 5> kBreakpointProgram = {
    0xCC,        // int3
    0x89, 0x1F,  // mov [rdi], ebx
    0xEB, 0xFE,  // jmp to itself
};
constexpr std::array<uint8_t, 7> kBreakpointReturn = {
    0xBB, kBreakpointAnswer,
    0,    0,
    0,           // mov ebx, kBreakpointAnswer
    0x48, 0xCF,  // iretq
};
constexpr std::array<uint8_t, 9> kSystemCallProgram = {
    0x0F, 0x05,        // syscall
    0x8C, 0xC8,        // mov eax, cs
    0xC1, 0xE0, 0x10,  // shl eax, 16
    0x09, 0xD8,        // or eax, ebx
};
constexpr std::array<uint8_t, 5> kSystemCallReturn = {
    0x8C, 0xCB,        // mov ebx, cs
    0x48, 0x0F, 0x07,  // sysretq
};

struct Exception {
  unsigned vector;
  std::string_view name;
};
constexpr std::array kNamedExceptions = {
    Exception{0, "#DE"},  Exception{1, "#DB"},  Exception{3, "#BP"},
    Exception{6, "#UD"},  Exception{8, "#DF"},  Exception{11, "#NP"},
    Exception{12, "#SS"}, Exception{13, "#GP"}, Exception{14, "#PF"},
};

std::string exception_name(unsigned vector) {
  for (const auto& exception : kNamedExceptions)
    if (exception.vector == vector) return std::string(exception.name);
  return fmt::format("exception {}", vector);
}

std::chrono::duration<double> thread_time() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

kvm_segment segment(uint16_t selector, bool code) {
  constexpr uint8_t kAccessedCode = 11, kAccessedData = 3;
  return {.base = 0,
          .limit = 0xFFFF'FFFF,
          .selector = selector,
          .type = code ? kAccessedCode : kAccessedData,
          .present = 1,
          .dpl = static_cast<uint8_t>(selector & 3),
          .db = static_cast<uint8_t>(!code),
          .s = 1,
          .l = static_cast<uint8_t>(code),
          .g = 1,
          .avl = 0,
          .unusable = 0,
          .padding = 0};
}

/// What is wrong with a program's answer; empty: nothing.
std::string trouble_in(ProbeGuest::Program program, uint64_t rounds, uint32_t answer) {
  const auto wanted = [&] {
    switch (program) {
      case ProbeGuest::Program::kBreakpoint:
        return kBreakpointAnswer;
      case ProbeGuest::Program::kSystemCall:
        return kSystemCallAnswer;
      default:  // RAX of the loop: the sum of all numbers up to `rounds`
        return static_cast<uint32_t>(rounds * (rounds + 1) / 2);
    }
  }();
  if (answer == wanted) return {};
  if (answer >= kExceptionAnswer && answer < kExceptionAnswer + kExceptions)
    return exception_name(answer - kExceptionAnswer);
  if (program == ProbeGuest::Program::kSystemCall)
    return fmt::format("ran on with CS {:04x}h, came back with CS {:04x}h", answer & 0xFFFF,
                       answer >> 16);
  return fmt::format("{:#x} is the answer, not {:#x}", answer, wanted);
}

}  // namespace

Result<std::unique_ptr<ProbeGuest>> ProbeGuest::create(const Device& device) {
  if (device.extension(KVM_CAP_IMMEDIATE_EXIT) == 0)
    return fail("KVM_CAP_IMMEDIATE_EXIT is not there (a kernel since 4.13 is needed)");
  std::unique_ptr<ProbeGuest> guest(new ProbeGuest);
  guest->vm_ = LIMEN_TRY(device.create_vm());
  if (device.extension(KVM_CAP_SET_TSS_ADDR) > 0)
    LIMEN_TRY(try_call(guest->vm_.get(), KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR", kTssPages));

  void* memory =
      ::mmap(nullptr, kMemorySize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail_errno(errno, "memory for a guest");
  guest->memory_ = static_cast<std::byte*>(memory);
  guest->write_memory();
  kvm_userspace_memory_region region{};
  region.memory_size = kMemorySize;
  region.userspace_addr = reinterpret_cast<uint64_t>(memory);
  LIMEN_TRY(try_call(guest->vm_.get(), KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION",
                     &region));

  guest->vcpu_ =
      UniqueFd(LIMEN_TRY(try_call(guest->vm_.get(), KVM_CREATE_VCPU, "KVM_CREATE_VCPU", 0)));
  guest->run_size_ = device.run_size();
  void* run =
      ::mmap(nullptr, guest->run_size_, PROT_READ | PROT_WRITE, MAP_SHARED, guest->vcpu_.get(), 0);
  if (run == MAP_FAILED) return fail_errno(errno, "what a vCPU shares with the kernel: mmap");
  guest->run_ = static_cast<kvm_run*>(run);
  LIMEN_TRY(set_cpuid(guest->vcpu_.get(), LIMEN_TRY(device.raw_cpuid())));
  LIMEN_TRY(guest->set_system_call_entry());
  LIMEN_TRY(allow_time_limit(guest->vcpu_.get()));
  return guest;
}

ProbeGuest::~ProbeGuest() {
  if (run_ != nullptr) ::munmap(run_, run_size_);
  if (memory_ != nullptr) ::munmap(memory_, kMemorySize);
}

void ProbeGuest::write_memory() {
  const auto put = [this](uint64_t address, const auto&... parts) {
    ((std::memcpy(memory_ + address, std::data(parts), std::size(parts) * sizeof parts[0]),
      address += std::size(parts) * sizeof parts[0]),
     ...);
  };
  // SDM Vol. 3A 4.5: present, writable, user. One table maps the first 2 MiB, kAnswer among them.
  constexpr uint64_t kTable = 7, kSupervisor = 3, kPage = 4096;
  put(kPml4, std::array{kDirectoryPointers | kTable});
  put(kDirectoryPointers, std::array{kDirectory | kTable});
  put(kDirectory, std::array{kPageTable | kTable});
  for (const uint64_t page : {kGdt, kIdt, kKernelCode, kKernelStackTop - kPage})
    put(kPageTable + page / kPage * 8, std::array{page | kSupervisor});
  for (const uint64_t page : {kUserCode, kUserData, kUserStackTop - kPage, kAnswer})
    put(kPageTable + page / kPage * 8, std::array{page | kTable});

  // SDM Vol. 3A 3.4.5 and 7.2.3: 64-bit code, data; the TSS has two words.
  constexpr uint64_t kTssLimit = 0x67;
  put(kGdt,
      std::array<uint64_t, 10>{0, 0, 0x00AF'9B00'0000'FFFF, 0x00CF'9300'0000'FFFF,
                               0x00CF'FB00'0000'FFFF, 0x00CF'F300'0000'FFFF, 0x00AF'FB00'0000'FFFF,
                               0, 0x0000'8B00'0000'0000 | kTss << 16 | kTssLimit, 0});
  put(kTss + 4, std::array{kKernelStackTop});
  // SDM Vol. 3A 6.14.1: interrupt gates; ring 3 may use that of INT3.
  for (uint64_t vector = 0; vector < kExceptions; ++vector) {
    const bool breakpoint = vector == kBreakpointVector;
    const uint64_t to = breakpoint ? kBreakpointHandler : kHandlers + vector * kHandlerSize;
    put(kIdt + vector * 16,
        std::array{(to & 0xFFFF) | uint64_t{kKernelCs} << 16 | uint64_t{0x8E00} << 32,
                   uint64_t{0}});
    const uint32_t answer = kExceptionAnswer + static_cast<uint32_t>(vector);
    if (!breakpoint)
      put(to, std::array<uint8_t, 1>{0xB8}, std::array{answer}, kStoreEax);  // mov eax, answer
  }

  put(kKernelLoop, kProbeLoop, kStoreEax);
  put(kUserLoop, kProbeLoop, kStoreEax);
  put(kBreakpointCode, kBreakpointProgram);
  put(kBreakpointHandler, kBreakpointReturn);
  put(kSystemCallCode, kSystemCallProgram, kStoreEax);
  put(kSystemCallEntry, kSystemCallReturn);
}

Result<> ProbeGuest::set_system_call_entry() {
  struct {
    kvm_msrs header;
    std::array<kvm_msr_entry, 3> entries;
  } msrs{};
  msrs.header.nmsrs = 3;
  msrs.entries = {{{.index = x86::msr::kStar, .reserved = 0, .data = kStar},
                   {.index = x86::msr::kLstar, .reserved = 0, .data = kSystemCallEntry},
                   {.index = x86::msr::kFmask, .reserved = 0, .data = 0}}};
  const int set = LIMEN_TRY(try_call(vcpu_.get(), KVM_SET_MSRS, "KVM_SET_MSRS", &msrs));
  if (set != 3) return fail("KVM_SET_MSRS: MSR {:#x} is refused", msrs.entries.at(set).index);
  return {};
}

Result<> ProbeGuest::set_registers(Program program, uint64_t rounds) {
  using Entry = std::pair<uint64_t, bool>;
  const auto [start, user] = [&]() -> Entry {
    switch (program) {
      case Program::kKernelLoop:
        return {kKernelLoop, false};
      case Program::kUserLoop:
        return {kUserLoop, true};
      case Program::kBreakpoint:
        return {kBreakpointCode, false};
      case Program::kSystemCall:
        break;
    }
    return {kSystemCallCode, true};
  }();

  kvm_sregs system{};
  LIMEN_TRY(try_call(vcpu_.get(), KVM_GET_SREGS, "KVM_GET_SREGS", &system));
  system.cs = segment(user ? kUserCs : kKernelCs, true);
  system.ds = system.es = system.fs = system.gs = system.ss =
      segment(user ? kUserSs : kKernelSs, false);
  system.tr = {};
  system.tr.base = kTss;
  system.tr.limit = 0x67;
  system.tr.selector = kTaskSelector;
  system.tr.type = 11;
  system.tr.present = 1;
  system.ldt = {};
  system.ldt.unusable = 1;
  system.gdt = {.base = kGdt, .limit = 0x4F, .padding = {}};
  system.idt = {.base = kIdt, .limit = kExceptions * 16 - 1, .padding = {}};
  system.cr0 = x86::cr0::kProtection | x86::cr0::kMonitorCoprocessor | x86::cr0::kExtensionType |
               x86::cr0::kNumericError | x86::cr0::kWriteProtect | x86::cr0::kPaging;
  system.cr3 = kPml4;
  system.cr4 = x86::cr4::kPae;
  system.efer = x86::efer::kSce | x86::efer::kLme | x86::efer::kLma;
  LIMEN_TRY(try_call(vcpu_.get(), KVM_SET_SREGS, "KVM_SET_SREGS", &system));

  kvm_regs registers{};
  registers.rip = start;
  registers.rsp = user ? kUserStackTop : kKernelStackTop;
  registers.rflags = x86::rflags::kAlwaysSet;
  registers.rcx = rounds;
  registers.rsi = kUserData;
  registers.rdi = kAnswer;
  LIMEN_TRY(try_call(vcpu_.get(), KVM_SET_REGS, "KVM_SET_REGS", &registers));
  return {};
}

Result<ProbeGuest::Outcome> ProbeGuest::run(Program program, uint64_t rounds,
                                            std::chrono::nanoseconds limit) {
  LIMEN_TRY(set_registers(program, rounds));
  const auto before = thread_time();
  int error = 0;
  {
    const TimeLimit time_limit(limit);
    if (!time_limit.armed()) return fail("no timer is left for the probe (ulimit -i)");
    // Not call(): that goes on after a signal.
    if (::ioctl(vcpu_.get(), KVM_RUN, 0) < 0) error = errno;
  }
  const auto time = thread_time() - before;
  auto outcome = LIMEN_TRY(outcome_of(program, rounds, error));
  outcome.processor_time = time;
  // Has the kernel finish the instruction that came out, before the registers change.
  run_->immediate_exit = 1;
  (void)::ioctl(vcpu_.get(), KVM_RUN, 0);
  run_->immediate_exit = 0;
  return outcome;
}

Result<ProbeGuest::Outcome> ProbeGuest::outcome_of(Program program, uint64_t rounds,
                                                   int run_errno) {
  Outcome outcome;
  if (run_errno == EINTR || run_errno == EAGAIN) {
    kvm_regs registers{};
    LIMEN_TRY(try_call(vcpu_.get(), KVM_GET_REGS, "KVM_GET_REGS", &registers));
    outcome.timed_out = true;
    outcome.rounds_left = registers.rcx;
    outcome.trouble = "does not come to an end";
    return outcome;
  }
  if (run_errno != 0) {
    outcome.trouble = fail_errno(run_errno, "KVM_RUN").error().message;
    return outcome;
  }
  switch (run_->exit_reason) {
    case KVM_EXIT_MMIO: {
      uint32_t answer = 0;
      std::memcpy(&answer, run_->mmio.data, sizeof answer);
      if (run_->mmio.phys_addr != kAnswer || run_->mmio.is_write == 0 || run_->mmio.len != 4)
        outcome.trouble = fmt::format("an access of {} bytes to {:#x}", +run_->mmio.len,
                                      uint64_t{run_->mmio.phys_addr});
      else
        outcome.trouble = trouble_in(program, rounds, answer);
      break;
    }
    case KVM_EXIT_INTERNAL_ERROR:
      outcome.trouble = run_->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                            ? "emulation failure"
                            : fmt::format("internal error {}", uint32_t{run_->internal.suberror});
      break;
    case KVM_EXIT_SHUTDOWN:
      outcome.trouble = "triple fault";
      break;
    case KVM_EXIT_FAIL_ENTRY:
      outcome.trouble = fmt::format("the processor refuses the guest ({:#x})",
                                    uint64_t{run_->fail_entry.hardware_entry_failure_reason});
      break;
    default:
      outcome.trouble = fmt::format("exit reason {}", uint32_t{run_->exit_reason});
  }
  return outcome;
}

}  // namespace limen::kvm
