// The memory that thunks live in, and what is known of each place in it that may fault.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"

namespace limen::soft::interpret::native {

/// One memfd mapped twice: written through one view, run through the other, so that no page is ever
/// both writable and executable. Grows until it is full; nothing is freed. One slot at its start is
/// for code that is used once and overwritten.
class CodeArea {
 public:
  static constexpr size_t kSize = size_t{32} << 20;
  static constexpr size_t kMaxSites = size_t{1} << 17;

  /// The process's only area; made at the first call, with the signal handlers that watch over it.
  /// Ends the process when the host refuses: the engine cannot run a guest without it.
  static CodeArea& instance();

  CodeArea(const CodeArea&) = delete;
  CodeArea& operator=(const CodeArea&) = delete;

  /// Where the next function may be written: `size` bytes, or an empty span when there is no room.
  [[nodiscard]] std::span<std::byte> next(size_t size);
  /// The slot for transient code.
  [[nodiscard]] std::span<std::byte> transient();

  /// Makes what was written at `where` (from next() or transient()) known: `instruction` is the
  /// offset in it of the instruction that may fault, `recovery` that of the code to go on with.
  /// Returns where to call it.
  const uint8_t* commit(std::span<std::byte> where, size_t size, size_t instruction,
                        size_t recovery);

  /// The address at which to go on after a fault at `address`; 0 if it is none of ours. May be
  /// called from a signal handler.
  [[nodiscard]] uintptr_t recovery_for(uintptr_t address) const;

 private:
  struct Site {
    uint32_t instruction = 0;
    uint32_t recovery = 0;
  };

  CodeArea() = default;
  Result<> create();

  UniqueFd memory_;
  std::byte* writable_ = nullptr;
  std::byte* executable_ = nullptr;
  size_t used_ = 0;
  Site* sites_ = nullptr;  ///< Ascending; the first is the transient slot's.
  std::atomic<size_t> site_count_ = 0;
};

}  // namespace limen::soft::interpret::native
