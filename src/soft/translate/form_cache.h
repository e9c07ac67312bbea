// Guest code -> items. Most of what a program consists of are the same instructions over and over,
// with other displacements and immediates: their forms are decoded and classified once.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "soft/cpu.h"
#include "soft/translate/item.h"

namespace limen::soft::translate {

/// Of one vCPU, whose CPUID stays what it is.
class FormCache {
 public:
  explicit FormCache(Cpu& cpu) : cpu_(cpu), sets_(size_t{1} << kSetBits) {}

  /// Fills in the item whose instruction begins `item.bytes`, of which `given` (at most 15) are
  /// there; but not what other items, or its place, decide.
  decode::Outcome find(CodeKind kind, unsigned given, Item& item);
  /// The same by decoding, whatever is known.
  decode::Outcome decode(CodeKind kind, unsigned given, Item& item) const;

  struct Statistics {
    uint64_t found = 0;
    uint64_t decoded = 0;
  };
  [[nodiscard]] const Statistics& statistics() const { return statistics_; }

 private:
  static constexpr unsigned kSetBits = 12;

  struct Entry {
    uint64_t key = 0;  ///< 0: nothing.
    Form form;
  };
  /// Where a form may be, the younger one first.
  using Set = std::array<Entry, 2>;

  decode::Outcome classify_bytes(CodeKind kind, std::span<const uint8_t> bytes, Form& form,
                                 decode::Instruction& instruction) const;

  Cpu& cpu_;
  std::vector<Set> sets_;
  Statistics statistics_;
};

}  // namespace limen::soft::translate
