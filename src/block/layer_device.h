// A backing chain as a disk: requests run on a pool of threads.
#pragma once

#include <memory>
#include <vector>

#include "block/block_device.h"
#include "block/layer.h"
#include "block/worker_pool.h"

namespace limen::block {

class LayerDevice final : public BlockDevice {
 public:
  /// `discard`: false: discards are done without effect. `flush_writes`: every write is on the disk
  /// before it is done (cache=writethrough and directsync).
  LayerDevice(std::unique_ptr<Layer> top, unsigned threads, bool discard, bool flush_writes);
  ~LayerDevice() override;

  [[nodiscard]] uint64_t size() const override { return top_->size(); }
  [[nodiscard]] bool read_only() const override { return top_->read_only(); }
  [[nodiscard]] bool supports_discard() const override { return !top_->read_only(); }
  void submit(Request request) override;
  Result<> drain() override;
  Result<> resize(uint64_t size) override;
  [[nodiscard]] Layer& top() { return *top_; }

 private:
  int perform(const Request& request);

  std::unique_ptr<Layer> top_;
  const bool discard_;
  const bool flush_writes_;
  WorkerPool workers_;  // last: ends before the layers go
};

}  // namespace limen::block
