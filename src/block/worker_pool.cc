#include "block/worker_pool.h"

#include <utility>

namespace limen::block {

WorkerPool::WorkerPool(unsigned threads) : limit_(threads == 0 ? 1 : threads) {}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wanted_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void WorkerPool::submit(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
    if (queue_.size() > waiting_ && threads_.size() < limit_)
      threads_.emplace_back([this] { serve(); });
  }
  wanted_.notify_one();
}

void WorkerPool::wait_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return queue_.empty() && running_ == 0; });
}

void WorkerPool::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++waiting_;
    wanted_.wait(lock, [this] { return !queue_.empty() || ending_; });
    --waiting_;
    if (queue_.empty()) return;
    auto work = std::move(queue_.front());
    queue_.pop_front();
    ++running_;
    lock.unlock();
    work();
    work = nullptr;
    lock.lock();
    --running_;
    if (queue_.empty() && running_ == 0) idle_.notify_all();
  }
}

}  // namespace limen::block
