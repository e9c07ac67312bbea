#include "block/layer.h"

#include <algorithm>

#include "block/buffers.h"

namespace limen::block {

int read_or_zero(Layer* layer, uint64_t offset, std::span<const iovec> buffers) {
  const uint64_t length = total_size(buffers);
  const uint64_t size = layer == nullptr ? 0 : layer->size();
  const uint64_t inside = offset >= size ? 0 : std::min(length, size - offset);
  if (inside != 0) {
    const auto part = slice(buffers, 0, inside);
    if (const int error = layer->read(offset, part); error != 0) return error;
  }
  fill_zero(buffers, inside, length - inside);
  return 0;
}

Result<ChainExtent> chain_extent(Layer& layer, const Layer* base, uint64_t offset,
                                 uint64_t length) {
  ChainExtent found;
  Layer* current = &layer;
  for (; current != nullptr && current != base; current = current->backing(), ++found.depth) {
    if (offset >= current->size()) {
      // Beyond the end of a backing image there are zeroes.
      found.extent = {.length = length, .present = false, .zero = true};
      found.layer = current;
      return found;
    }
    found.extent =
        LIMEN_TRY(current->extent(offset, std::min(length, current->size() - offset)));
    length = found.extent.length;
    if (found.extent.present) {
      found.layer = current;
      return found;
    }
  }
  found.extent.zero = current == nullptr;
  // Nobody said anything: as if the last one had.
  if (found.depth != 0) --found.depth;
  return found;
}

}  // namespace limen::block
