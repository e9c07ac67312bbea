// Memory as a character back end: the last bytes that were written, for a monitor to read.
#pragma once

#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "device/character_backend.h"

namespace limen::device {

class RingBackend final : public CharacterBackend {
 public:
  /// `size`: a power of two.
  explicit RingBackend(size_t size) : size_(size) {}

  void write(std::span<const uint8_t> bytes) override;
  /// Takes out at most `most` of the oldest bytes. Thread-safe.
  std::vector<uint8_t> read(size_t most);
  [[nodiscard]] std::string filename() const override { return "ringbuf"; }

 private:
  const size_t size_;
  std::mutex mutex_;
  std::deque<uint8_t> bytes_;  // guarded by mutex_
};

}  // namespace limen::device
