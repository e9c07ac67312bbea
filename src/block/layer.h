// One image of a backing chain, read and written with calls that block and that any thread may make.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace limen::block {

/// What a layer has for a run of bytes that are all of one kind.
struct Extent {
  uint64_t length = 0;      ///< Bytes from the offset that was asked for.
  bool present = false;     ///< Said by this layer itself; otherwise its backing layer says.
  bool zero = false;        ///< Reads as zeroes.
  bool data = false;        ///< Bytes are stored for it.
  bool compressed = false;  ///< They are compressed.
  std::optional<uint64_t> host_offset = {};  ///< Where in the file they are.
};

/// Offsets and lengths are in bytes and within size(), at any alignment. Functions that return int
/// return 0 or an errno.
class Layer {
 public:
  virtual ~Layer() = default;
  [[nodiscard]] virtual uint64_t size() const = 0;
  [[nodiscard]] virtual bool read_only() const = 0;
  [[nodiscard]] virtual const std::string& path() const = 0;
  [[nodiscard]] virtual std::string format() const = 0;
  [[nodiscard]] virtual int read(uint64_t offset, std::span<const iovec> buffers) = 0;
  [[nodiscard]] virtual int write(uint64_t offset, std::span<const iovec> buffers) = 0;
  /// `may_unmap`: the bytes need no room any more.
  [[nodiscard]] virtual int write_zeroes(uint64_t offset, uint64_t length, bool may_unmap) = 0;
  [[nodiscard]] virtual int discard(uint64_t offset, uint64_t length) = 0;
  /// What was written before is on the disk when this returns.
  [[nodiscard]] virtual int flush() = 0;
  /// Of this layer alone; `length` is where looking further is of no use. Not 0 bytes long.
  [[nodiscard]] virtual Result<Extent> extent(uint64_t offset, uint64_t length) = 0;
  /// The layer that says what this one does not; nullptr: zeroes.
  [[nodiscard]] virtual Layer* backing() const { return nullptr; }
};

/// Reads what may lie beyond the end of the layer, where zeroes are. 0 or an errno.
[[nodiscard]] int read_or_zero(Layer* layer, uint64_t offset, std::span<const iovec> buffers);

/// What the chain that begins with `layer` and ends before `base` has at `offset`. `depth` counts the
/// layers that were passed.
struct ChainExtent {
  Extent extent;
  unsigned depth = 0;
  Layer* layer = nullptr;  ///< Who said it, or ends before it; nullptr: nobody did.
};
Result<ChainExtent> chain_extent(Layer& layer, const Layer* base, uint64_t offset, uint64_t length);

}  // namespace limen::block
