#include "base/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace limen {
namespace {

timespec to_timespec(Clock::duration duration) {
  const auto nanoseconds = std::chrono::nanoseconds(duration).count();
  return {.tv_sec = nanoseconds / 1'000'000'000, .tv_nsec = nanoseconds % 1'000'000'000};
}

uint64_t watch_key(int fd, uint32_t serial) {
  return uint64_t{serial} << 32 | static_cast<uint32_t>(fd);
}

}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::create(Time time) {
  std::unique_ptr<EventLoop> loop(new EventLoop);
  loop->manual_ = time == Time::kManual;
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
  const uint32_t serial = ++last_serial_;
  epoll_event event{.events = events, .data = {.u64 = watch_key(fd, serial)}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return fail_errno(errno, fmt::format("watching file descriptor {}", fd));
  watches_[fd] = {serial, std::make_shared<std::function<void(uint32_t)>>(std::move(ready))};
  return {};
}

Result<> EventLoop::change(int fd, uint32_t events) {
  const std::lock_guard lock(mutex_);
  const auto found = watches_.find(fd);
  if (found == watches_.end()) return fail("file descriptor {} is not watched", fd);
  epoll_event event{.events = events, .data = {.u64 = watch_key(fd, found->second.serial)}};
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
  while (!stopped_) handle(prepare_to_sleep());
}

void EventLoop::poll() { handle(Clock::duration::zero()); }

void EventLoop::handle(std::optional<Clock::duration> limit) {
  std::array<epoll_event, 16> ready;
  const int count = wait(ready.data(), static_cast<int>(ready.size()), limit);
  {
    const std::lock_guard lock(mutex_);
    sleeps_until_ = Clock::time_point::min();
  }
  for (int i = 0; i < count; ++i) {
    const auto& event = ready[static_cast<size_t>(i)];
    std::shared_ptr<std::function<void(uint32_t)>> callback;
    {
      const std::lock_guard lock(mutex_);
      const int fd = static_cast<int>(event.data.u64 & 0xFFFFFFFF);
      if (auto it = watches_.find(fd);
          it != watches_.end() && watch_key(fd, it->second.serial) == event.data.u64)
        callback = it->second.ready;
    }
    if (callback) (*callback)(event.events);
  }
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard lock(mutex_);
    work.swap(posted_);
  }
  for (auto& item : work) item();
  run_due_timers();
}

int EventLoop::wait(epoll_event* events, int capacity, std::optional<Clock::duration> limit) {
  if (!limit) return ::epoll_wait(epoll_.get(), events, capacity, -1);
  if (*limit <= Clock::duration::zero()) return ::epoll_wait(epoll_.get(), events, capacity, 0);
  if (!timer_fd_.valid()) {
    const timespec timeout = to_timespec(*limit);
    const int count = ::epoll_pwait2(epoll_.get(), events, capacity, &timeout, nullptr);
    if (count >= 0 || (errno != ENOSYS && errno != EPERM)) return count;
    // Linux before 5.11, or a sandbox: a timer of the kernel's ends the wait instead.
    timer_fd_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    const int fd = timer_fd_.get();
    const auto watched = watch(fd, EPOLLIN, [fd](uint32_t) {
      uint64_t expirations = 0;
      [[maybe_unused]] auto got = ::read(fd, &expirations, sizeof expirations);
    });
    if (!watched) {
      timer_fd_.reset();
      const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(*limit).count();
      return ::epoll_wait(epoll_.get(), events, capacity,
                          static_cast<int>(std::min<int64_t>(milliseconds, 1000)));
    }
  }
  const itimerspec timeout{.it_interval = {}, .it_value = to_timespec(*limit)};
  ::timerfd_settime(timer_fd_.get(), 0, &timeout, nullptr);
  return ::epoll_wait(epoll_.get(), events, capacity, -1);
}

std::optional<Clock::duration> EventLoop::prepare_to_sleep() {
  const std::lock_guard lock(mutex_);
  // A manual clock stands still while the loop sleeps: only advance() makes a timer due.
  if (!posted_.empty() || stopped_) return Clock::duration::zero();
  if (deadlines_.empty() || manual_) {
    sleeps_until_ = Clock::time_point::max();
    return std::nullopt;
  }
  sleeps_until_ = deadlines_.begin()->first;
  return sleeps_until_ - now();
}

void EventLoop::run_due_timers() {
  std::unique_lock lock(mutex_);
  // Timers that are armed again for a time that has passed wait for the next round, so that file
  // descriptors are not starved.
  const auto until = now();
  while (!deadlines_.empty() && deadlines_.begin()->first <= until) {
    Timer* due = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    due->armed_ = false;
    running_ = due;
    running_thread_ = std::this_thread::get_id();
    lock.unlock();
    due->expired_();
    lock.lock();
    running_ = nullptr;
    running_done_.notify_all();
  }
}

void EventLoop::advance(Clock::duration step) {
  const auto target = now() + step;
  for (;;) {
    auto next = target;
    {
      const std::lock_guard lock(mutex_);
      if (!deadlines_.empty()) next = std::clamp(deadlines_.begin()->first, now(), target);
    }
    manual_now_.store(next.time_since_epoch().count(), std::memory_order_release);
    run_due_timers();
    const std::lock_guard lock(mutex_);
    if (next == target && (deadlines_.empty() || deadlines_.begin()->first > target)) return;
  }
}

void EventLoop::leap(Clock::duration step) {
  manual_now_.store((now() + step).time_since_epoch().count(), std::memory_order_release);
  advance(Clock::duration::zero());
}

Timer::Timer(EventLoop& loop, std::function<void()> expired)
    : loop_(loop), expired_(std::move(expired)) {}

Timer::~Timer() { cancel(); }

void Timer::arm(Clock::time_point deadline) {
  bool wake = false;
  {
    const std::lock_guard lock(loop_.mutex_);
    if (armed_) {
      auto node = loop_.deadlines_.extract(position_);
      node.key() = deadline;
      position_ = loop_.deadlines_.insert(std::move(node));
    } else {
      position_ = loop_.deadlines_.emplace(deadline, this);
      armed_ = true;
    }
    if (deadline < loop_.sleeps_until_) {
      loop_.sleeps_until_ = deadline;
      wake = true;
    }
  }
  if (wake) loop_.wake();
}

void Timer::disarm() {
  const std::lock_guard lock(loop_.mutex_);
  if (armed_) loop_.deadlines_.erase(position_);
  armed_ = false;
}

void Timer::cancel() {
  std::unique_lock lock(loop_.mutex_);
  const bool inside = loop_.running_ == this && loop_.running_thread_ == std::this_thread::get_id();
  for (;;) {
    // The callback may arm the timer again before it ends.
    if (armed_) loop_.deadlines_.erase(position_);
    armed_ = false;
    if (inside || loop_.running_ != this) return;
    loop_.running_done_.wait(lock);
  }
}

}  // namespace limen
