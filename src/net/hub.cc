#include "net/hub.h"

#include <fmt/format.h>

#include <algorithm>

namespace limen::net {

HubPort::HubPort(Hub& hub) : hub_(hub) { hub_.ports_.push_back(this); }

HubPort::~HubPort() { std::erase(hub_.ports_, this); }

std::string HubPort::describe() const { return fmt::format("hub {}", hub_.number()); }

Delivery HubPort::receive(const Frame& frame, unsigned) {
  // A slow listener loses frames; the others do not wait for it.
  for (HubPort* port : hub_.ports_)
    if (port != this) port->forward(frame);
  return Delivery::kTaken;
}

void HubPort::burst_ended() {
  for (HubPort* port : hub_.ports_)
    if (port != this) port->forward_end();
}

/// Anything: each cable finishes what its far end does not take.
Offloads HubPort::offloads() const {
  return {.checksum = true, .tcp4 = true, .tcp6 = true, .ecn = true, .udp = true};
}

}  // namespace limen::net
