// Counts what goes through to a disk, for query-blockstats.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "block/block_device.h"

namespace limen::block {

/// Of one kind of request. Failed ones count among `failed` alone.
struct RequestCounts {
  uint64_t operations = 0;
  uint64_t bytes = 0;
  uint64_t nanoseconds = 0;  ///< From submission to completion, added up.
  uint64_t failed = 0;
};

class Measured final : public BlockDevice {
 public:
  explicit Measured(std::unique_ptr<BlockDevice> inner) : inner_(std::move(inner)) {}

  [[nodiscard]] uint64_t size() const override { return inner_->size(); }
  [[nodiscard]] bool read_only() const override { return inner_->read_only(); }
  [[nodiscard]] uint32_t logical_block_size() const override {
    return inner_->logical_block_size();
  }
  [[nodiscard]] bool supports_discard() const override { return inner_->supports_discard(); }
  void submit(Request request) override;
  Result<> drain() override { return inner_->drain(); }
  void give_up_held(bool on) override { inner_->give_up_held(on); }
  void run_on(LoopThread& thread) override { inner_->run_on(thread); }
  Result<> resize(uint64_t size) override { return inner_->resize(size); }

  /// Thread-safe.
  [[nodiscard]] RequestCounts counts(Request::Kind kind) const;
  /// The end of the last byte written.
  [[nodiscard]] uint64_t highest_written() const { return highest_written_; }

 private:
  struct Counters {
    std::atomic<uint64_t> operations = 0, bytes = 0, nanoseconds = 0, failed = 0;
  };
  static constexpr size_t kKinds = 5;

  std::array<Counters, kKinds> counters_;
  std::atomic<uint64_t> highest_written_ = 0;
  std::unique_ptr<BlockDevice> inner_;  // behind the counters: its requests may end late
};

}  // namespace limen::block
