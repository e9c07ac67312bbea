#include "device/character/ring_backend.h"

#include <algorithm>

namespace limen::device {

void RingBackend::write(std::span<const uint8_t> bytes) {
  if (bytes.size() > size_) bytes = bytes.last(size_);
  const std::lock_guard lock(mutex_);
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  if (bytes_.size() > size_)
    bytes_.erase(bytes_.begin(), bytes_.end() - static_cast<ptrdiff_t>(size_));
}

std::vector<uint8_t> RingBackend::read(size_t most) {
  const std::lock_guard lock(mutex_);
  const auto end = bytes_.begin() + static_cast<ptrdiff_t>(std::min(most, bytes_.size()));
  std::vector<uint8_t> taken(bytes_.begin(), end);
  bytes_.erase(bytes_.begin(), end);
  return taken;
}

}  // namespace limen::device
