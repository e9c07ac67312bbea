// A disk in memory that fails, or holds its requests back, when it is told to.
#pragma once

#include <cstring>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "block/block_device.h"

namespace limen::storage {

class MemoryDisk final : public block::BlockDevice {
 public:
  explicit MemoryDisk(uint64_t bytes, bool read_only = false)
      : content(bytes), read_only_(read_only) {
    for (uint64_t i = 0; i < bytes; ++i) content[i] = static_cast<uint8_t>(i / 512 * 7 + i % 512);
  }
  [[nodiscard]] uint64_t size() const override { return content.size(); }
  [[nodiscard]] bool read_only() const override { return read_only_; }
  [[nodiscard]] bool supports_discard() const override { return true; }
  void submit(block::Request request) override {
    if (hold) {
      held.push_back(std::move(request));
      return;
    }
    perform(std::move(request));
  }
  Result<> drain() override { return {}; }
  void give_up_held(bool on) override {
    if (on) release();
  }

  void release() {
    hold = false;
    for (auto& request : std::exchange(held, {})) perform(std::move(request));
  }

  std::vector<uint8_t> content;
  int error = 0;
  bool hold = false;
  std::vector<block::Request> held;
  unsigned flushes = 0;
  std::vector<std::pair<uint64_t, uint64_t>> discarded;

 private:
  void perform(block::Request request) {
    using Kind = block::Request::Kind;
    if (error != 0) return request.done(error);
    uint64_t at = request.offset;
    for (const iovec& buffer : request.buffers) {
      if (request.kind == Kind::kRead)
        std::memcpy(buffer.iov_base, &content.at(at), buffer.iov_len);
      else
        std::memcpy(&content.at(at), buffer.iov_base, buffer.iov_len);
      at += buffer.iov_len;
    }
    if (request.kind == Kind::kFlush) ++flushes;
    if (request.kind == Kind::kDiscard) discarded.emplace_back(request.offset, request.length);
    if (request.kind == Kind::kWriteZeroes)
      std::memset(&content.at(request.offset), 0, request.length);
    request.done(0);
  }
  const bool read_only_;
};

}  // namespace limen::storage
