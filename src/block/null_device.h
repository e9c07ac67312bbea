// A disk that keeps nothing: QEMU's null-co and null-aio, for measuring what stands in front of it.
#pragma once

#include <cerrno>
#include <cstring>

#include "block/block_device.h"

namespace limen::block {

class NullDevice final : public BlockDevice {
 public:
  /// `read_zeroes`: reads give zeroes; otherwise they leave the buffers as they are.
  NullDevice(uint64_t size, bool read_zeroes, bool read_only)
      : size_(size), read_zeroes_(read_zeroes), read_only_(read_only) {}

  [[nodiscard]] uint64_t size() const override { return size_; }
  [[nodiscard]] bool read_only() const override { return read_only_; }
  [[nodiscard]] bool supports_discard() const override { return !read_only_; }
  void submit(Request request) override {
    if (read_zeroes_ && request.kind == Request::Kind::kRead)
      for (const iovec& buffer : request.buffers) std::memset(buffer.iov_base, 0, buffer.iov_len);
    if (request.done) request.done(0);
  }
  Result<> drain() override { return {}; }

 private:
  const uint64_t size_;
  const bool read_zeroes_;
  const bool read_only_;
};

/// A disk whose image is gone: every request fails.
class MissingDevice final : public BlockDevice {
 public:
  explicit MissingDevice(uint64_t size) : size_(size) {}

  [[nodiscard]] uint64_t size() const override { return size_; }
  [[nodiscard]] bool read_only() const override { return false; }
  [[nodiscard]] bool supports_discard() const override { return false; }
  void submit(Request request) override {
    if (request.done) request.done(EIO);
  }
  Result<> drain() override { return {}; }

 private:
  const uint64_t size_;
};

}  // namespace limen::block
