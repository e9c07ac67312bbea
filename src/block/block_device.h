// A disk as virtio-blk and the like see it: byte ranges of an image, read and written
// asynchronously.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace limen {
class LoopThread;
}

namespace limen::block {

/// One request. Offsets and lengths are in bytes, multiples of BlockDevice::logical_block_size().
struct Request {
  enum class Kind : uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };
  Kind kind = Kind::kRead;
  uint64_t offset = 0;
  uint64_t length = 0;              ///< Discard and write-zeroes; otherwise the buffers' total.
  bool may_unmap = false;           ///< Write-zeroes may leave a hole.
  std::vector<iovec> buffers = {};  ///< Host memory, valid until `done` was called.
  /// Called once, on any thread: 0, or the errno that the guest should hear of (EIO, ENOSPC, ...).
  std::function<void(int error)> done = {};
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;
  [[nodiscard]] virtual uint64_t size() const = 0;  ///< Bytes.
  [[nodiscard]] virtual bool read_only() const = 0;
  [[nodiscard]] virtual uint32_t logical_block_size() const { return 512; }
  [[nodiscard]] virtual bool supports_discard() const = 0;
  /// Starts a request; thread-safe. Requests may finish in any order; a flush covers every write
  /// that was done before it was submitted (virtio 1.2 §5.2.6).
  virtual void submit(Request request) = 0;
  /// Waits until everything submitted is done, then flushes to the disk. For shutdown.
  virtual Result<> drain() = 0;
  /// While `on`, a request that waits for its error to be dealt with (ErrorPolicy) fails instead.
  virtual void give_up_held(bool /*on*/) {}
  /// Requests will come from `thread`, an I/O thread, which may also finish them. Before the first.
  virtual void run_on(LoopThread& /*thread*/) {}
  /// Makes the disk larger or smaller; `size` is a multiple of 512. No request may be under way.
  virtual Result<> resize(uint64_t /*size*/) {
    return fail("Image format driver does not support resize");
  }
};

}  // namespace limen::block
