#include "virtio/doorbells.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <mutex>
#include <utility>

namespace limen::virtio {

/// What a call that comes late still finds.
struct Doorbells::Shared {
  std::mutex mutex;
  std::function<void(unsigned)> rung;  // guarded by mutex; empty: the device is gone
};

Result<std::unique_ptr<Doorbells>> Doorbells::create(unsigned queues, EventLoop& loop,
                                                     std::function<void(unsigned)> rung) {
  std::unique_ptr<Doorbells> made(new Doorbells(loop));
  made->shared_ = std::make_shared<Shared>();
  made->shared_->rung = std::move(rung);
  for (unsigned queue = 0; queue < queues; ++queue) {
    UniqueFd event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!event.valid()) return fail_errno(errno, "an event for a virtio queue");
    const int fd = event.get();
    made->events_.push_back(std::move(event));
    LIMEN_TRY(loop.watch(fd, EPOLLIN, [shared = made->shared_, fd, queue](uint32_t) {
      const std::lock_guard lock(shared->mutex);
      if (!shared->rung) return;
      uint64_t count = 0;
      if (::read(fd, &count, sizeof count) == sizeof count) shared->rung(queue);
    }));
  }
  return made;
}

void Doorbells::leave(unsigned queue) {
  [[maybe_unused]] const auto changed = loop_.change(event(queue), 0);
}

void Doorbells::resume(unsigned queue) {
  [[maybe_unused]] const auto changed = loop_.change(event(queue), EPOLLIN);
}

Doorbells::~Doorbells() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->rung = {};
  }
  for (const auto& event : events_) loop_.unwatch(event.get());
}

}  // namespace limen::virtio
