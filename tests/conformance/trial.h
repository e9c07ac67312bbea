// One trial: a user-mode state, memory and a few bytes of code to run from it; and what came out.
// Plain data, because it crosses shared memory.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "x86/cpu_state.h"

namespace limen::conformance {

// The linear addresses that both processors map alike. Below 4 GiB, so that 32-bit addresses reach
// them; nothing is mapped between them.
inline constexpr uint64_t kPage = 4096;
inline constexpr uint64_t kCodeAddress = 0x1000'0000;      ///< One page to execute.
inline constexpr uint64_t kDataAddress = 0x1001'0000;      ///< Two pages to write ...
inline constexpr uint64_t kReadOnlyAddress = 0x1001'2000;  ///< ... with one to read behind them.
inline constexpr uint64_t kLoneAddress = 0x1002'0000;      ///< One page to write, alone.

/// Two pages to execute and to write: for programs that a whole batch shares.
inline constexpr uint64_t kProgramAddress = 0x1000'4000;
inline constexpr uint64_t kProgramSize = 2 * kPage;

/// The writable pages, in the order in which a trial's memory image holds them.
inline constexpr std::array<uint64_t, 3> kWritablePages = {kDataAddress, kDataAddress + kPage,
                                                           kLoneAddress};
inline constexpr uint64_t kImageSize = kWritablePages.size() * kPage;
using Image = std::array<uint8_t, kImageSize>;

struct Registers {
  std::array<uint64_t, 16> gpr{};
  uint64_t rip = 0;
  uint64_t rflags = 0;
  uint64_t fs_base = 0;
  uint64_t gs_base = 0;
  std::array<uint16_t, 6> selectors{};  ///< Indexed by x86::SegmentRegister.
  x86::VectorState vector;
};

/// Bytes that replace part of the shared memory image before a trial.
struct Patch {
  uint16_t offset = 0;
  uint16_t size = 0;
  std::array<uint8_t, 64> bytes{};
};

struct Trial {
  Registers before;
  uint16_t code_size = 0;  ///< From before.rip; INT3 everywhere else in the page.
  std::array<uint8_t, 126> code{};
  std::array<Patch, 2> patches{};
};

struct Outcome {
  bool ran = false;  ///< False: the native child died of it.
  uint8_t vector = 0;
  uint32_t error_code = 0;
  uint64_t fault_address = 0;  ///< CR2, for #PF only.
  Registers after;
  Image image{};
  std::array<uint8_t, kProgramSize> program{};  ///< If the batch has one.
};

inline constexpr unsigned kBatchSize = 32;
/// Trials that share one memory image.
struct Batch {
  unsigned count = 0;
  Image image{};
  bool has_program = false;  ///< What trials start in stands in `program`, not in their `code`.
  std::array<uint8_t, kProgramSize> program{};
  std::array<Trial, kBatchSize> trials;
};

static_assert(std::is_trivially_copyable_v<Trial> && std::is_trivially_copyable_v<Outcome>);

}  // namespace limen::conformance
