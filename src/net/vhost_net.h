// The kernel's own network device for guests, /dev/vhost-net (<linux/vhost.h>): one pair of rings
// before one queue of a tap device.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "memory/guest_memory.h"
#include "net/kernel_rings.h"

namespace limen::net {

class VhostNet {
 public:
  /// Takes `fd`, an open /dev/vhost-net. Its thread in the kernel belongs to this process from then
  /// on, and reaches the RAM of `memory`. Fails where the kernel lacks what a card offers.
  static Result<VhostNet> create(UniqueFd fd, const memory::GuestMemory& memory);
  /// Opens the device first.
  static Result<VhostNet> open(const memory::GuestMemory& memory);

  /// Tells the kernel of the pair. `header`: the tap device has one (IFF_VNET_HDR), of 12 bytes by
  /// now. `poll_microseconds`: how long it looks for more before it sleeps.
  Result<> prepare(bool header, unsigned poll_microseconds, uint64_t features,
                   const KernelRingPair& pair) const;
  /// Serves the pair before `tap` from now on.
  [[nodiscard]] Result<> start(int tap) const;
  /// Stops it; fine when it does not run. After prepare().
  [[nodiscard]] KernelRings::Next stop() const;

 private:
  explicit VhostNet(UniqueFd fd) : fd_(std::move(fd)) {}
  [[nodiscard]] Result<> set_up(unsigned index, const KernelRing& ring,
                                unsigned poll_microseconds) const;
  [[nodiscard]] uint16_t stop(unsigned index) const;

  UniqueFd fd_;
};

}  // namespace limen::net
