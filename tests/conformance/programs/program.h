// A random program: instructions that name each other and the window's pages, so that it can be put
// anywhere, and made smaller.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "conformance/programs/window.h"
#include "soft/decode/decoder.h"

namespace limen::conformance {

/// What a displacement at the end, or in the middle, of an instruction leads to.
enum class Fix : uint8_t {
  kNone,
  kBranch8,   ///< Last byte: to instruction `target`.
  kBranch32,  ///< Last four bytes: to instruction `target`.
  // Four bytes at `at`, relative to RIP or, in 32-bit code, an address in the first window.
  kWindow,  ///< To offset `target` in the window.
  kCode,    ///< To `addend` behind the start of `target`.
};

/// One instruction, or a few that belong together.
struct Piece {
  std::array<uint8_t, 32> bytes{};
  uint8_t size = 0;  ///< 0: taken out.
  Fix fix = Fix::kNone;
  uint8_t at = 0;
  uint8_t tail = 0;  ///< Bytes behind the instruction that `at` is in.
  int32_t target = 0;
  int32_t addend = 0;
};

/// What the program's author took for granted of the registers at its start.
struct Expectation {
  std::array<std::optional<int32_t>, 16> pointers;  ///< Offsets in the window.
  std::array<std::optional<int32_t>, 16> small;     ///< Indices: small numbers.
  uint8_t counter = 0;                              ///< The register that bounds backward jumps.
  int32_t fs_base = 0;                              ///< As it is: a small number.
  int32_t gs_base = 0;                              ///< Offset in the window.
};

struct Program {
  std::vector<Piece> pieces;
  Expectation expects;
  std::vector<int32_t> slots;  ///< Instructions whose addresses stand in the window's slots.
  uint32_t start = 0;          ///< Offset of the first instruction from the first code page.
  bool supervisor = false;     ///< For CPL 0.
  bool code32 = false;         ///< In compatibility mode.
  bool native = true;          ///< What it does is defined on any processor.

  /// Offset of a piece's first byte in the code pages.
  [[nodiscard]] std::vector<uint32_t> offsets() const;
  [[nodiscard]] uint32_t size() const;
  /// The two code pages; INT3 where there is no code.
  [[nodiscard]] std::array<uint8_t, kCodeSize> assemble() const;
  /// One line for each piece, marking `entry`.
  [[nodiscard]] std::string listing() const;
  [[nodiscard]] size_t piece_count() const;
  [[nodiscard]] soft::decode::CodeMode mode() const {
    return code32 ? soft::decode::CodeMode::k32 : soft::decode::CodeMode::k64;
  }
};

}  // namespace limen::conformance
