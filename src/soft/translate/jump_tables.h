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

  /// One for each CPL and size of code: code of another kind at the same address is never found.
  static constexpr size_t kTables = 4;
  static constexpr size_t table_of(bool user, bool code32) {
    return (user ? 1u : 0u) | (code32 ? 2u : 0u);
  }

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
    const bool anew = code_ != code || miss_ != miss;
    code_ = code;
    miss_ = miss;
    for (size_t i = 0; i < kTables; ++i) {
      if (anew) has_others_[i] = true;
      if (anew || used_[i]) tables[i].fill(code + miss);
      used_[i] = false;
    }
    forget_others();
  }
  void enter(size_t table, uint64_t linear, CodeOffset entry, CodeOffset body) noexcept {
    tables[table][linear % kSize] = code_ + entry;
    others[table][other_index(linear)] = {linear, entry, body};
    used_[table] = has_others_[table] = true;
  }
  /// Of a block that begins at `offset` of some page. The caller sees to forget_others().
  void forget(size_t table, uint64_t offset, CodeOffset entry) {
    for (size_t slot = offset; slot < kSize; slot += 4096)
      if (tables[table][slot] == code_ + entry) tables[table][slot] = code_ + miss_;
  }
  void forget_others() {
    for (size_t i = 0; i < kTables; ++i) {
      if (has_others_[i]) others[i].fill({.linear = 0, .entry = miss_, .body = 0});
      has_others_[i] = false;
    }
  }

  alignas(64) std::array<Table, kTables> tables{};
  alignas(64) std::array<std::array<Other, kOthers>, kTables> others{};

 private:
  const uint8_t* code_ = nullptr;
  CodeOffset miss_ = 0;
  std::array<bool, kTables> used_{};  // since they were cleared
  std::array<bool, kTables> has_others_{};
};

}  // namespace limen::soft::translate
