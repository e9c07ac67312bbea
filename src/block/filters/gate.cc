#include "block/filters/gate.h"

#include <chrono>
#include <thread>
#include <utility>

namespace limen::block {

Gate::Gate(std::unique_ptr<BlockDevice> image) : image_(std::move(image)) { look_at_image(); }

void Gate::look_at_image() {
  size_ = image_->size();
  read_only_ = image_->read_only();
  block_size_ = image_->logical_block_size();
  supports_discard_ = image_->supports_discard();
}

void Gate::submit(Request request) {
  // Counted first and looked second; close() does it the other way round, so that one of the two
  // sees the other.
  ++entering_;
  if (!closed_) {
    image_->submit(std::move(request));
    --entering_;
    return;
  }
  --entering_;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return waiting_.push_back(std::move(request));
  }
  submit(std::move(request));
}

void Gate::run_on(LoopThread& thread) {
  thread_ = &thread;
  image_->run_on(thread);
}

void Gate::close() {
  closed_ = true;
  // Only as long as system calls that do not wait.
  while (entering_ != 0) std::this_thread::sleep_for(std::chrono::microseconds(20));
}

void Gate::open() {
  std::vector<Request> waiting;
  {
    const std::lock_guard lock(mutex_);
    closed_ = false;
    waiting.swap(waiting_);
  }
  for (auto& request : waiting) submit(std::move(request));
}

Result<> Gate::exchange(const Work& work) {
  close();
  auto outcome = image_->drain();
  if (outcome) {
    const auto* const before = image_.get();
    outcome = work(image_);
    if (image_.get() != before && thread_ != nullptr) image_->run_on(*thread_);
    look_at_image();
  }
  open();
  return outcome;
}

Result<> Gate::resize(uint64_t size) {
  return exchange([size](std::unique_ptr<BlockDevice>& image) { return image->resize(size); });
}

}  // namespace limen::block
