// An inner loop: rounds of a loop with windows that stay open from one round to the next, as long
// as their pages allow. Rounds are alike, and a pass is all of them, so that R10 and R11 can stay
// what they are, and one count does for several rounds.
#include <bit>

#include "soft/translate/emitter.h"

namespace limen::soft::translate {
namespace {

constexpr int32_t kReadTag = 0, kWriteTag = 8, kDifference = 24;

/// Behind the first one, without a look at Cpu::attention.
constexpr uint64_t kMostRounds = 1023;

}  // namespace

/// Before the inner loop and whenever its windows are used up: opens them all and finds out for how
/// many rounds they will do. Flags are dead. Asks the bank and nobody else: where that does not
/// have the answer, as where a window reaches over its page's end, the block begins anew, which
/// fills the bank, and polls.
void Emitter::begin_inner(std::span<const Window> windows, unsigned rounds) {
  constexpr int32_t kOffset = 0xFFF;
  constexpr unsigned kFraction = 20;  // bits; with 12 of an offset these are 32
  renewal_ = out_.here();
  out_.cpu_cmp8(layout_.attention, 0);
  out_.jump_if(Condition::kNotEqual, block_.body);
  for (const Window& window : windows) {
    const int32_t tag = window.write ? kWriteTag : kReadTag;
    window_address(window);
    out_.patch(ask_bank(window.size, tag), block_.body);
    if (window.varies) {
      ask_whether_edge(tag);
      out_.jump_if(Condition::kNotBelow, block_.body);
    }
    out_.load(kR10, kR11, kDifference);
    of_stack_[window.number] = false;
    has_base_[window.number] = window.has_base;
    if (window.has_base) out_.lea(kR10, static_cast<Reg>(window.base), kR10, 0, 0);
    out_.cpu_store(layout_.window(window.number), kR10);
  }
  out_.mov(kR11, kMostRounds);
  for (const Window& window : windows) {
    if (window.step == 0) continue;
    window_address(window);
    const bool up = window.step > 0;
    if (up) out_.lea(kR10, kR10, window.size - 1);
    out_.and32(kR10, kOffset);
    if (up) out_.xor32(kR10, kOffset);  // from the last byte to the page's
    // A quotient that may be one too small.
    out_.imul32(kR10, (1u << kFraction) / static_cast<uint32_t>(up ? window.step : -window.step));
    out_.shr32(kR10, kFraction);
    out_.cmp(kR10, kR11);
    out_.move_if_below(kR11, kR10);
  }
  // The first pass is as many rounds short as makes the last one whole.
  if (rounds > 1) {
    out_.mov32(kR10, kR11);
    out_.and32(kR10, rounds - 1);
    out_.cpu(false, {0x89}, kR10, layout_.first_round);
    out_.shr32(kR11, static_cast<unsigned>(std::countr_zero(rounds)));
  }
  out_.cpu(false, {0x89}, kR11, layout_.passes);
  r10_window_ = r11_window_ = 0;
  for (size_t i = 0; i < std::min(windows.size(), inner_held_.size()); ++i)
    inner_held_[i] = windows[i].number;
  hold_inner();
  for (unsigned round = 1; round < rounds; ++round) {
    out_.cpu_cmp8(layout_.first_round, static_cast<uint8_t>(rounds - 1 - round));
    round_jumps_.push_back(out_.jump_if(Condition::kEqual));
  }
  pass_ = out_.here();
}

/// Has in R10 and R11 what a round begins with.
void Emitter::hold_inner() {
  const auto hold = [&](Reg reg, unsigned& held, unsigned window) {
    if (window != 0 && held != window) out_.cpu_load(reg, layout_.window(window));
    held = window;
  };
  hold(kR10, r10_window_, inner_held_[0]);
  hold(kR11, r11_window_, inner_held_[1]);
}

void Emitter::begin_round() {
  hold_inner();
  if (round_ != 0) out_.patch(round_jumps_[round_ - 1], out_.here());
  ++round_;
}

/// Behind the branch back, which is taken.
void Emitter::end_inner() {
  hold_inner();
  out_.cpu_decrease(layout_.passes);
  out_.jump_if(Condition::kNotBelow, pass_);
  out_.jump(renewal_);
}

}  // namespace limen::soft::translate
