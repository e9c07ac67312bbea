// Translated blocks, the pages that they come from, and the links between them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "soft/decode/decoder.h"
#include "soft/translate/assembler.h"

namespace limen::soft::translate {

using BlockId = uint32_t;
using HomeId = uint32_t;
using LinkId = CodeOffset;  ///< Of a Link: where in the code cache it stands.

/// What entering a block looks at: in the code cache's data, one per home.
struct HomeData {
  uint64_t base = 0;  ///< Guest address at which the home is mapped now.
  /// Minus the sum of `base` and the Tlb::code_epochs() for which that was found right. A page's
  /// address and an epoch (below 4096) in one number: one comparison sees both. kNowhere: in none.
  uint64_t key = kNowhere;
  uint64_t minus_key = 0;
  uint64_t unused = 0;  // makes the size a power of two

  static constexpr uint64_t kNowhere = 0;
  static HomeData at(uint64_t base, uint64_t epoch) {
    return {.base = base, .key = -(base + epoch), .minus_key = base + epoch};
  }
};

/// The page of RAM that blocks come from, at one place of the guest's address space at a time: user
/// code is translated once for all places at which it is mapped (address space layout
/// randomization puts a library elsewhere in each process). A block whose only instruction crosses
/// into a second page has a home of its own.
struct Home {
  static constexpr unsigned kMaxPages = 2;

  std::array<uint64_t, kMaxPages> ram_pages{};
  std::array<uint32_t, kMaxPages> generations{};  ///< GuestMemory::code_generations().
  uint8_t page_count = 1;
  uint8_t kind = 0;     ///< CodeKind::bits().
  bool global = false;  ///< Every page is global: Tlb::CodeEpochs::global counts.
  bool fixed = false;   ///< Stays at its base: its blocks hold addresses as they are.
  std::vector<BlockId> blocks;
  std::array<uint64_t, 16> starts{};  ///< A bit per 4 bytes of the first page, where blocks began.

  void note_start(uint64_t offset) { starts[offset >> 8] |= uint64_t{1} << (offset >> 2 & 63); }
  [[nodiscard]] bool may_start(uint64_t offset) const {
    return (starts[offset >> 8] >> (offset >> 2 & 63) & 1) != 0;
  }
};

struct Block {
  HomeId home = 0;
  uint16_t offset = 0;  ///< Of its first instruction, from the home's base.
  bool valid = true;
  bool split = false;     ///< Has no windows: it stands in where one would reach over a page's end.
  bool is_short = false;  ///< Those that lead to it take it in.
  uint8_t site_count = 0;
  uint8_t link_count = 0;
  BlockId next = 0;  ///< In the same bucket; 0: none. Block 0 is nobody.
  // Entries. `indirect` expects the block's guest address, as far as low 12 bits, in R10 and looks
  // whether the rest and the epoch are right; `body` looks at nothing. The first one is not there
  // before somebody needs it.
  CodeOffset indirect = 0;
  CodeOffset body = 0;
  CodeOffset end = 0;
  CodeOffset sites = 0;  ///< Where its Sites stand; before them the Links, its ways out.
  LinkId incoming = 0;   ///< The first link that leads here; 0: none. Link 0 is nobody.
};

static_assert(sizeof(Block) == 36);

/// Per instruction: where it is from the home's base, and where its code begins.
struct Site {
  uint32_t offset : 13;
  uint32_t enterable : 1;  ///< Counts on nothing that code before it did.
  uint32_t code : 18;      ///< From the block's body; or, for the first one, 0.
};
static_assert(sizeof(Site) == 4);

/// A direct way out of a block: a jump in its code, to an exit until its target is translated. If
/// the target may be of another home, there is code that looks whether that one is found right for
/// the same epoch as the block's own, and goes to the target if so; if not, it looks for the guest
/// address in the jump table. It stands behind the jump, if that is the block's last one, which
/// then becomes a NOP; otherwise with the exit. Links stand with the code that seldom runs.
struct Link {
  BlockId from = 0;
  CodeOffset place = 0;  ///< Displacement of the jump in the code.
  int32_t target = 0;    ///< From the base of the block's home.
  CodeOffset exit = 0;
  CodeOffset check = 0;
  BlockId to = 0;   ///< 0: not linked.
  LinkId next = 0;  ///< Of those that lead to the same block; 0: none.

  // What is to be patched in `check`, from there.
  static constexpr CodeOffset kKey = 6, kDistance = 21, kBody = 36;
  /// The look into the jump table, from the exit.
  static constexpr CodeOffset kDispatch = 14;

  [[nodiscard]] bool has_check_behind() const { return check == place + 4; }

  /// On the same page the target is of the same home, unless its instruction crosses the page's
  /// end.
  [[nodiscard]] bool stays_home() const { return stays_home(target); }
  /// A jump may lead a little farther.
  static bool reaches(int64_t target) { return target == static_cast<int32_t>(target); }
  static bool stays_home(int64_t target) {
    return target >= 0 && target + static_cast<int64_t>(decode::kMaxInstructionLength) <= 4096;
  }
};

static_assert(sizeof(Link) == 28);

/// Of one of the block's links.
inline LinkId link_id(const Block& block, unsigned index) {
  return block.sites - (block.link_count - index) * static_cast<CodeOffset>(sizeof(Link));
}

/// A site as generated code names it.
constexpr unsigned kSiteBits = 8;
constexpr uint32_t make_site(BlockId block, unsigned index) { return block << kSiteBits | index; }

}  // namespace limen::soft::translate
