#include "virtio/gpu/resources.h"

#include <algorithm>
#include <cstring>

namespace limen::virtio::gpu {
namespace {

/// Of what is kept of a piece of backing memory.
constexpr uint64_t kPieceSize = sizeof(std::span<const std::byte>);

/// Counted for a resource beside its pixels: small ones are not free.
constexpr uint64_t kResourceOverhead = 4096;
constexpr size_t kMostEntries = 16384;

/// Copies from a list of pieces of memory, in order of growing offsets.
class BackingReader {
 public:
  explicit BackingReader(std::span<const std::span<const std::byte>> pieces) : pieces_(pieces) {}
  /// What lies beyond the pieces is left as it was.
  void copy(uint64_t offset, std::span<std::byte> into) {
    while (!into.empty()) {
      while (piece_ < pieces_.size() && offset - start_ >= pieces_[piece_].size())
        start_ += pieces_[piece_++].size();
      if (piece_ == pieces_.size()) return;
      const auto from = pieces_[piece_].subspan(offset - start_);
      const size_t count = std::min(from.size(), into.size());
      std::memcpy(into.data(), from.data(), count);
      into = into.subspan(count);
      offset += count;
    }
  }

 private:
  std::span<const std::span<const std::byte>> pieces_;
  size_t piece_ = 0;
  uint64_t start_ = 0;  ///< Offset of that piece.
};

}  // namespace

void Resource::read_row(uint32_t x, uint32_t y, uint32_t count, uint32_t* to, uint32_t mask) const {
  const std::byte* from = pixels.data() + y * pitch() + x * kPixelBytes;
  if (format->blue == 0 && format->red == 2) {  // as it is wanted
    for (uint32_t i = 0; i < count; ++i) {
      uint32_t pixel = 0;
      std::memcpy(&pixel, from + i * kPixelBytes, sizeof pixel);
      to[i] = pixel & mask;
    }
    return;
  }
  for (uint32_t i = 0; i < count; ++i, from += kPixelBytes) {
    const auto part = [from](unsigned byte) { return static_cast<uint32_t>(from[byte]); };
    to[i] = (part(format->alpha) << 24 | part(format->red) << 16 | part(format->green) << 8 |
             part(format->blue)) &
            mask;
  }
}

Resource* Resources::find(uint32_t id) {
  const auto found = resources_.find(id);
  return found == resources_.end() ? nullptr : &found->second;
}

bool Resources::charge(Resource& resource, uint64_t bytes) {
  if (bytes > most_bytes_ - charged_) return false;
  charged_ += bytes;
  resource.charged += bytes;
  return true;
}

Response Resources::create(const ResourceCreate2d& command) {
  if (command.resource == 0 || find(command.resource) != nullptr)
    return Response::kErrorInvalidResourceId;
  Resource resource{.id = command.resource, .width = command.width, .height = command.height};
  resource.format = pixel_format(command.format);
  if (resource.format == nullptr || command.width == 0 || command.height == 0)
    return Response::kErrorInvalidParameter;
  const uint64_t pixels = uint64_t{command.width} * command.height;  // 64 bits hold that
  if (pixels > most_bytes_ / kPixelBytes ||
      !charge(resource, pixels * kPixelBytes + kResourceOverhead))
    return Response::kErrorOutOfMemory;
  resource.pixels.resize(pixels * kPixelBytes);
  resources_.emplace(command.resource, std::move(resource));
  return Response::kOkNoData;
}

Response Resources::remove(uint32_t id) {
  const auto found = resources_.find(id);
  if (found == resources_.end()) return Response::kErrorInvalidResourceId;
  charged_ -= found->second.charged;
  resources_.erase(found);
  return Response::kOkNoData;
}

Response Resources::attach(uint32_t id, std::span<const ResourceAttachBacking::Entry> entries) {
  auto* const resource = find(id);
  if (resource == nullptr) return Response::kErrorInvalidResourceId;
  if (!resource->backing.empty() || entries.size() > kMostEntries)
    return Response::kErrorUnspecified;
  std::vector<std::span<const std::byte>> backing;
  backing.reserve(entries.size());
  for (const auto& entry : entries) {
    if (entry.length == 0) continue;
    const auto bytes = memory_.span(GuestPhysicalAddress{entry.address}, entry.length);
    if (bytes.empty()) return Response::kErrorUnspecified;
    backing.emplace_back(bytes);
  }
  if (!charge(*resource, backing.size() * kPieceSize)) return Response::kErrorOutOfMemory;
  resource->backing = std::move(backing);
  return Response::kOkNoData;
}

Response Resources::detach(uint32_t id) {
  auto* const resource = find(id);
  if (resource == nullptr) return Response::kErrorInvalidResourceId;
  if (resource->backing.empty()) return Response::kErrorInvalidResourceId;
  const uint64_t bytes = resource->backing.size() * kPieceSize;
  resource->charged -= bytes;
  charged_ -= bytes;
  resource->backing = {};
  return Response::kOkNoData;
}

Response Resources::transfer(const TransferToHost2d& command) {
  auto* const resource = find(command.resource);
  if (resource == nullptr || resource->backing.empty()) return Response::kErrorInvalidResourceId;
  const auto& area = command.area;
  if (!resource->contains(area)) return Response::kErrorInvalidParameter;
  // More than 64 bits' worth is beyond every backing.
  const uint64_t pitch = resource->pitch();
  if (command.offset > UINT64_MAX - pitch * resource->height)
    return Response::kErrorInvalidParameter;
  BackingReader reader(resource->backing);
  for (uint32_t row = 0; row < area.height; ++row)
    reader.copy(
        command.offset + row * pitch,
        std::span(resource->pixels)
            .subspan((area.y + row) * pitch + area.x * kPixelBytes, area.width * kPixelBytes));
  return Response::kOkNoData;
}

void Resources::clear() {
  resources_.clear();
  charged_ = 0;
}

}  // namespace limen::virtio::gpu
