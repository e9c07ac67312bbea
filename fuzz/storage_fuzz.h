// What the fuzz targets of disk controllers share: a disk that checks what is asked of it, and the
// input a few bytes at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "block/block_device.h"
#include "irq/msi.h"

namespace limen::fuzz {

inline void require(bool condition) {
  if (!condition) std::abort();
}

/// Holds some requests back until it is told to end them.
class Disk final : public block::BlockDevice {
 public:
  static constexpr uint64_t kBytes = 64 << 10;

  explicit Disk(bool is_read_only) : read_only_(is_read_only) {}
  uint64_t size() const override { return kBytes; }
  bool read_only() const override { return read_only_; }
  bool supports_discard() const override { return true; }
  void submit(block::Request request) override {
    using Kind = block::Request::Kind;
    require(request.offset <= kBytes && request.offset % 512 == 0);
    uint64_t length = request.length;
    if (request.kind == Kind::kRead || request.kind == Kind::kWrite) {
      length = 0;
      for (const iovec& buffer : request.buffers) length += buffer.iov_len;
      require(length == request.length);
    }
    require(length <= kBytes - request.offset && length % 512 == 0);
    require(request.kind == Kind::kRead || request.kind == Kind::kFlush || !read_only_);
    if (hold)
      held_.push_back(std::move(request));
    else
      perform(request);
  }
  Result<> drain() override { return {}; }
  void give_up_held(bool on) override {
    if (on) release();
  }
  void release() {
    hold = false;
    const auto held = std::exchange(held_, {});
    for (const auto& request : held) perform(request);
  }

  bool hold = false;
  int error = 0;

 private:
  void perform(const block::Request& request) {
    for (const iovec& buffer : request.buffers) {
      if (request.kind == block::Request::Kind::kRead)
        std::memset(buffer.iov_base, 1, buffer.iov_len);
      else
        for (size_t i = 0; i < buffer.iov_len; ++i)
          sum_ = sum_ + static_cast<const uint8_t*>(buffer.iov_base)[i];
    }
    request.done(error);
  }

  const bool read_only_;
  std::vector<block::Request> held_;
  volatile unsigned sum_ = 0;
};

struct NullMsi final : irq::MsiSink {
  void send_msi(const irq::MsiMessage&) override {}
};

struct Reader {
  std::span<const uint8_t> left;
  uint64_t take(size_t count) {
    uint64_t value = 0;
    count = std::min(count, left.size());
    std::memcpy(&value, left.data(), count);
    left = left.subspan(count);
    return value;
  }
  void take_into(std::span<std::byte> memory) {
    const size_t count = std::min(memory.size(), left.size());
    std::memcpy(memory.data(), left.data(), count);
    left = left.subspan(count);
  }
  /// Some bytes of the input, somewhere in `memory`.
  void scribble(std::span<std::byte> memory) {
    const uint64_t at = take(2) % memory.size();
    take_into(memory.subspan(at, std::min<uint64_t>(take(1), memory.size() - at)));
  }
};

}  // namespace limen::fuzz
