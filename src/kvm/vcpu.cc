#include "kvm/vcpu.h"

#include <sys/mman.h>
#include <x86intrin.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include "kvm/exit_name.h"
#include "kvm/ioctl.h"
#include "kvm/kick_signal.h"
#include "kvm/supported_cpuid.h"
#include "x86/registers.h"

namespace limen::kvm {

using vcpu::ExitReason;

namespace {

/// Of IA32_MISC_ENABLE (SDM Vol. 4 table 2-2): performance monitoring is there, branch trace store
/// is not, precise event sampling is not.
constexpr uint64_t kFixed = 1u << 7 | 1u << 11 | 1u << 12;

}  // namespace

Vcpu::Vcpu(VmShared& vm, unsigned index, const x86::CpuidTable& cpuid,
           vcpu::LocalInterruptController& interrupts)
    : vm_(vm), index_(index), signature_(cpuid.answer(1, 0).eax), interrupts_(interrupts) {}

Vcpu::~Vcpu() {
  if (run_ != nullptr) ::munmap(run_, vm_.device->run_size());
}

Result<std::unique_ptr<Vcpu>> Vcpu::create(VmShared& vm, unsigned index,
                                           const x86::CpuidTable& cpuid,
                                           vcpu::LocalInterruptController& interrupts) {
  std::unique_ptr<Vcpu> made(new Vcpu(vm, index, cpuid, interrupts));
  LIMEN_TRY(made->open(cpuid));
  return made;
}

Result<> Vcpu::open(const x86::CpuidTable& cpuid) {
  prepare_kick_signal();
  // The number is the local APIC's ID.
  const unsigned long id = cpuid.answer(1, 0).ebx >> 24;
  fd_ = UniqueFd(call(vm_.fd.get(), KVM_CREATE_VCPU, id));
  if (!fd_.valid())
    return fail_errno(errno, fmt::format("accelerator 'kvm': cannot make processor {}", index_));
  void* shared =
      ::mmap(nullptr, vm_.device->run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (shared == MAP_FAILED) return fail_errno(errno, "mapping what a processor of KVM shares");
  run_ = static_cast<kvm_run*>(shared);

  LIMEN_TRY(set_cpuid(fd_.get(), cpuid));
  other_msrs_ = vm_.msrs.others(fd_.get());
  constexpr uint32_t kExtendedState = 0xD;
  guest_components_ = x86::xcr0::kX87 | x86::xcr0::kSse;
  if (const auto* shown = cpuid.find(kExtendedState, 0)) guest_components_ |= shown->eax;
  fixed_misc_enable_ = Msrs::read(fd_.get(), x86::msr::kMiscEnable).value_or(0) & kFixed;
  LIMEN_TRY(vm_.slots->add_processor(fd_.get()));
  if (vm_.late_writes != nullptr) LIMEN_TRY(vm_.late_writes->attach(fd_.get()));
  if (kernel_local_apic()) LIMEN_TRY(vm_.chips->add_processor(fd_.get()));
  return {};
}

void Vcpu::kick() {
  kicked_.store(true);
  interrupt();
}

void Vcpu::interrupt() {
  const std::lock_guard lock(wait_mutex_);
  woken_ = true;
  wake_.notify_one();
  // Otherwise it is on its way here and will look at what there is.
  if (in_kernel_.load() && thread_ && !::pthread_equal(*thread_, ::pthread_self()))
    ::pthread_kill(*thread_, kick_signal());
}

vcpu::Exit Vcpu::run() {
  set_running(run_);
  alarm_.emplace(kick_signal());
  alarm_tsc_ = UINT64_MAX;
  {
    const std::lock_guard lock(wait_mutex_);
    thread_ = ::pthread_self();
  }
  insert_breakpoints();
  pass_breakpoint();
  spare_watchdogs();
  bool leaving = false;
  std::optional<vcpu::Exit> exit;
  while (!exit) {
    // A signal since the last run was a kick's, which is noted elsewhere, or the alarm's, which may
    // have been too early.
    if (std::atomic_ref(run_->immediate_exit).exchange(0) != 0) alarm_tsc_ = UINT64_MAX;
    in_kernel_.store(true);
    if (kicked_.exchange(false)) leaving = true;
    if (leaving) {
      // What the last exit began (a read that waits for its value) is ended first.
      run_->immediate_exit = 1;
    } else if (!prepare()) {
      in_kernel_.store(false);
      wait();
      continue;
    }
    slot_changes_ = vm_.slots->changes();
    const uint64_t priority = run_->cr8, apic_base = run_->apic_base;
    const int result = ::ioctl(fd_.get(), KVM_RUN, 0);
    const int error = errno;
    in_kernel_.store(false);
    if (vm_.late_writes != nullptr) vm_.late_writes->deliver();
    if (!kernel_local_apic()) {
      // What the guest changed; what a device access changed of the same is newer than both.
      if (run_->cr8 != priority) interrupts_.set_task_priority(static_cast<uint8_t>(run_->cr8));
      if (run_->apic_base != apic_base)
        static_cast<void>(interrupts_.write_msr(x86::msr::kApicBase, run_->apic_base));
    }
    if (result < 0) {
      alarm_tsc_ = UINT64_MAX;  // it may have been the alarm, and too early
      if (error == EFAULT || error == EHWPOISON) {
        exit = failure(
            fmt::format("KVM_RUN: {}: the host has no page where the guest's memory is; its file "
                        "may have been cut, or its pool of huge pages be empty",
                        ::strerror(error)));
      } else if (error != EINTR && error != EAGAIN) {
        exit = failure(fmt::format("KVM_RUN: {}", ::strerror(error)));
      } else if (leaving) {
        exit = vcpu::Exit{ExitReason::kInterrupted, {}, {}};
      }
    } else {
      exit = handle_exit();
    }
  }
  if (passing_) {
    stopped_before_ = passing_;
    end_passing();
  }
  remove_breakpoints();
  {
    const std::lock_guard lock(wait_mutex_);
    thread_.reset();
  }
  alarm_.reset();
  set_running(nullptr);
  stood_since_ = std::chrono::steady_clock::now();
  return *exit;
}

void Vcpu::spare_watchdogs() {
  constexpr std::chrono::seconds kUnnoticed(1);
  if (!stood_since_ || std::chrono::steady_clock::now() - *stood_since_ < kUnnoticed) return;
  // EINVAL: the guest has no clock of the kernel's to be told by.
  static_cast<void>(call(fd_.get(), KVM_KVMCLOCK_CTRL, 0));
}

uint64_t Vcpu::guest_tsc() const { return __rdtsc() + tsc_offset_; }

std::chrono::duration<double> Vcpu::time_until(uint64_t tsc) const {
  constexpr double kLongest = 1e6;
  const uint64_t now = guest_tsc();
  if (tsc <= now) return {};
  const double seconds = static_cast<double>(tsc - now) / static_cast<double>(vm_.tsc_hz);
  return std::chrono::duration<double>(std::min(seconds, kLongest));
}

bool Vcpu::prepare() {
  if (const uint64_t due = interrupts_.next_timer_tsc(); due != UINT64_MAX)
    if (const uint64_t now = guest_tsc(); now >= due) interrupts_.timer_due(now);
  take_events();
  if (waits_for_startup_) return false;
  if (nmi_pending_) {
    call(fd_.get(), KVM_NMI, 0);
    nmi_pending_ = false;
    halted_ = false;
  }
  run_->request_interrupt_window = 0;
  const bool held = debug_.single_step && debug_.hold_interrupts;
  if (!held && interrupts_.has_interrupt()) {
    if (run_->ready_for_interrupt_injection != 0) {
      if (const auto vector = interrupts_.acknowledge()) {
        kvm_interrupt interrupt{.irq = *vector};
        call(fd_.get(), KVM_INTERRUPT, &interrupt);
        run_->ready_for_interrupt_injection = 0;
        halted_ = false;
      }
    }
    if (!halted_ && interrupts_.has_interrupt()) run_->request_interrupt_window = 1;
  }
  if (kernel_local_apic()) return true;
  if (halted_) return false;
  run_->cr8 = interrupts_.task_priority();
  set_alarm();
  return true;
}

void Vcpu::take_events() {
  using Event = vcpu::LocalInterruptController::Event;
  for (;;) {
    const auto request = interrupts_.take_event();
    if (request.event == Event::kNone) return;
    if (request.event == Event::kNmi) {
      nmi_pending_ = true;
      continue;
    }
    if (kernel_local_apic()) continue;  // the kernel does the rest
    constexpr uint64_t kBootstrapProcessor = 1u << 8;
    complete_access();
    auto now = state();
    if (request.event == Event::kInit) {
      uint64_t apic_base = kBootstrapProcessor;
      static_cast<void>(interrupts_.read_msr(x86::msr::kApicBase, apic_base));
      set_state(x86::state_after_init(now, signature_, (apic_base & kBootstrapProcessor) != 0));
    } else if (waits_for_startup_) {
      x86::start_up(now, request.startup_vector);
      set_state(now);
    }
  }
}

void Vcpu::complete_access() {
  // It stays set: a kick may have set it, too. The next run comes back at once.
  run_->immediate_exit = 1;
  while (run_->exit_reason == KVM_EXIT_IO || run_->exit_reason == KVM_EXIT_MMIO) {
    if (::ioctl(fd_.get(), KVM_RUN, 0) < 0) return;
    // Its next piece.
    if (run_->exit_reason == KVM_EXIT_IO) port_access();
    if (run_->exit_reason == KVM_EXIT_MMIO) memory_access();
  }
}

void Vcpu::wait() {
  std::unique_lock lock(wait_mutex_);
  const auto awake = [this] { return woken_ || kicked_.load(); };
  const uint64_t deadline = interrupts_.next_timer_tsc();
  if (deadline == UINT64_MAX) {
    wake_.wait(lock, awake);
  } else {
    wake_.wait_for(lock, time_until(deadline), awake);
  }
  woken_ = false;
}

void Vcpu::set_alarm() {
  const uint64_t due = interrupts_.next_timer_tsc();
  if (due == alarm_tsc_) return;
  alarm_tsc_ = due;
  if (due == UINT64_MAX) return alarm_->stop();
  alarm_->set(static_cast<uint64_t>(time_until(due).count() * 1e9));
}

std::string Vcpu::statistics() {
  std::string text;
  for (size_t i = 0; i < exits_.size(); ++i)
    if (exits_[i] != 0)
      text += fmt::format("{}: {}\n", exit_name(static_cast<uint32_t>(i)), exits_[i]);
  return text;
}

}  // namespace limen::kvm
