#include "soft/interpret/runner.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "soft/interpret/delivery.h"
#include "soft/interpret/system/features.h"
#include "soft/translate/host_thread.h"

namespace limen::soft::interpret {

using vcpu::ExitReason;
using x86::Exception;
namespace flags = x86::rflags;

namespace {

/// Blocks between two looks at the APIC timer: a few microseconds.
constexpr unsigned kBlocksPerPoll = 128;

/// A timer that is overdue by so much tells of a processor that did not run: SIGSTOP, a host that
/// slept.
constexpr uint64_t kSecondsOfStandstill = 2;

/// Instructions that clear TF on their way into a handler: no trap follows them then. A trap behind
/// SYSCALL would hit the kernel's entry code. SYSRET looks at TF itself when it is done.
bool may_clear_trap_flag(const Operation& operation) {
  return operation.mnemonic == ZYDIS_MNEMONIC_INT || operation.mnemonic == ZYDIS_MNEMONIC_INT3 ||
         operation.mnemonic == ZYDIS_MNEMONIC_INT1 || operation.mnemonic == ZYDIS_MNEMONIC_INTO ||
         operation.mnemonic == ZYDIS_MNEMONIC_SYSCALL ||
         operation.mnemonic == ZYDIS_MNEMONIC_SYSRET;
}

/// Says to other processors that this one runs guest code.
class GuestRun {
 public:
  explicit GuestRun(Mmu& mmu) : mmu_(mmu) { mmu_.enter_guest(); }
  ~GuestRun() { mmu_.leave_guest(); }
  GuestRun(const GuestRun&) = delete;
  GuestRun& operator=(const GuestRun&) = delete;

 private:
  Mmu& mmu_;
};

}  // namespace

Runner::Runner(Cpu& cpu, uint64_t tsc_hz, size_t code_size) : cpu_(cpu), tsc_hz_(tsc_hz) {
  if (code_size != 0) translator_ = std::make_unique<translate::Translator>(cpu, code_size);
}

void Runner::kick() {
  kicked_ = true;
  interrupt();
}

void Runner::interrupt() {
  cpu_.attention.call();
  const std::lock_guard lock(wait_mutex_);
  wake_.notify_one();
}

vcpu::Exit Runner::run() {
  look_up_ = true;
  const GuestRun inside(cpu_.mmu);
  if (cpu_.debugger.single_step()) [[unlikely]]
    return run_one_step();
  std::optional<translate::HostThread> thread;
  if (translator_) {
    thread.emplace(cpu_, *translator_);
    alarm_ = &thread->alarm();
    alarm_tsc_ = UINT64_MAX;
  }
  for (;;) {
    Next next = Next::kGoOn;
    if (cpu_.mmu.has_debugger_hits()) [[unlikely]]
      next = look_for_stop();
    else if (look_up_ || cpu_.attention.is_called()) [[unlikely]]
      next = service();
    try {
      while (next == Next::kGoOn && !look_up_ && !cpu_.attention.is_called()) {
        if (--blocks_until_poll_ == 0) [[unlikely]]
          poll_timer();
        if (cpu_.debugger.active()) [[unlikely]] {
          next = look_for_stop();
          if (next != Next::kGoOn) break;
        }
        if (needs_single_step()) [[unlikely]]
          next = run_single();
        else if (translator_ && translator_->handles_mode())
          next = run_translated();
        else
          next = run_interpreted();
      }
    } catch (const Exception& exception) {
      next = deliver(exception);
    }
    if (next == Next::kReturn) return {ExitReason::kInterrupted, {}};
    if (next == Next::kShutdown) return {ExitReason::kShutdown, "triple fault"};
    if (next == Next::kStop) return {.reason = ExitReason::kDebug, .debug = stop_};
  }
}

Runner::Next Runner::run_translated() {
  // The alarm is moved only to earlier moments: one that rings too early costs less than setting it
  // each time that the guest puts its deadline off.
  const uint64_t now = cpu_.guest_tsc();
  const uint64_t deadline = cpu_.interrupts.next_timer_tsc();
  if (alarm_tsc_ <= now) alarm_tsc_ = UINT64_MAX;
  if (deadline < alarm_tsc_) {
    const double seconds =
        deadline > now ? static_cast<double>(deadline - now) / static_cast<double>(tsc_hz_) : 0;
    alarm_->set(static_cast<uint64_t>(std::min(seconds, 1e6) * 1e9));
    alarm_tsc_ = deadline;
  }
  switch (translator_->run()) {
    case translate::Translator::Outcome::kAttention:
    case translate::Translator::Outcome::kLookAround:
      look_up_ = true;
      break;
    case translate::Translator::Outcome::kInterpret:
      return run_interpreted();
  }
  return Next::kGoOn;
}

Runner::Next Runner::run_interpreted() {
  if (cpu_.debugger.active()) [[unlikely]]
    return run_block_to_breakpoint();
  run_block(cache_.find(cpu_));
  return Next::kGoOn;
}

void Runner::run_block(const Block& block) {
  visited_[visited_next_++ % visited_.size()] = {cpu_.code_linear(cpu_.rip), cpu_.mode,
                                                 block.count};
  look_up_ = block.ends_in_system;
  cpu_.leave_block = false;
  const Operation* operation = block.operations();
  const Operation* const end = operation + operations_inside_segment(block);
  do {
    execute(*operation);
    ++operation;
  } while (operation != end && !cpu_.leave_block);
  instructions_ += static_cast<uint64_t>(operation - block.operations());
}

unsigned Runner::operations_inside_segment(const Block& block) const {
  if (cpu_.mode == decode::CodeMode::k64) [[likely]]
    return block.count;
  const uint64_t limit = cpu_.system.segments[x86::kCs].limit;
  if (cpu_.rip + block.length - 1 <= limit) [[likely]]
    return block.count;
  // The block leaves the segment somewhere: go up to there one instruction at a time.
  if (cpu_.rip + block.operations()[0].length - 1 > limit)
    Cpu::raise(Exception::general_protection());
  return 1;
}

Runner::Next Runner::run_single() {
  const uint64_t breakpoints = (cpu_.flags_rest & flags::kResume)
                                   ? 0
                                   : instruction_breakpoint_hits(cpu_, cpu_.code_linear(cpu_.rip));
  // MOV SS holds back instruction breakpoints on Intel's processors only (SDM Vol. 3A 6.8.3).
  if (breakpoints != 0 && (!cpu_.activity.mov_ss_shadow || is_amd(cpu_)))
    return deliver({.vector = x86::Vector::kDebug, .debug_status = breakpoints});

  const bool trap = (cpu_.flags_rest & flags::kTrap) != 0;
  const Block& block = cache_.find(cpu_);
  visited_[visited_next_++ % visited_.size()] = {cpu_.code_linear(cpu_.rip), cpu_.mode, 1};
  static_cast<void>(operations_inside_segment(block));
  cpu_.activity.sti_shadow = false;
  cpu_.activity.mov_ss_shadow = false;
  cpu_.leave_block = false;
  const Operation& operation = block.operations()[0];
  const bool repeats = (operation.flags & (Operation::kRep | Operation::kRepne)) != 0;
  const bool enters_handler = may_clear_trap_flag(operation);
  const uint64_t rip = cpu_.rip;
  cpu_.flags_rest &= ~flags::kResume;
  execute(operation);
  ++instructions_;
  look_up_ = true;

  uint64_t status = cpu_.activity.pending_debug | cpu_.mmu.take_watch_hits();
  // The trap flag as it was before counts, but INT and SYSCALL clear it and take its trap
  // away.
  if (trap && (!enters_handler || (cpu_.flags_rest & flags::kTrap) != 0))
    status |= dr6::kSingleStep;
  // Between two rounds of a string instruction the pushed flags carry RF (SDM Vol. 3B 17.3.1.1).
  if (status != 0 && repeats && cpu_.rip == rip) cpu_.flags_rest |= flags::kResume;
  cpu_.activity.pending_debug = 0;
  if (status == 0) return Next::kGoOn;
  if (cpu_.activity.mov_ss_shadow) {
    // MOV SS holds debug traps back until the next instruction is done (SDM Vol. 3A 6.8.3).
    cpu_.activity.pending_debug = status & ~dr6::kSingleStep;
    return Next::kGoOn;
  }
  return deliver({.vector = x86::Vector::kDebug, .debug_status = status});
}

Runner::Next Runner::deliver(const Exception& exception) {
  if (translator_)  // whose blocks nobody noted
    visited_[visited_next_++ % visited_.size()] = {cpu_.code_linear(cpu_.rip), cpu_.mode, 1};
  cpu_.activity.sti_shadow = false;
  cpu_.activity.mov_ss_shadow = false;
  look_up_ = true;
  ++counts_.exceptions;
  return deliver_exception(cpu_, exception) ? Next::kGoOn : Next::kShutdown;
}

void Runner::poll_timer() {
  blocks_until_poll_ = kBlocksPerPoll;
  const uint64_t now = cpu_.guest_tsc();
  const uint64_t deadline = cpu_.interrupts.next_timer_tsc();
  if (now >= deadline) {
    if (now - deadline >= kSecondsOfStandstill * tsc_hz_) cpu_.paravirtual.note_stopped(cpu_);
    cpu_.interrupts.timer_due(now);
    look_up_ = true;
  }
}

Runner::Next Runner::service() {
  cpu_.attention.answer();
  look_up_ = false;
  ++counts_.looks;
  cpu_.mmu.serve_others();
  cpu_.mmu.follow_mappings();
  if (kicked_.exchange(false)) return Next::kReturn;
  poll_timer();
  look_up_ = false;
  cpu_.paravirtual.looked_up(cpu_, __builtin_ia32_rdtsc());
  if (const Next next = take_events(); next != Next::kGoOn) return next;
  if (const auto vector = std::exchange(cpu_.activity.interrupt, {})) [[unlikely]]
    return deliver_interrupt(cpu_, *vector) ? Next::kGoOn : Next::kShutdown;
  // A trap of what ran last: nothing comes before it, but what MOV SS lets run.
  if (!cpu_.activity.mov_ss_shadow)
    if (const auto status = std::exchange(cpu_.activity.pending_debug, 0); status != 0) [[unlikely]]
      return deliver({.vector = x86::Vector::kDebug, .debug_status = status});
  if (cpu_.debugger.holds_interrupts()) [[unlikely]]
    return wake_without_interrupt();

  cpu_.attention.interrupt_waits = false;
  const bool shadow = cpu_.activity.sti_shadow || cpu_.activity.mov_ss_shadow;
  if (cpu_.activity.wait_for_sipi) return wait_while_halted();  // nothing else starts it
  // STI holds NMIs back, too, where processors may choose (SDM Vol. 2B "STI").
  if (cpu_.activity.nmi_pending && !cpu_.activity.nmi_blocked && !shadow) {
    cpu_.activity.nmi_pending = false;
    cpu_.activity.nmi_blocked = true;
    cpu_.activity.halted = false;
    look_up_ = true;  // for one behind it
    return deliver_interrupt(cpu_, static_cast<uint8_t>(x86::Vector::kNmi)) ? Next::kGoOn
                                                                            : Next::kShutdown;
  }
  if (!shadow && (cpu_.flags_rest & flags::kInterrupt) != 0 && cpu_.interrupts.has_interrupt()) {
    if (const auto vector = cpu_.interrupts.acknowledge()) {
      cpu_.activity.halted = false;
      ++counts_.interrupts;
      return deliver_interrupt(cpu_, *vector) ? Next::kGoOn : Next::kShutdown;
    }
  }
  cpu_.attention.interrupt_waits = cpu_.interrupts.has_interrupt();
  if (cpu_.activity.halted) return wait_while_halted();
  return Next::kGoOn;
}

Runner::Next Runner::take_events() {
  using Event = vcpu::LocalInterruptController::Event;
  for (;;) {
    // An NMI that can be taken is in service before the next one arrives, which then waits.
    const auto& activity = cpu_.activity;
    if (activity.nmi_pending && !activity.nmi_blocked && !activity.wait_for_sipi)
      return Next::kGoOn;
    const auto request = cpu_.interrupts.take_event();
    switch (request.event) {
      case Event::kNone:
        return Next::kGoOn;
      case Event::kNmi:
        cpu_.activity.nmi_pending = true;
        break;
      case Event::kInit:
        apply_init(cpu_);
        break;
      case Event::kStartup:
        if (cpu_.activity.wait_for_sipi) apply_startup(cpu_, request.startup_vector);
        break;
    }
  }
}

Runner::Next Runner::wait_while_halted() {
  look_up_ = true;
  ++counts_.halts;
  cpu_.mmu.leave_guest();
  wait_for_attention();
  cpu_.mmu.enter_guest();
  return Next::kGoOn;
}

void Runner::wait_for_attention() {
  std::unique_lock lock(wait_mutex_);
  if (cpu_.attention.is_called()) return;
  const uint64_t deadline = cpu_.interrupts.next_timer_tsc();
  const auto awake = [&] { return cpu_.attention.is_called(); };
  if (deadline == UINT64_MAX) {
    wake_.wait(lock, awake);
    return;
  }
  const uint64_t now = cpu_.guest_tsc();
  if (now < deadline) {
    const double seconds = static_cast<double>(deadline - now) / static_cast<double>(tsc_hz_);
    // Far deadlines are approached in steps, so that a small error of tsc_hz does not add up.
    wake_.wait_for(lock, std::chrono::duration<double>(std::min(seconds, 1.0)), awake);
  }
}

std::optional<Exception> Runner::step() {
  try {
    const Block& block = cache_.find(cpu_);
    static_cast<void>(operations_inside_segment(block));
    cpu_.leave_block = false;
    execute(block.operations()[0]);
    ++instructions_;
    return std::nullopt;
  } catch (const Exception& exception) {
    return exception;
  }
}

std::string Runner::report() const {
  const Tlb::Fills& fills = cpu_.mmu.tlb_fills();
  return fmt::format(
      "outside the guest's code: {} looks for events, {} interrupts, {} exceptions, {} waits in "
      "HLT; {} instructions run by the interpreter's loop\n"
      "TLB misses: {} data, {} fetch\n",
      counts_.looks, counts_.interrupts, counts_.exceptions, counts_.halts, instructions_,
      fills.data, fills.fetch);
}

std::string Runner::recent_instructions() {
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  std::string text;
  const unsigned kept = static_cast<unsigned>(visited_.size());
  for (unsigned i = std::min(visited_next_, kept); i > 0; --i) {
    const Visited& visited = visited_[(visited_next_ - i) % kept];
    uint64_t linear = visited.linear;
    for (unsigned n = 0; n < visited.count; ++n) {
      std::array<uint8_t, decode::kMaxInstructionLength> bytes{};
      size_t have = 0;
      while (have < bytes.size()) {
        const auto physical = cpu_.mmu.translate(linear + have);
        if (!physical) break;
        const auto host = cpu_.ram.span(*physical, 1);
        if (host.empty()) break;
        bytes[have++] = static_cast<uint8_t>(host[0]);
      }
      decode::Instruction instruction;
      if (decode::decode(visited.mode, std::span(bytes).first(have), instruction) !=
          decode::Outcome::kOk) {
        text += fmt::format("  {:016x}: (bad)\n", linear);
        break;
      }
      std::array<char, 128> line{};
      ZydisFormatterFormatInstruction(&formatter, &instruction.raw, instruction.operands.data(),
                                      instruction.raw.operand_count_visible, line.data(),
                                      line.size(), linear, nullptr);
      text += fmt::format("  {:016x}: {}\n", linear, line.data());
      linear += instruction.length();
    }
  }
  return text;
}

}  // namespace limen::soft::interpret
