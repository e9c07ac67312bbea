// Reads and writes through io_uring(7), handled on one thread: it submits, and it hears of the end.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/loop_thread.h"
#include "base/result.h"
#include "base/unique_fd.h"

struct io_uring;  // NOLINT(readability-identifier-naming): liburing's

namespace limen::block {

class UringQueue {
 public:
  /// A transfer of all of `buffers`, which stay valid until `done` was called.
  struct Transfer {
    int fd = -1;
    bool write = false;
    std::vector<iovec> buffers = {};
    uint64_t offset = 0;
    std::function<void(int error)> done = {};  ///< 0 or an errno; called on the thread.
  };

  /// Fails where the kernel has no io_uring or may not be asked for it.
  static Result<std::unique_ptr<UringQueue>> create(LoopThread& thread);
  /// Nothing may be under way. Not on the thread.
  ~UringQueue();
  UringQueue(const UringQueue&) = delete;
  UringQueue& operator=(const UringQueue&) = delete;

  /// Thread-safe; on the thread itself without a detour.
  void submit(Transfer transfer);
  [[nodiscard]] bool idle() const { return under_way_ == 0; }
  /// Waits until everything submitted is done. Not on the thread.
  void wait_idle();

 private:
  struct Work;

  explicit UringQueue(LoopThread& thread);
  int open_ring();
  void take_inbox();
  void advance();
  bool prepare(Work& work);
  void reap();
  void finished(std::unique_ptr<Work> work, int result);

  LoopThread& thread_;
  std::unique_ptr<io_uring> ring_;
  UniqueFd completed_;  ///< Readable when there is something to reap, or deferred work to run.
  std::atomic<uint64_t> under_way_ = 0;

  std::mutex mutex_;
  std::vector<std::unique_ptr<Work>> inbox_;  // guarded by mutex_

  // The thread's own:
  std::deque<std::unique_ptr<Work>> waiting_;
  unsigned in_kernel_ = 0;
  bool advancing_ = false;
};

}  // namespace limen::block
