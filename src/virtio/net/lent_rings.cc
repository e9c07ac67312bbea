#include "virtio/net/lent_rings.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <utility>

namespace limen::virtio {
namespace {

bool take(int event) {
  eventfd_t count = 0;
  return ::eventfd_read(event, &count) == 0;
}

}  // namespace

LentRings::LentRings(Transport& transport, EventLoop& loop, unsigned pairs,
                     std::function<void(unsigned)> broken)
    : transport_(transport),
      loop_(loop),
      broken_(std::move(broken)),
      events_(2 * size_t{pairs}),
      kicks_(2 * size_t{pairs}) {
  for (auto& kick : kicks_) kick = -1;
}

LentRings::~LentRings() {
  stop();
  for (const Events& events : events_) {
    if (!events.watched) continue;
    loop_.unwatch(events.call.get());
    loop_.unwatch(events.error.get());
  }
}

Result<> LentRings::open(unsigned queue) {
  Events& events = events_[queue];
  if (events.watched) return {};
  for (UniqueFd* const event : {&events.kick, &events.call, &events.error}) {
    event->reset(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!event->valid()) return fail_errno(errno, "an event for a virtio queue");
  }
  const int call = events.call.get(), error = events.error.get();
  LIMEN_TRY(loop_.watch(call, EPOLLIN, [this, call, queue](uint32_t) {
    if (take(call)) transport_.interrupt_queue(queue);
  }));
  if (auto watched = loop_.watch(error, EPOLLIN,
                                 [this, error, queue](uint32_t) {
                                   if (take(error)) broken_(queue);
                                 });
      !watched) {
    loop_.unwatch(call);
    return watched;
  }
  events.watched = true;
  return {};
}

Result<net::KernelRing> LentRings::lend(unsigned queue, size_t unused) {
  const auto rings = transport_.queue(queue).lend(unused);
  if (!rings) return fail("queue {} is off", queue);
  const Events& events = events_[queue];
  const int doorbell = transport_.leave_notifications(queue);
  const int kick = doorbell >= 0 ? doorbell : events.kick.get();
  const int call = events.call.get();
  transport_.connect_interrupt(queue, call, [this, call](bool connected) {
    [[maybe_unused]] const auto changed = loop_.change(call, connected ? 0u : uint32_t{EPOLLIN});
  });
  kicks_[queue] = kick;
  return net::KernelRing{.size = rings->size,
                         .next = rings->next_available,
                         .descriptors = rings->descriptors,
                         .available = rings->available,
                         .used = rings->used,
                         .kick = kick,
                         .call = call,
                         .error = events.error.get()};
}

void LentRings::take_back(unsigned queue, uint16_t next) {
  kicks_[queue] = -1;
  transport_.disconnect_interrupt(queue);
  // An interrupt that is on its way stays.
  [[maybe_unused]] const auto changed = loop_.change(events_[queue].call.get(), EPOLLIN);
  transport_.queue(queue).take_back(next);
  transport_.return_notifications(queue);
}

Result<> LentRings::start(net::KernelRings& kernel, unsigned pairs,
                          const std::function<size_t(unsigned)>& put_back) {
  for (unsigned queue = 0; queue < 2 * pairs; ++queue) LIMEN_TRY(open(queue));
  std::vector<net::KernelRingPair> lent;
  std::vector<uint16_t> next;
  Result<> outcome;
  for (unsigned queue = 0; queue < 2 * pairs && outcome; ++queue) {
    auto ring = lend(queue, put_back(queue));
    if (!ring) {
      outcome = std::unexpected(std::move(ring).error());
      break;
    }
    next.push_back(ring->next);
    if (queue % 2 == 0)
      lent.push_back({.receive = *ring, .transmit = {}});
    else
      lent.back().transmit = *ring;
  }
  if (outcome) outcome = kernel.start(transport_.negotiated_features(), lent);
  if (!outcome) {
    // Some may have been served for a moment.
    const auto reached = kernel.stop();
    for (unsigned queue = 0; queue < next.size(); ++queue) {
      if (queue / 2 < reached.size())
        next[queue] = queue % 2 == 0 ? reached[queue / 2].receive : reached[queue / 2].transmit;
      take_back(queue, next[queue]);
    }
    return outcome;
  }
  kernel_ = &kernel;
  pairs_ = pairs;
  for (unsigned queue = 0; queue < 2 * pairs; ++queue) kick(queue);  // of what is there already
  return {};
}

void LentRings::stop() {
  if (kernel_ == nullptr) return;
  const auto next = std::exchange(kernel_, nullptr)->stop();
  for (unsigned pair = 0; pair < pairs_; ++pair) {
    take_back(2 * pair, next[pair].receive);
    take_back(2 * pair + 1, next[pair].transmit);
  }
}

bool LentRings::kick(unsigned queue) {
  if (queue >= kicks_.size()) return false;
  const int event = kicks_[queue];
  return event >= 0 && ::eventfd_write(event, 1) == 0;
}

}  // namespace limen::virtio
