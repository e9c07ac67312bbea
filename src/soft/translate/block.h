// Translated blocks and the links between them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "soft/translate/assembler.h"

namespace limen::soft::translate {

using BlockId = uint32_t;
using LinkId = uint32_t;

/// What the block's code compares itself with: in the code cache's data, one per block.
struct BlockData {
  uint64_t linear = 0;  ///< Guest address of its first instruction.
  uint64_t epoch = 0;   ///< Tlb::code_epochs() for which its pages were found right.
};

/// A page that the block's instructions come from.
struct BlockPage {
  uint64_t linear = 0;
  uint64_t ram_page = 0;
  uint32_t generation = 0;  ///< GuestMemory::code_generations() when it was translated.
};

struct Block {
  static constexpr unsigned kMaxPages = 4;

  uint64_t linear = 0;
  BlockId next = 0;  ///< In the same bucket; 0: none. Block 0 is nobody.
  uint8_t kind = 0;  ///< CodeKind::bits().
  bool valid = true;
  bool global = false;  ///< Every page is global: Tlb::CodeEpochs::global counts.
  uint8_t page_count = 0;
  std::array<BlockPage, kMaxPages> pages;
  // Entries. `indirect` expects the guest address in R10 and compares it; `checked` compares the
  // epoch; `body` nothing.
  CodeOffset indirect = 0;
  CodeOffset checked = 0;
  CodeOffset body = 0;
  CodeOffset end = 0;
  /// Per instruction, its guest address and where its code begins.
  struct Site {
    uint64_t rip = 0;
    CodeOffset code = 0;
  };
  std::vector<Site> sites;
  std::vector<LinkId> incoming;

  [[nodiscard]] bool covers(uint64_t page) const {
    for (unsigned i = 0; i < page_count; ++i)
      if (pages[i].linear == page) return true;
    return false;
  }
};

/// A direct way out of a block: a jump in its code, to a stub until its target is translated.
struct Link {
  BlockId from = 0;
  uint64_t target = 0;   ///< Guest address.
  CodeOffset place = 0;  ///< The jump's displacement.
  CodeOffset stub = 0;
  BlockId to = 0;  ///< 0: not linked.
};

/// A site as generated code names it.
constexpr unsigned kSiteBits = 8;
constexpr unsigned kMaxItems = 32;
constexpr uint32_t make_site(BlockId block, unsigned index) { return block << kSiteBits | index; }

}  // namespace limen::soft::translate
