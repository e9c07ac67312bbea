#include "block/uring_queue.h"

#include <liburing.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "base/delayed_library.h"

namespace limen::block {
namespace {

/// Transfers that the kernel has at once; the others wait here. The completion ring holds twice as
/// many, so it cannot overflow.
constexpr unsigned kEntries = 256;

}  // namespace

struct UringQueue::Work {
  Transfer transfer;
  size_t first = 0;       ///< The first buffer that is not done.
  bool blocking = false;  ///< The kernel wanted it tried again: by a worker of its own.
};

UringQueue::UringQueue(LoopThread& thread) : thread_(thread), ring_(std::make_unique<io_uring>()) {}

Result<std::unique_ptr<UringQueue>> UringQueue::create(LoopThread& thread) {
  LIMEN_TRY(load_library(LIMEN_URING_LIBRARY));
  std::unique_ptr<UringQueue> queue(new UringQueue(thread));
  int error = 0;
  thread.run_there([&] { error = queue->open_ring(); });
  if (error != 0) {
    queue->ring_.reset();
    return fail_errno(error, "setting up io_uring");
  }
  auto* raw = queue.get();
  LIMEN_TRY(thread.loop().watch(queue->completed_.get(), EPOLLIN, [raw](uint32_t) {
    uint64_t count = 0;
    [[maybe_unused]] const auto got = ::read(raw->completed_.get(), &count, sizeof count);
    raw->advance();
  }));
  return queue;
}

int UringQueue::open_ring() {
  // One thread submits and reaps, so the kernel need not interrupt it to finish a request
  // (IORING_SETUP_DEFER_TASKRUN, Linux 6.1). Older kernels do without.
  for (const unsigned flags : {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 0u}) {
    int result = ::io_uring_queue_init(kEntries, ring_.get(), flags);
    if (result == -EINVAL) continue;
    if (result != 0) return -result;
    completed_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    result = ::io_uring_register_eventfd(ring_.get(), completed_.get());
    if (result == 0) return 0;
    ::io_uring_queue_exit(ring_.get());
    return -result;
  }
  return EINVAL;
}

UringQueue::~UringQueue() {
  if (ring_ == nullptr) return;
  thread_.run_there([this] {
    thread_.loop().unwatch(completed_.get());
    ::io_uring_queue_exit(ring_.get());
  });
}

void UringQueue::submit(Transfer transfer) {
  ++under_way_;
  auto work = std::make_unique<Work>();
  work->transfer = std::move(transfer);
  if (thread_.is_current()) {
    waiting_.push_back(std::move(work));
    return advance();
  }
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = inbox_.empty();
    inbox_.push_back(std::move(work));
  }
  if (first) thread_.loop().post([this] { take_inbox(); });
}

void UringQueue::wait_idle() {
  for (uint64_t count = under_way_; count != 0; count = under_way_) under_way_.wait(count);
}

void UringQueue::take_inbox() {
  std::vector<std::unique_ptr<Work>> arrived;
  {
    const std::lock_guard lock(mutex_);
    arrived.swap(inbox_);
  }
  for (auto& work : arrived) waiting_.push_back(std::move(work));
  advance();
}

/// Reaps what is done and submits what waits, until neither gives more.
void UringQueue::advance() {
  // `done` may submit: that is seen by the loop further up.
  if (advancing_) return;
  advancing_ = true;
  do {
    while (!waiting_.empty() && in_kernel_ < kEntries && prepare(*waiting_.front())) {
      [[maybe_unused]] const auto* kernels = waiting_.front().release();  // until reap()
      waiting_.pop_front();
      ++in_kernel_;
    }
    // Also runs what the kernel deferred to this thread.
    ::io_uring_submit_and_get_events(ring_.get());
    reap();
  } while (!waiting_.empty() && in_kernel_ < kEntries);
  advancing_ = false;
}

bool UringQueue::prepare(Work& work) {
  io_uring_sqe* const entry = ::io_uring_get_sqe(ring_.get());
  if (entry == nullptr) return false;
  const Transfer& transfer = work.transfer;
  const iovec* const buffers = &transfer.buffers[work.first];
  const auto count =
      static_cast<unsigned>(std::min<size_t>(transfer.buffers.size() - work.first, IOV_MAX));
  if (transfer.write)
    ::io_uring_prep_writev(entry, transfer.fd, buffers, count, transfer.offset);
  else
    ::io_uring_prep_readv(entry, transfer.fd, buffers, count, transfer.offset);
  if (work.blocking) ::io_uring_sqe_set_flags(entry, IOSQE_ASYNC);
  ::io_uring_sqe_set_data(entry, &work);
  return true;
}

void UringQueue::reap() {
  io_uring_cqe* completion = nullptr;
  while (::io_uring_peek_cqe(ring_.get(), &completion) == 0) {
    std::unique_ptr<Work> work(static_cast<Work*>(::io_uring_cqe_get_data(completion)));
    const int result = completion->res;
    ::io_uring_cqe_seen(ring_.get(), completion);
    --in_kernel_;
    finished(std::move(work), result);
  }
}

void UringQueue::finished(std::unique_ptr<Work> work, int result) {
  Transfer& transfer = work->transfer;
  int error = 0;
  if (result == -EAGAIN || result == -EINTR) {
    work->blocking = true;
  } else if (result < 0) {
    error = -result;
  } else if (result == 0) {
    error = EIO;  // the file became shorter than it was when it was opened
  } else {
    transfer.offset += static_cast<uint64_t>(result);
    for (auto left = static_cast<size_t>(result); left > 0;) {
      auto& buffer = transfer.buffers[work->first];
      const size_t step = std::min(left, buffer.iov_len);
      buffer.iov_base = static_cast<std::byte*>(buffer.iov_base) + step;
      buffer.iov_len -= step;
      left -= step;
      if (buffer.iov_len == 0) ++work->first;
    }
  }
  while (work->first < transfer.buffers.size() && transfer.buffers[work->first].iov_len == 0)
    ++work->first;
  if (error == 0 && work->first < transfer.buffers.size()) {
    waiting_.push_back(std::move(work));
    return;
  }
  if (transfer.done) transfer.done(error);
  work.reset();
  if (--under_way_ == 0) under_way_.notify_all();
}

}  // namespace limen::block
