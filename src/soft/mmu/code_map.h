// Where in guest RAM code was decoded, in chunks of 64 bytes: firmware and loaders keep code and
// data in one page, and a store beside code must not throw away what was decoded.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace limen::soft {

/// Shared by the processors of a machine.
class CodeMap {
 public:
  explicit CodeMap(uint64_t ram_pages)
      : chunks_(std::make_unique<std::atomic<uint64_t>[]>(ram_pages)) {}

  /// Notes that code is decoded from [offset, offset + length) of the page, which ends in the page.
  /// True if the page held no code before.
  bool mark(uint64_t ram_page, uint32_t offset, uint32_t length) {
    std::atomic<uint64_t>& chunks = chunks_[ram_page];
    const uint64_t wanted = mask(offset, length);
    if ((chunks.load() & wanted) == wanted) return false;
    return chunks.fetch_or(wanted) == 0;
  }
  [[nodiscard]] bool holds_code(uint64_t ram_page) const { return chunks_[ram_page].load() != 0; }
  [[nodiscard]] bool holds_code(uint64_t ram_page, uint32_t offset, uint32_t length) const {
    return (chunks_[ram_page].load() & mask(offset, length)) != 0;
  }
  void clear(uint64_t ram_page) { chunks_[ram_page].store(0); }

 private:
  static uint64_t mask(uint32_t offset, uint32_t length) {
    const uint32_t first = offset / 64;
    const uint32_t last = (offset + (length != 0 ? length - 1 : 0)) / 64;
    return (~uint64_t{0} >> (63 - (last - first))) << first;
  }

  std::unique_ptr<std::atomic<uint64_t>[]> chunks_;  // a bit per chunk of the page
};

}  // namespace limen::soft
