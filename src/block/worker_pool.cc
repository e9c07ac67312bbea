#include "block/worker_pool.h"

#include <pthread.h>

#include <csignal>
#include <system_error>
#include <utility>

#include "base/log.h"

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
    if (queue_.size() >= waiting_ && threads_.size() < limit_) start_thread();
    if (!threads_.empty()) {
      queue_.push_back(std::move(work));
      wanted_.notify_one();
      return;
    }
    ++running_;
  }
  // The host gives no thread at all: slow is better than stuck.
  work();
  const std::lock_guard lock(mutex_);
  if (--running_ == 0 && queue_.empty()) idle_.notify_all();
}

void WorkerPool::start_thread() {
  try {
    threads_.emplace_back([this] { serve(); });
  } catch (const std::system_error& error) {
    // Those that there are do the work. Every request asks again: say so once.
    if (!std::exchange(refusal_said_, true))
      log::warning("cannot start disk thread {} of {}: {}; disks may be slow", threads_.size() + 1,
                   limit_, error.what());
  }
}

void WorkerPool::wait_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return queue_.empty() && running_ == 0; });
}

bool WorkerPool::idle() {
  const std::lock_guard lock(mutex_);
  return queue_.empty() && running_ == 0;
}

void WorkerPool::serve() {
  // Signals are for the threads that wait for them; faults stay with whoever causes them.
  sigset_t blocked;
  ::sigfillset(&blocked);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) ::sigdelset(&blocked, fault);
  ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);

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
