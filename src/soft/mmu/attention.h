// What makes a processor look up from the guest's code.
#pragma once

#include <atomic>

#include "soft/mmu/tlb.h"

namespace limen::soft {

/// Set by any thread: an interrupt, a kick, a request of another processor. Translated code looks
/// at it in loops; elsewhere it notices that it no longer knows the stack's page, which a call
/// takes away: it asks for that in every function anyway. Generated code knows the layout.
class Attention {
 public:
  explicit Attention(StackPages& stacks) : stacks_(stacks) {}

  /// Signal handlers may call, too.
  void call() noexcept {
    called_.store(true);
    // Only now: whoever notes a page again looks afterwards whether there was a call.
    for (StackPage& stack : stacks_) stack.minus_page.store(StackPage::kNowhere);
  }
  [[nodiscard]] bool is_called() const noexcept { return called_.load(std::memory_order_acquire); }
  /// For the processor's own thread, which then, and not before, looks at everything that may have
  /// been the reason.
  void answer() noexcept { called_.store(false, std::memory_order_seq_cst); }

 private:
  std::atomic<bool> called_ = false;

 public:
  /// An interrupt waits for RFLAGS.IF; stands here so that one compare sees both.
  bool interrupt_waits = false;

 private:
  StackPages& stacks_;
};

}  // namespace limen::soft
