#include "cli/host/soft_speed.h"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "soft/soft_accelerator.h"
#include "vcpu/accelerator.h"
#include "vcpu/no_interrupts.h"
#include "x86/registers.h"

namespace limen::cli::host {
namespace {

/// uint64_t work(uint64_t* table, uint64_t rounds), by the calling convention.
constexpr std::array<uint8_t, 63> kWork = {
    0xB8, 0x01, 0x00, 0x00, 0x00,              // mov eax, 1
    0xE8, 0x06, 0x00, 0x00, 0x00,              // round: call step
    0x48, 0xFF, 0xCE,                          // dec rsi
    0x75, 0xF6,                                // jnz round
    0xC3,                                      // ret
    0x48, 0x69, 0xC0, 0x2D, 0xF4, 0x51, 0x58,  // step: imul rax, rax, 5851F42Dh
    0x48, 0x05, 0x39, 0x30, 0x00, 0x00,        // add rax, 12345
    0x48, 0x89, 0xC2,                          // mov rdx, rax
    0x48, 0xC1, 0xEA, 0x33,                    // shr rdx, 51
    0x48, 0x8B, 0x0C, 0xD7,                    // mov rcx, [rdi+rdx*8]
    0x48, 0x01, 0xC1,                          // add rcx, rax
    0xF7, 0xC6, 0x07, 0x00, 0x00, 0x00,        // test esi, 7
    0x75, 0x04,                                // jnz over the next
    0x48, 0xC1, 0xC1, 0x07,                    // rol rcx, 7
    0x48, 0x89, 0x0C, 0xD7,                    // mov [rdi+rdx*8], rcx
    0x48, 0x31, 0xC8,                          // xor rax, rcx
    0xC3,                                      // ret
};
constexpr size_t kTableSize = size_t{8} << 13;

/// The guest calls kWork and says on a port that it is done.
constexpr uint8_t kDonePort = 0x80;
constexpr uint64_t kMemorySize = uint64_t{2} << 20;
constexpr uint64_t kPml4 = 0x1000, kDirectoryPointers = 0x2000, kDirectory = 0x3000;
constexpr uint64_t kStart = 0x10000, kWorkAt = kStart + 0x100, kTable = 0x20000,
                   kStackTop = 0x40000;
constexpr std::array<uint8_t, 8> kCallWork = {
    0xE8, 0xFB,      0x00, 0x00, 0x00,  // call kWorkAt
    0xE6, kDonePort,                    // out kDonePort, al
    0xF4,                               // hlt
};

constexpr uint64_t kTrialRounds = 200'000;
/// What the guest and the processor both run until it can be told apart from noise, each twice.
constexpr double kSeconds = 0.25;

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

struct Run {
  uint64_t answer = 0;
  double rate = 0;  ///< Rounds a second.
};

class NativeWork {
 public:
  static Result<std::unique_ptr<NativeWork>> create() {
    std::unique_ptr<NativeWork> work(new NativeWork);
    work->code_ =
        ::mmap(nullptr, kWork.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (work->code_ == MAP_FAILED) return fail_errno(errno, "memory for native code");
    std::ranges::copy(kWork, static_cast<uint8_t*>(work->code_));
    if (::mprotect(work->code_, kWork.size(), PROT_READ | PROT_EXEC) != 0)
      return fail_errno(errno, "this process may not make code: mprotect");
    return work;
  }
  ~NativeWork() {
    if (code_ != MAP_FAILED) ::munmap(code_, kWork.size());
  }
  NativeWork(const NativeWork&) = delete;
  NativeWork& operator=(const NativeWork&) = delete;

  Run run(uint64_t rounds) {
    using Function = uint64_t (*)(uint64_t*, uint64_t);
    std::ranges::fill(table_, 0);
    const double start = thread_seconds();
    const uint64_t answer = reinterpret_cast<Function>(code_)(table_.data(), rounds);
    return {answer, static_cast<double>(rounds) / (thread_seconds() - start)};
  }

 private:
  NativeWork() = default;
  void* code_ = MAP_FAILED;
  std::vector<uint64_t> table_ = std::vector<uint64_t>(kTableSize / sizeof(uint64_t));
};

class DonePort final : public memory::IoHandler {
 public:
  uint64_t io_read(uint64_t, unsigned) override { return 0; }
  void io_write(uint64_t, unsigned, uint64_t) override { vcpu->kick(); }
  vcpu::Vcpu* vcpu = nullptr;
};

class Guest {
 public:
  static Result<std::unique_ptr<Guest>> create() {
    std::unique_ptr<Guest> guest(new Guest);
    const memory::GuestMemory::Layout layout{.start = {0}, .size = kMemorySize};
    guest->ram_ = LIMEN_TRY(memory::GuestMemory::create(std::span(&layout, 1)));
    // SDM Vol. 3A 4.5: present, writable; the directory's entry is a page of 2 MiB.
    constexpr uint64_t kEntry = 3, kLargePage = 0x80;
    LIMEN_TRY(guest->put(kPml4, std::array{kDirectoryPointers | kEntry}));
    LIMEN_TRY(guest->put(kDirectoryPointers, std::array{kDirectory | kEntry}));
    LIMEN_TRY(guest->put(kDirectory, std::array{kLargePage | kEntry}));
    LIMEN_TRY(guest->put(kStart, kCallWork));
    LIMEN_TRY(guest->put(kWorkAt, kWork));
    guest->accelerator_ = soft::make_soft_accelerator();
    guest->vm_ =
        LIMEN_TRY(guest->accelerator_->create_vm({*guest->ram_, guest->ports_, guest->mmio_}));
    guest->vcpu_ = LIMEN_TRY(
        guest->vm_->create_vcpu(0, guest->accelerator_->supported_cpuid(), guest->interrupts_));
    guest->done_.vcpu = guest->vcpu_.get();
    guest->ports_.claim(kDonePort, 1, guest->done_, "done");
    return guest;
  }

  Result<Run> run(uint64_t rounds) {
    LIMEN_TRY(put(kTable, std::vector<uint8_t>(kTableSize)));
    vcpu_->set_state(start_state(rounds));
    const double start = thread_seconds();
    const auto exit = vcpu_->run();
    const double took = thread_seconds() - start;
    const auto state = vcpu_->state();
    if (exit.reason != vcpu::ExitReason::kInterrupted || state.gpr[x86::kRsi] != 0)
      return fail("the guest on -accel soft ended at {:#x}{}{}", state.rip,
                  exit.detail.empty() ? "" : ": ", exit.detail);
    return Run{state.gpr[x86::kRax], static_cast<double>(rounds) / took};
  }

 private:
  Guest() = default;

  template <typename Bytes>
  Result<> put(uint64_t address, const Bytes& bytes) {
    LIMEN_TRY(ram_->write({address}, std::as_bytes(std::span(bytes))));
    ram_->note_written({address}, std::as_bytes(std::span(bytes)).size());
    return {};
  }

  /// Long mode, ring 0.
  static x86::CpuState start_state(uint64_t rounds) {
    x86::CpuState state = x86::reset_state(0);
    for (auto& segment : state.system.segments) {
      segment.selector = 0x10;
      segment.base = 0;
      segment.limit = 0xFFFF'FFFF;
      segment.attributes |= x86::Segment::kDefaultBig | x86::Segment::kGranularity;
    }
    auto& code = state.system.segments[x86::kCs];
    code.selector = 0x08;
    code.attributes =
        static_cast<uint16_t>((code.attributes & ~x86::Segment::kDefaultBig) | x86::Segment::kLong);
    state.system.cr0 = x86::cr0::kProtection | x86::cr0::kExtensionType | x86::cr0::kNumericError |
                       x86::cr0::kWriteProtect | x86::cr0::kPaging;
    state.system.cr3 = kPml4;
    state.system.cr4 = x86::cr4::kPae;
    state.system.efer = x86::efer::kLme | x86::efer::kLma;
    state.rip = kStart;
    state.gpr[x86::kRsp] = kStackTop;
    state.gpr[x86::kRdi] = kTable;
    state.gpr[x86::kRsi] = rounds;
    return state;
  }

  std::unique_ptr<memory::GuestMemory> ram_;
  memory::IoSpace ports_{"ports"};
  memory::IoSpace mmio_{"mmio"};
  vcpu::NoInterrupts interrupts_;
  DonePort done_;
  std::unique_ptr<vcpu::Accelerator> accelerator_;
  std::unique_ptr<vcpu::Vm> vm_;
  std::unique_ptr<vcpu::Vcpu> vcpu_;
};

uint64_t rounds_for(double rate) {
  return std::max(kTrialRounds, static_cast<uint64_t>(rate * kSeconds));
}

}  // namespace

Result<SoftSpeed> measure_soft() {
  const auto native = LIMEN_TRY(NativeWork::create());
  const auto guest = LIMEN_TRY(Guest::create());
  // The guest's first run translates it.
  LIMEN_TRY(guest->run(kTrialRounds));
  const Run trial = LIMEN_TRY(guest->run(kTrialRounds));
  const Run check = native->run(kTrialRounds);
  if (trial.answer != check.answer)
    return fail("a guest on -accel soft computes {:#x}, the processor {:#x}", trial.answer,
                check.answer);
  SoftSpeed speed{.native_rate = check.rate, .soft_rate = trial.rate};
  for (int i = 0; i < 2; ++i) {
    speed.native_rate = std::max(speed.native_rate, native->run(rounds_for(check.rate)).rate);
    const Run run = LIMEN_TRY(guest->run(rounds_for(trial.rate)));
    speed.soft_rate = std::max(speed.soft_rate, run.rate);
  }
  return speed;
}

}  // namespace limen::cli::host
