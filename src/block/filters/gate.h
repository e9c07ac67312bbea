// Directly before an image: holds requests back while the image is exchanged or changed as a whole.
//
// Closing waits for what is under way in the image, which ends without anybody's help: what is
// throttled or waits for its error to be dealt with stands in front of the gate.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "block/block_device.h"

namespace limen::block {

class Gate final : public BlockDevice {
 public:
  explicit Gate(std::unique_ptr<BlockDevice> image);

  [[nodiscard]] uint64_t size() const override { return size_; }
  [[nodiscard]] bool read_only() const override { return read_only_; }
  [[nodiscard]] uint32_t logical_block_size() const override { return block_size_; }
  [[nodiscard]] bool supports_discard() const override { return supports_discard_; }
  void submit(Request request) override;
  Result<> drain() override { return image_->drain(); }
  void run_on(LoopThread& thread) override;
  Result<> resize(uint64_t size) override;

  // From here on: on one thread, which no request needs to come to its end.

  /// `work` may take the image, of which nothing is under way and everything is on the disk, and
  /// returns what stands in its place from now on: it or another. Fails, with the image as it was,
  /// when it cannot be flushed or `work` gives it back with an error.
  using Work = std::function<Result<>(std::unique_ptr<BlockDevice>& image)>;
  Result<> exchange(const Work& work);
  [[nodiscard]] BlockDevice& image() { return *image_; }

 private:
  void close();
  void open();
  void look_at_image();

  std::unique_ptr<BlockDevice> image_;
  LoopThread* thread_ = nullptr;
  // What the image says, for those who ask while it is exchanged.
  std::atomic<uint64_t> size_ = 0;
  std::atomic<bool> read_only_ = false;
  std::atomic<uint32_t> block_size_ = 512;
  std::atomic<bool> supports_discard_ = false;

  std::atomic<bool> closed_ = false;
  std::atomic<unsigned> entering_ = 0;  ///< Threads within the image's submit().
  std::mutex mutex_;
  std::vector<Request> waiting_;  // guarded by mutex_
};

}  // namespace limen::block
