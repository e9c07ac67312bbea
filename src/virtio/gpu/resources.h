// The pictures that a driver keeps in the device, and the guest memory that stands behind them.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "memory/guest_memory.h"
#include "virtio/gpu/protocol.h"

namespace limen::virtio::gpu {

/// What is wanted of a pixel.
inline constexpr uint32_t kColours = 0x00FF'FFFF, kColoursAndAlpha = 0xFFFF'FFFF;

struct Resource {
  uint32_t id = 0, width = 0, height = 0;
  const PixelFormat* format = nullptr;
  std::vector<std::byte> pixels = {};
  std::vector<std::span<const std::byte>> backing = {};
  uint64_t charged = 0;  ///< Bytes of the host's that count.

  [[nodiscard]] uint64_t pitch() const { return width * kPixelBytes; }
  /// Guest-controlled: whether it lies in the picture.
  [[nodiscard]] bool contains(const Area& area) const {
    return area.x <= width && area.width <= width - area.x && area.y <= height &&
           area.height <= height - area.y;
  }
  /// Pixels `count` from (x, y) on, as AARRGGBBh, with the bits of `mask`.
  void read_row(uint32_t x, uint32_t y, uint32_t count, uint32_t* to, uint32_t mask) const;
};

/// Not thread-safe. What the driver sends is checked here.
class Resources {
 public:
  /// `most_bytes` is how much of the host's memory they may take. `memory` outlives them.
  Resources(memory::GuestMemory& memory, uint64_t most_bytes)
      : memory_(memory), most_bytes_(most_bytes) {}

  [[nodiscard]] Resource* find(uint32_t id);
  Response create(const ResourceCreate2d& command);
  Response remove(uint32_t id);
  Response attach(uint32_t id, std::span<const ResourceAttachBacking::Entry> entries);
  Response detach(uint32_t id);
  /// Copies from the guest's memory.
  Response transfer(const TransferToHost2d& command);
  void clear();

 private:
  bool charge(Resource& resource, uint64_t bytes);

  memory::GuestMemory& memory_;
  const uint64_t most_bytes_;
  uint64_t charged_ = 0;
  std::map<uint32_t, Resource> resources_;
};

}  // namespace limen::virtio::gpu
