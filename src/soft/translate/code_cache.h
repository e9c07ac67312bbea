// The memory of one vCPU's translated code, and of the data that the code compares itself with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/unique_fd.h"

namespace limen::soft::translate {

/// One memfd mapped twice, so that no page is ever both writable and executable: the writable view
/// is for the translator alone. Behind the code, in both views, stands data (not executable).
class CodeCache {
 public:
  /// Sizes in bytes. Throws std::bad_alloc where the host has no room.
  CodeCache(size_t code_size, size_t data_size);
  ~CodeCache();
  CodeCache(const CodeCache&) = delete;
  CodeCache& operator=(const CodeCache&) = delete;

  [[nodiscard]] std::span<uint8_t> code() const { return {writable_, code_size_}; }
  /// Where the host runs what was written at an offset.
  [[nodiscard]] const uint8_t* executable(uint32_t offset) const { return executable_ + offset; }
  /// The offset of a host address, if it is one of the code's.
  [[nodiscard]] bool contains(uintptr_t address) const {
    return address - reinterpret_cast<uintptr_t>(executable_) < code_size_;
  }
  [[nodiscard]] uint32_t offset_of(uintptr_t address) const {
    return static_cast<uint32_t>(address - reinterpret_cast<uintptr_t>(executable_));
  }
  [[nodiscard]] uint32_t data_offset() const { return static_cast<uint32_t>(code_size_); }
  [[nodiscard]] uint8_t* data() const { return writable_ + code_size_; }

 private:
  UniqueFd memory_;
  size_t code_size_;
  size_t size_;
  uint8_t* writable_ = nullptr;
  uint8_t* executable_ = nullptr;
};

}  // namespace limen::soft::translate
