// A network card's rings in the hands of the host's kernel, which serves them in this process's
// place (vhost-net).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace limen::net {

/// One split ring (virtio 1.2 §2.7). The pointers are to guest memory as this process has it.
struct KernelRing {
  uint16_t size = 0;  ///< Entries.
  uint16_t next = 0;  ///< Index of the entry of the available ring that is taken next.
  std::byte *descriptors = nullptr, *available = nullptr, *used = nullptr;
  // eventfd(2)s, which outlive the service:
  int kick = -1;   ///< The driver's notifications.
  int call = -1;   ///< Signalled where the driver wants an interrupt.
  int error = -1;  ///< Signalled when the driver broke a rule, and the ring stands still.
};

struct KernelRingPair {
  KernelRing receive, transmit;
};

/// What a back end offers whose frames the kernel can move. On the network's thread.
class KernelRings {
 public:
  /// Frames have a header before them that tells of checksums and segments to be made; without,
  /// the card must not offer to leave any unfinished.
  [[nodiscard]] virtual bool leaves_unfinished() const = 0;
  /// The kernel serves these pairs, the first queues of the back end, from now on. `features`:
  /// those that were negotiated. After a failure comes stop(), which may know of fewer pairs.
  virtual Result<> start(uint64_t features, std::span<const KernelRingPair> pairs) = 0;
  struct Next {
    uint16_t receive = 0, transmit = 0;
  };
  /// The kernel touches the rings no more; says where each goes on. Frames for the card wait.
  virtual std::vector<Next> stop() = 0;
  /// This process moves the frames again.
  virtual void release() = 0;

 protected:
  ~KernelRings() = default;
};

}  // namespace limen::net
