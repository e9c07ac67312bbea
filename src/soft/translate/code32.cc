// What 32-bit code needs to be run as host code: segments that change no address but by their base,
// registers without upper halves, and a TLB that knows no addresses beyond 32 bits.
#include "soft/translate/translator.h"

namespace limen::soft::translate {
namespace {

using x86::Segment;

constexpr uint32_t kWholeLimit = 0xFFFF'FFFF;

/// Data that can be read and written at every offset.
bool is_whole(const Segment& segment) {
  constexpr uint16_t kWanted = Segment::kPresent | Segment::kNotSystem | Segment::kWritable;
  constexpr uint16_t kMask = kWanted | Segment::kCode | Segment::kExpandDown;
  return (segment.attributes & kMask) == kWanted && segment.limit == kWholeLimit;
}

/// Added to an address of 32 bits, this gives one that no TLB has.
constexpr uint64_t kNowhere = uint64_t{1} << 62;

}  // namespace

/// Of 32-bit code: whether CS, DS, ES and SS are all of the 32-bit addresses, and the stack's
/// pointer is ESP.
bool Translator::is_flat() const {
  const auto& segments = cpu_.system.segments;
  const auto is_flat_data = [&](size_t number) {
    return is_whole(segments[number]) && segments[number].base == 0;
  };
  const Segment& code = segments[x86::kCs];
  return cpu_.protected_mode && code.limit == kWholeLimit && code.base == 0 &&
         is_flat_data(x86::kSs) && segments[x86::kSs].default_big() && is_flat_data(x86::kDs) &&
         is_flat_data(x86::kEs);
}

/// Whatever changes segments or the mode is the interpreter's and comes by here.
void Translator::prepare_32_bit_code() {
  const auto& segments = cpu_.system.segments;
  auto& guards = cpu_.generated.segment_guards;
  guards = {is_whole(segments[x86::kFs]) ? 0 : kNowhere,
            is_whole(segments[x86::kGs]) ? 0 : kNowhere};
  cpu_.mmu.forget_wide_pages();
  for (StackPage& stack : cpu_.mmu.stack_pages())
    if (is_edge(-stack.minus_page.load(std::memory_order_relaxed)))
      stack.minus_page.store(StackPage::kNowhere, std::memory_order_relaxed);
}

/// Undefined after a change of mode (SDM Vol. 1 3.4.1.1). Generated code counts on zeros.
void Translator::forget_upper_halves() {
  for (unsigned reg = 0; reg < 8; ++reg) cpu_.gpr[reg] = static_cast<uint32_t>(cpu_.gpr[reg]);
}

}  // namespace limen::soft::translate
