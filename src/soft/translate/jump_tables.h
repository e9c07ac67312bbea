// Where generated code finds the block for a guest address that it did not know beforehand.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "soft/translate/assembler.h"

namespace limen::soft::translate {

/// Entries of blocks by the low 16 bits of their guest address, and what has left its place there
/// to another one since. What an entry leads to checks the address itself: nothing here need be
/// right. Generated code knows the layout.
class JumpTables {
 public:
  static constexpr size_t kSize = size_t{1} << 16;
  using Table = std::array<const uint8_t*, kSize>;

  /// An entry that is looked for where the one in the table is another one's.
  struct Other {
    uint64_t linear = 0;
    CodeOffset entry = 0;
    CodeOffset body = 0;  ///< Of the same block.
  };
  static constexpr size_t kOthers = size_t{1} << 12;
  static constexpr size_t other_index(uint64_t linear) {
    return (linear ^ (linear & 0xFFFF'FFFF) >> 16) % kOthers;
  }

  /// Everything leads to `miss`, an offset in the code cache that is at `code`.
  void clear(const uint8_t* code, CodeOffset miss) {
    code_ = code;
    miss_ = miss;
    for (Table& table : tables) table.fill(code + miss);
    has_others_ = true;
    forget_others();
  }
  void enter(bool user, uint64_t linear, CodeOffset entry, CodeOffset body) noexcept {
    tables[user ? 1 : 0][linear % kSize] = code_ + entry;
    others[user ? 1 : 0][other_index(linear)] = {linear, entry, body};
    has_others_ = true;
  }
  /// Of a block that begins at `offset` of some page. The caller sees to forget_others().
  void forget(bool user, uint64_t offset, CodeOffset entry) {
    Table& table = tables[user ? 1 : 0];
    for (size_t slot = offset; slot < kSize; slot += 4096)
      if (table[slot] == code_ + entry) table[slot] = code_ + miss_;
  }
  void forget_others() {
    if (!has_others_) return;
    for (auto& table : others) table.fill({.linear = 0, .entry = miss_, .body = 0});
    has_others_ = false;
  }

  // Index: CPL is 3.
  alignas(64) std::array<Table, 2> tables{};
  alignas(64) std::array<std::array<Other, kOthers>, 2> others{};

 private:
  const uint8_t* code_ = nullptr;
  CodeOffset miss_ = 0;
  bool has_others_ = false;
};

}  // namespace limen::soft::translate
