// A network card's rings while the host's kernel serves them (net/kernel_rings.h).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "net/kernel_rings.h"
#include "virtio/virtio_device.h"

namespace limen::virtio {

/// Queues 2n (receive) and 2n + 1 (transmit) are pair n. All calls but kick() belong to the thread
/// of the loop.
class LentRings {
 public:
  /// `broken` is called for a queue whose driver broke a rule of the rings. `transport` and `loop`
  /// outlive this.
  LentRings(Transport& transport, EventLoop& loop, unsigned pairs,
            std::function<void(unsigned queue)> broken);
  ~LentRings();
  LentRings(const LentRings&) = delete;
  LentRings& operator=(const LentRings&) = delete;

  /// Lends the first `pairs` pairs to `kernel`, which outlives the loan. `put_back` forgets the
  /// chains of a queue that were popped and not pushed, and says how many. A failure changes
  /// nothing, but that notifications may have been missed.
  Result<> start(net::KernelRings& kernel, unsigned pairs,
                 const std::function<size_t(unsigned queue)>& put_back);
  /// Takes them back; fine when none are lent.
  void stop();
  [[nodiscard]] bool lent() const { return kernel_ != nullptr; }

  /// A notification of the driver's that came to this process. False: the ring is not lent.
  bool kick(unsigned queue);

 private:
  /// Of one queue; they live as long as this does, so that a late kick() finds them.
  struct Events {
    UniqueFd kick, call, error;
    bool watched = false;
  };
  Result<> open(unsigned queue);
  Result<net::KernelRing> lend(unsigned queue, size_t unused);
  void take_back(unsigned queue, uint16_t next);

  Transport& transport_;
  EventLoop& loop_;
  const std::function<void(unsigned)> broken_;
  std::vector<Events> events_;
  std::vector<std::atomic<int>> kicks_;  ///< Where kick() writes to; -1: not lent.
  net::KernelRings* kernel_ = nullptr;
  unsigned pairs_ = 0;  ///< That are lent.
};

}  // namespace limen::virtio
