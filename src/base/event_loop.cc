#include "base/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>

namespace limen {

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  std::unique_ptr<EventLoop> loop(new EventLoop);
  loop->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!loop->epoll_.valid()) return fail_errno(errno, "epoll_create1");
  loop->wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!loop->wake_.valid()) return fail_errno(errno, "eventfd");
  const int wake_fd = loop->wake_.get();
  LIMEN_TRY(loop->watch(wake_fd, EPOLLIN, [wake_fd](uint32_t) {
    uint64_t count = 0;
    [[maybe_unused]] auto got = ::read(wake_fd, &count, sizeof count);
  }));
  return loop;
}

EventLoop::~EventLoop() = default;

Result<> EventLoop::watch(int fd, uint32_t events, std::function<void(uint32_t)> ready) {
  const std::lock_guard lock(mutex_);
  epoll_event event{.events = events, .data = {.fd = fd}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return fail_errno(errno, fmt::format("watching file descriptor {}", fd));
  watches_[fd] = std::make_shared<std::function<void(uint32_t)>>(std::move(ready));
  return {};
}

Result<> EventLoop::change(int fd, uint32_t events) {
  epoll_event event{.events = events, .data = {.fd = fd}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0)
    return fail_errno(errno, fmt::format("watching file descriptor {}", fd));
  return {};
}

void EventLoop::unwatch(int fd) {
  const std::lock_guard lock(mutex_);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watches_.erase(fd);
}

void EventLoop::post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
  }
  wake();
}

void EventLoop::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] auto put = ::write(wake_.get(), &one, sizeof one);
}

void EventLoop::stop() {
  stopped_ = true;
  wake();
}

void EventLoop::run() {
  std::array<epoll_event, 16> ready;
  while (!stopped_) {
    const int count = ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()),
                                   milliseconds_until_next_deadline());
    for (int i = 0; i < count && !stopped_; ++i) {
      std::shared_ptr<std::function<void(uint32_t)>> callback;
      {
        const std::lock_guard lock(mutex_);
        if (auto it = watches_.find(ready[static_cast<size_t>(i)].data.fd); it != watches_.end())
          callback = it->second;
      }
      if (callback) (*callback)(ready[static_cast<size_t>(i)].events);
    }
    std::vector<std::function<void()>> work;
    {
      const std::lock_guard lock(mutex_);
      work.swap(posted_);
    }
    for (auto& item : work) item();
    run_due_timers();
  }
}

int EventLoop::milliseconds_until_next_deadline() {
  const std::lock_guard lock(mutex_);
  if (!posted_.empty()) return 0;
  if (deadlines_.empty()) return -1;
  const auto left = deadlines_.begin()->first - Clock::now();
  if (left <= Clock::duration::zero()) return 0;
  return static_cast<int>(std::min<int64_t>(
      std::chrono::ceil<std::chrono::milliseconds>(left).count(), 1000));
}

void EventLoop::run_due_timers() {
  for (;;) {
    Timer* due = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (deadlines_.empty() || deadlines_.begin()->first > Clock::now()) return;
      due = deadlines_.begin()->second;
      deadlines_.erase(deadlines_.begin());
      due->armed_ = false;
    }
    due->expired_();
  }
}

Timer::Timer(EventLoop& loop, std::function<void()> expired)
    : loop_(loop), expired_(std::move(expired)) {}

Timer::~Timer() { cancel(); }

void Timer::arm(Clock::time_point deadline) {
  bool first = false;
  {
    const std::lock_guard lock(loop_.mutex_);
    if (armed_) loop_.deadlines_.erase(position_);
    position_ = loop_.deadlines_.emplace(deadline, this);
    armed_ = true;
    first = position_ == loop_.deadlines_.begin();
  }
  if (first) loop_.wake();
}

void Timer::cancel() {
  const std::lock_guard lock(loop_.mutex_);
  if (armed_) loop_.deadlines_.erase(position_);
  armed_ = false;
}

}  // namespace limen
