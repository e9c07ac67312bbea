// The interpreter's loop: blocks of decoded code, and between them interrupts, exceptions, single
// steps, breakpoints and HLT.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "soft/cpu.h"
#include "soft/interpret/block_cache.h"
#include "soft/interpret/debug.h"
#include "soft/translate/translator.h"
#include "vcpu/accelerator.h"

namespace limen {
class ThreadAlarm;
}

namespace limen::soft::interpret {

class Runner {
 public:
  /// `tsc_hz` is the host's TSC frequency, for waiting until a TSC deadline. `code_size`: bytes of
  /// translated code that are kept; 0: everything is interpreted.
  Runner(Cpu& cpu, uint64_t tsc_hz, size_t code_size = 0);

  /// Runs until kick() or a shutdown; see vcpu::Vcpu::run().
  vcpu::Exit run();

  /// Runs one instruction, taking no interrupt and delivering nothing: an exception that it raised
  /// is returned, and the state is as it was before. For tests and for tracing.
  std::optional<x86::Exception> step();

  /// As vcpu::Vcpu. Thread-safe.
  void kick();
  void interrupt();

  /// The last blocks that ran, disassembled from what memory holds now.
  [[nodiscard]] std::string recent_instructions();

  /// What took the processor out of the guest's code, as text.
  [[nodiscard]] std::string report() const;

  /// Instructions retired so far (a repeated string instruction counts once per restart).
  [[nodiscard]] uint64_t instructions() const { return instructions_; }
  [[nodiscard]] const BlockCache& cache() const { return cache_; }
  /// nullptr: everything is interpreted.
  [[nodiscard]] const translate::Translator* translator() const { return translator_.get(); }
  translate::Translator* translator() { return translator_.get(); }

 private:
  /// What the loop does next.
  enum class Next : uint8_t { kGoOn, kReturn, kShutdown, kStop };

  Next service();
  Next take_events();
  Next wait_while_halted();
  void wait_for_attention();
  void poll_timer();
  /// TF, breakpoints and interrupt shadows: what a whole block cannot be run under.
  [[nodiscard]] bool needs_single_step() const {
    const auto& activity = cpu_.activity;
    return (cpu_.flags_rest & (x86::rflags::kTrap | x86::rflags::kResume)) != 0 ||
           debug_active(cpu_) || activity.sti_shadow || activity.mov_ss_shadow ||
           activity.pending_debug != 0;
  }

  // For a debugger; in run_debugged.cc.
  /// run() while single steps are asked for.
  vcpu::Exit run_one_step();
  /// Whether what runs next is where a debugger wants to look; notes it in stop_.
  Next look_for_stop();
  /// service() where no interrupt may be delivered.
  Next wake_without_interrupt();
  /// A block up to the next breakpoint.
  Next run_block_to_breakpoint();

  Next run_interpreted();
  void run_block(const Block& block);
  Next run_translated();
  Next run_single();
  void execute(const Operation& operation) {
    cpu_.gpr[kNextRip] = (cpu_.rip + operation.length) & cpu_.rip_mask;
    operation.handler(cpu_, operation);
    cpu_.rip = cpu_.gpr[kNextRip];
  }
  /// How many of the block's operations may run in one go; throws #GP(0) where CS ends.
  [[nodiscard]] unsigned operations_inside_segment(const Block& block) const;
  [[nodiscard]] Next deliver(const x86::Exception& exception);

  Cpu& cpu_;
  BlockCache cache_;
  std::unique_ptr<translate::Translator> translator_;
  ThreadAlarm* alarm_ = nullptr;  // while run() runs translated code
  uint64_t alarm_tsc_ = UINT64_MAX;
  uint64_t tsc_hz_;
  uint64_t instructions_ = 0;
  struct Counts {
    uint64_t looks = 0;       ///< Times that interrupts and events were looked at.
    uint64_t interrupts = 0;  ///< Delivered.
    uint64_t exceptions = 0;  ///< Delivered, but for page faults that translated code delivers.
    uint64_t halts = 0;       ///< Waits in HLT.
  };
  Counts counts_;
  vcpu::DebugStop stop_;  // with Next::kStop
  unsigned blocks_until_poll_ = 0;
  bool look_up_ = true;  // interrupts and events must be looked at before the next block

  std::atomic<bool> kicked_ = false;
  std::mutex wait_mutex_;
  std::condition_variable wake_;  // with wait_mutex_ and cpu_.attention

  struct Visited {
    uint64_t linear = 0;
    decode::CodeMode mode = decode::CodeMode::k16;
    uint16_t count = 0;
  };
  std::array<Visited, 16> visited_{};
  unsigned visited_next_ = 0;
};

}  // namespace limen::soft::interpret
