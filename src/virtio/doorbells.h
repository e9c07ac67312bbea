// A device's notification registers as events.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace limen::virtio {

/// An eventfd(2) per queue, watched on a loop.
class Doorbells {
 public:
  /// `rung` is called on the loop's thread. `loop` outlives this.
  static Result<std::unique_ptr<Doorbells>> create(unsigned queues, EventLoop& loop,
                                                   std::function<void(unsigned queue)> rung);
  /// Waits for a call that is under way.
  ~Doorbells();
  Doorbells(const Doorbells&) = delete;
  Doorbells& operator=(const Doorbells&) = delete;

  [[nodiscard]] int event(unsigned queue) const { return events_[queue].get(); }
  /// Leaves the event to somebody else, or no longer: what that one did not read is rung then.
  void leave(unsigned queue);
  void resume(unsigned queue);

 private:
  struct Shared;
  explicit Doorbells(EventLoop& loop) : loop_(loop) {}

  EventLoop& loop_;
  std::shared_ptr<Shared> shared_;
  std::vector<UniqueFd> events_;
};

}  // namespace limen::virtio
