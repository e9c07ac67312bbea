// A disk in memory that finishes requests at once, when told to, or on its own threads.
#pragma once

#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "block/block_device.h"

namespace limen::virtio {

class MemoryDisk final : public block::BlockDevice {
 public:
  explicit MemoryDisk(size_t size, unsigned threads = 0) : bytes(size) {
    for (unsigned i = 0; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }
  ~MemoryDisk() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  [[nodiscard]] uint64_t size() const override { return bytes.size(); }
  [[nodiscard]] bool read_only() const override { return is_read_only; }
  [[nodiscard]] bool supports_discard() const override { return can_discard; }
  void submit(block::Request request) override {
    if (workers_.empty() && !hold) return run(request);
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(request));
    }
    changed_.notify_one();
  }
  Result<> drain() override { return {}; }

  /// Finishes the oldest request that was held.
  void finish_one() {
    block::Request request;
    {
      const std::lock_guard lock(mutex_);
      request = std::move(queue_.front());
      queue_.pop_front();
    }
    run(request);
  }
  size_t held() {
    const std::lock_guard lock(mutex_);
    return queue_.size();
  }

  std::vector<std::byte> bytes;
  std::vector<block::Request::Kind> kinds;  // of everything that was run; read while nothing runs
  bool is_read_only = false, can_discard = true, hold = false;
  int error = 0;

 private:
  void run(block::Request& request) {
    using Kind = block::Request::Kind;
    {
      const std::lock_guard lock(mutex_);
      kinds.push_back(request.kind);
    }
    if (error == 0) {
      uint64_t at = request.offset;
      for (const iovec& buffer : request.buffers) {
        std::byte* disk = bytes.data() + at;
        if (request.kind == Kind::kRead) std::memcpy(buffer.iov_base, disk, buffer.iov_len);
        if (request.kind == Kind::kWrite) std::memcpy(disk, buffer.iov_base, buffer.iov_len);
        at += buffer.iov_len;
      }
      if (request.kind == Kind::kWriteZeroes || request.kind == Kind::kDiscard)
        std::memset(bytes.data() + request.offset, 0, request.length);
    }
    request.done(error);
  }
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      block::Request request = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      run(request);
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<block::Request> queue_;
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace limen::virtio
