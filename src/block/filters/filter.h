// A block device in front of another, which it owns. What a filter does not care for passes.
#pragma once

#include <memory>
#include <utility>

#include "block/block_device.h"

namespace limen::block {

class Filter : public BlockDevice {
 public:
  explicit Filter(std::unique_ptr<BlockDevice> below) : below_(std::move(below)) {}

  [[nodiscard]] uint64_t size() const override { return below_->size(); }
  [[nodiscard]] bool read_only() const override { return below_->read_only(); }
  [[nodiscard]] uint32_t logical_block_size() const override {
    return below_->logical_block_size();
  }
  [[nodiscard]] bool supports_discard() const override { return below_->supports_discard(); }
  void submit(Request request) override { below_->submit(std::move(request)); }
  Result<> drain() override { return below_->drain(); }
  void give_up_held(bool on) override { below_->give_up_held(on); }
  void run_on(LoopThread& thread) override { below_->run_on(thread); }
  Result<> resize(uint64_t size) override { return below_->resize(size); }

 protected:
  [[nodiscard]] BlockDevice& below() { return *below_; }
  [[nodiscard]] const BlockDevice& below() const { return *below_; }

 private:
  std::unique_ptr<BlockDevice> below_;
};

}  // namespace limen::block
