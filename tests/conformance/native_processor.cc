#include "conformance/native_processor.h"

#include <cpuid.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "conformance/native_entry.h"
#include "conformance/random.h"

namespace limen::conformance {

struct NativeProcessor::Mailbox {
  enum : uint32_t { kParent = 0, kChild = 1 };
  std::atomic<uint32_t> turn = kParent;
  std::atomic<uint32_t> next = 0;  ///< The trial under way, or the one to begin with.
  Batch batch;
  std::array<Outcome, kBatchSize> outcomes;
};

namespace {

using namespace x86;  // NOLINT(google-build-using-namespace): register names

constexpr uint64_t kIdentificationAndNestedTask = rflags::kIdentification | rflags::kNestedTask;

// Component offsets of the XSAVE area's standard format (SDM Vol. 1 13.4.3).
struct AreaLayout {
  uint32_t avx = 0, opmask = 0, zmm_high = 0, zmm_16_31 = 0;
};

uint32_t component_offset(unsigned component) {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  __cpuid_count(0xD, component, eax, ebx, ecx, edx);
  return eax == 0 ? 0 : ebx;
}

// The child's own state. Handlers use no thread-local storage: FS is not theirs alone.
struct Child {
  NativeProcessor::Mailbox* mailbox = nullptr;
  uint8_t* code = nullptr;  // writable view of the code page
  AreaLayout area;
  uint64_t features = 0;
  bool running = false;
};
Child g_child;

constexpr size_t kAlternateStackSize = 256 * 1024;

long futex(std::atomic<uint32_t>& word, int operation, uint32_t value, const timespec* timeout) {
  long result = FUTEX_WAIT;
  register const timespec* r10 asm("r10") = timeout;
  register uint64_t r8 asm("r8") = 0;
  register uint64_t r9 asm("r9") = 0;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(SYS_futex), "D"(&word), "S"(static_cast<long>(operation)),
                 "d"(static_cast<uint64_t>(value)), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

constexpr std::array<int, 16> kContextRegisters = {
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

void load_vectors(const VectorState& vector, uint8_t* area) {
  std::memcpy(area, vector.fxsave.data(), vector.fxsave.size());
  for (size_t i = 0; i < 16; ++i) {
    const uint8_t* zmm = vector.zmm[i].data();
    std::memcpy(area + 160 + 16 * i, zmm, 16);
    if (g_child.area.avx) std::memcpy(area + g_child.area.avx + 16 * i, zmm + 16, 16);
    if (g_child.area.zmm_high) std::memcpy(area + g_child.area.zmm_high + 32 * i, zmm + 32, 32);
    if (g_child.area.zmm_16_31)
      std::memcpy(area + g_child.area.zmm_16_31 + 64 * i, vector.zmm[16 + i].data(), 64);
  }
  if (g_child.area.opmask) std::memcpy(area + g_child.area.opmask, vector.opmask.data(), 64);
  uint64_t present = 0;
  std::memcpy(&present, area + 512, 8);
  present |= g_child.features;
  std::memcpy(area + 512, &present, 8);
}

void store_vectors(const uint8_t* area, VectorState& vector) {
  std::memcpy(vector.fxsave.data(), area, vector.fxsave.size());
  for (size_t i = 0; i < 16; ++i) {
    uint8_t* zmm = vector.zmm[i].data();
    std::memcpy(zmm, area + 160 + 16 * i, 16);
    if (g_child.area.avx) std::memcpy(zmm + 16, area + g_child.area.avx + 16 * i, 16);
    if (g_child.area.zmm_high) std::memcpy(zmm + 32, area + g_child.area.zmm_high + 32 * i, 32);
    if (g_child.area.zmm_16_31)
      std::memcpy(vector.zmm[16 + i].data(), area + g_child.area.zmm_16_31 + 64 * i, 64);
  }
  if (g_child.area.opmask) std::memcpy(vector.opmask.data(), area + g_child.area.opmask, 64);
}

// REG_CSGSFS holds CS, GS, FS and SS, 16 bits each.
void load_trial(const Trial& trial, const Batch& batch, ucontext_t& context) {
  const Image& image = batch.image;
  for (size_t i = 0; i < kWritablePages.size(); ++i)
    std::memcpy(reinterpret_cast<void*>(kWritablePages[i]), image.data() + i * kPage, kPage);
  for (const Patch& patch : trial.patches) {
    const uint64_t page = kWritablePages[patch.offset / kPage];
    std::memcpy(reinterpret_cast<void*>(page + patch.offset % kPage), patch.bytes.data(),
                patch.size);
  }
  if (batch.has_program) {
    std::memcpy(reinterpret_cast<void*>(kProgramAddress), batch.program.data(), kProgramSize);
  } else {
    std::memset(g_child.code, 0xCC, kPage);
    const uint64_t offset = trial.before.rip - kCodeAddress;
    std::memcpy(g_child.code + offset, trial.code.data(),
                std::min<uint64_t>(trial.code_size, kPage - offset));
  }

  auto& gregs = context.uc_mcontext.gregs;
  const Registers& before = trial.before;
  for (size_t i = 0; i < 16; ++i) gregs[kContextRegisters[i]] = static_cast<greg_t>(before.gpr[i]);
  gregs[REG_RIP] = static_cast<greg_t>(before.rip);
  gregs[REG_EFL] = static_cast<greg_t>(before.rflags);
  gregs[REG_CSGSFS] = static_cast<greg_t>(static_cast<uint64_t>(before.selectors[kCs]) |
                                          static_cast<uint64_t>(before.selectors[kSs]) << 48);
  TrapContext& trap = limen_conformance_context;
  trap.ds = before.selectors[kDs];
  trap.es = before.selectors[kEs];
  trap.fs = before.selectors[kFs];
  trap.gs = before.selectors[kGs];
  trap.fs_base = before.fs_base;
  trap.gs_base = before.gs_base;
  trap.flags = (before.rflags & kIdentificationAndNestedTask) | 2;
  load_vectors(before.vector, reinterpret_cast<uint8_t*>(context.uc_mcontext.fpregs));
}

void store_outcome(const ucontext_t& context, Outcome& outcome) {
  const auto& gregs = context.uc_mcontext.gregs;
  Registers& after = outcome.after;
  for (size_t i = 0; i < 16; ++i) after.gpr[i] = static_cast<uint64_t>(gregs[kContextRegisters[i]]);
  after.rip = static_cast<uint64_t>(gregs[REG_RIP]);
  after.rflags = static_cast<uint64_t>(gregs[REG_EFL]);
  const auto selectors = static_cast<uint64_t>(gregs[REG_CSGSFS]);
  const TrapContext& trap = limen_conformance_context;
  after.selectors[kCs] = static_cast<uint16_t>(selectors);
  after.selectors[kSs] = static_cast<uint16_t>(selectors >> 48);
  after.selectors[kDs] = trap.ds;
  after.selectors[kEs] = trap.es;
  after.selectors[kFs] = trap.fs;
  after.selectors[kGs] = trap.gs;
  after.fs_base = trap.fs_base;
  after.gs_base = trap.gs_base;
  store_vectors(reinterpret_cast<const uint8_t*>(context.uc_mcontext.fpregs), after.vector);
  outcome.vector = static_cast<uint8_t>(gregs[REG_TRAPNO]);
  outcome.error_code = static_cast<uint32_t>(gregs[REG_ERR]);
  outcome.fault_address = outcome.vector == 14 ? static_cast<uint64_t>(gregs[REG_CR2]) : 0;
  for (size_t i = 0; i < kWritablePages.size(); ++i)
    std::memcpy(outcome.image.data() + i * kPage, reinterpret_cast<void*>(kWritablePages[i]),
                kPage);
  if (g_child.mailbox->batch.has_program)
    std::memcpy(outcome.program.data(), reinterpret_cast<void*>(kProgramAddress), kProgramSize);
  outcome.ran = true;
}

bool map_page(int fd, uint64_t address, int protection, off_t offset) {
  return ::mmap(reinterpret_cast<void*>(address), kPage, protection,
                MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd,
                offset) == reinterpret_cast<void*>(address);
}

constexpr off_t kCodeOffset = 0;
constexpr off_t kReadOnlyOffset = kPage;
constexpr off_t kWritableOffset = 2 * kPage;
constexpr off_t kProgramOffset = kWritableOffset + static_cast<off_t>(kImageSize);
constexpr off_t kPagesSize = kProgramOffset + static_cast<off_t>(kProgramSize);

}  // namespace

}  // namespace limen::conformance

using limen::conformance::g_child;
using limen::conformance::NativeProcessor;

void limen_conformance_handle(void* user_context) {
  using Mailbox = NativeProcessor::Mailbox;
  auto& context = *static_cast<ucontext_t*>(user_context);
  Mailbox& mailbox = *g_child.mailbox;
  uint32_t next = mailbox.next.load(std::memory_order_relaxed);
  if (g_child.running) limen::conformance::store_outcome(context, mailbox.outcomes[next++]);
  mailbox.next.store(next, std::memory_order_relaxed);
  if (g_child.running && next == mailbox.batch.count) {
    g_child.running = false;
    mailbox.turn.store(Mailbox::kParent, std::memory_order_release);
    limen::conformance::futex(mailbox.turn, FUTEX_WAKE, 1, nullptr);
  }
  if (!g_child.running) {
    while (mailbox.turn.load(std::memory_order_acquire) != Mailbox::kChild)
      limen::conformance::futex(mailbox.turn, FUTEX_WAIT, Mailbox::kParent, nullptr);
    g_child.running = true;
    next = mailbox.next.load(std::memory_order_relaxed);
  }
  limen::conformance::load_trial(mailbox.batch.trials[next], mailbox.batch, context);
}

namespace limen::conformance {

uint64_t host_vector_features() {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  __cpuid_count(1, 0, eax, ebx, ecx, edx);
  if ((ecx & (1u << 27)) == 0) return xcr0::kX87 | xcr0::kSse;
  asm volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  return eax & (xcr0::kX87 | xcr0::kSse | xcr0::kAvx | xcr0::kAvx512);
}

void NativeProcessor::child_main() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit no_core{};
  ::setrlimit(RLIMIT_CORE, &no_core);
  g_child.mailbox = mailbox_;
  g_child.features = host_vector_features();
  if (g_child.features & xcr0::kAvx) g_child.area.avx = component_offset(2);
  if (g_child.features & xcr0::kOpmask)
    g_child.area = {component_offset(2), component_offset(5), component_offset(6),
                    component_offset(7)};
  g_child.code = static_cast<uint8_t*>(
      ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, pages_.get(), kCodeOffset));
  bool mapped = g_child.code != MAP_FAILED &&
                map_page(pages_.get(), kCodeAddress, PROT_READ | PROT_EXEC, kCodeOffset) &&
                map_page(pages_.get(), kReadOnlyAddress, PROT_READ, kReadOnlyOffset);
  for (size_t i = 0; i < kWritablePages.size(); ++i)
    mapped = mapped && map_page(pages_.get(), kWritablePages[i], PROT_READ | PROT_WRITE,
                                kWritableOffset + static_cast<off_t>(i * kPage));
  for (size_t i = 0; i < kProgramSize / kPage; ++i)
    mapped = mapped &&
             map_page(pages_.get(), kProgramAddress + i * kPage, PROT_READ | PROT_WRITE | PROT_EXEC,
                      kProgramOffset + static_cast<off_t>(i * kPage));
  void* stack = ::mmap(nullptr, kAlternateStackSize, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!mapped || stack == MAP_FAILED) ::_exit(2);
  const stack_t alternate{.ss_sp = stack, .ss_flags = 0, .ss_size = kAlternateStackSize};
  ::sigaltstack(&alternate, nullptr);
  asm volatile("rdfsbase %0" : "=r"(limen_conformance_context.host_fs_base));
  struct sigaction action {};
  action.sa_sigaction =
      reinterpret_cast<void (*)(int, siginfo_t*, void*)>(&limen_conformance_entry);
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  for (const int signal : {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE})
    ::sigaction(signal, &action, nullptr);
  // From here on the process lives in its signal handler.
  asm volatile("int3" ::: "memory");
  ::_exit(3);
}

Result<> NativeProcessor::spawn() {
  child_ = ::fork();
  if (child_ < 0) return fail_errno(errno, "forking the native child");
  if (child_ == 0) child_main();
  return {};
}

void NativeProcessor::end_child() {
  if (child_ <= 0) return;
  ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
  child_ = -1;
}

Result<std::unique_ptr<NativeProcessor>> NativeProcessor::create() {
  std::unique_ptr<NativeProcessor> self(new NativeProcessor());
  void* memory =
      ::mmap(nullptr, sizeof(Mailbox), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail_errno(errno, "mapping the native child's mailbox");
  self->mailbox_ = new (memory) Mailbox;
  self->pages_.reset(::memfd_create("limen-conformance", MFD_CLOEXEC));
  if (!self->pages_.valid()) return fail_errno(errno, "memfd_create");
  if (::ftruncate(self->pages_.get(), kPagesSize) != 0) return fail_errno(errno, "ftruncate");
  const auto page = self->read_only_page();
  if (::pwrite(self->pages_.get(), page.data(), page.size(), kReadOnlyOffset) !=
      static_cast<ssize_t>(page.size()))
    return fail_errno(errno, "writing the read-only page");
  LIMEN_TRY(self->spawn());
  return self;
}

NativeProcessor::~NativeProcessor() {
  end_child();
  if (mailbox_ != nullptr) ::munmap(mailbox_, sizeof(Mailbox));
}

Batch& NativeProcessor::batch() { return mailbox_->batch; }

std::span<const Outcome> NativeProcessor::outcomes() const {
  return {mailbox_->outcomes.data(), mailbox_->batch.count};
}

std::span<const uint8_t> NativeProcessor::read_only_page() {
  static const auto page = [] {
    std::array<uint8_t, kPage> bytes;
    Random random(kReadOnlyAddress);
    for (auto& byte : bytes) byte = static_cast<uint8_t>(random.next());
    return bytes;
  }();
  return page;
}

Result<> NativeProcessor::start() {
  if (mailbox_->batch.count == 0) return {};
  for (unsigned i = 0; i < mailbox_->batch.count; ++i) mailbox_->outcomes[i].ran = false;
  mailbox_->next.store(0, std::memory_order_relaxed);
  mailbox_->turn.store(Mailbox::kChild, std::memory_order_release);
  futex(mailbox_->turn, FUTEX_WAKE, 1, nullptr);
  return {};
}

Result<> NativeProcessor::finish() {
  unsigned waits = 0;
  uint32_t seen = mailbox_->next.load(std::memory_order_relaxed);
  while (mailbox_->batch.count != 0 &&
         mailbox_->turn.load(std::memory_order_acquire) == Mailbox::kChild) {
    const timespec timeout{.tv_sec = 0, .tv_nsec = 50'000'000};
    if (futex(mailbox_->turn, FUTEX_WAIT, Mailbox::kChild, &timeout) != -ETIMEDOUT) continue;
    const uint32_t next = mailbox_->next.load(std::memory_order_relaxed);
    const bool dead = ::waitpid(child_, nullptr, WNOHANG) == child_;
    const bool stuck = next == seen && ++waits > 100;
    if (next != seen) waits = 0;
    seen = next;
    if (!dead && !stuck) continue;
    if (dead) child_ = -1;
    end_child();
    waits = 0;
    // Pass over the trial that did it.
    mailbox_->next.store(next + 1, std::memory_order_relaxed);
    if (next + 1 >= mailbox_->batch.count) mailbox_->turn.store(Mailbox::kParent);
    LIMEN_TRY(spawn());
  }
  return {};
}

}  // namespace limen::conformance
