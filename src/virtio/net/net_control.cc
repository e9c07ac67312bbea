// The control queue of a network card (virtio 1.2 §5.1.6.5).
#include <algorithm>
#include <cstring>
#include <vector>

#include "virtio/net/net.h"
#include "virtio/net/net_features.h"
#include "virtio/net/net_port.h"

namespace limen::virtio {

using namespace net_feature;

namespace {

/// Classes and commands of the control queue.
enum ControlClass : uint8_t {
  kRx = 0,
  kMacClass = 1,
  kVlan = 2,
  kAnnounceClass = 3,
  kMq = 4,
  kOffloadsClass = 5
};
constexpr uint8_t kAckOk = 0, kAckError = 1;
constexpr size_t kLongestCommand = 65536;

}  // namespace

void Net::serve_control() {
  const unsigned index = control_queue();
  Virtqueue& queue = transport_->queue(index);
  bool interrupt = false;
  DescriptorChain chain;
  std::vector<std::byte> command;
  while (queue.pop_into(chain)) {
    if (chain.writable_bytes < 1 || chain.readable_bytes < 2) {
      transport_->needs_reset("control command without a header or room for an answer");
      return;
    }
    command.resize(std::min<uint64_t>(chain.readable_bytes, kLongestCommand));
    chain.read(0, command);
    const bool done = chain.readable_bytes <= kLongestCommand && control(command);
    const std::byte ack{done ? kAckOk : kAckError};
    chain.write(0, std::span(&ack, 1));
    interrupt |= queue.push(chain, 1);
  }
  if (interrupt) transport_->interrupt_queue(index);
  stop_if_broken(*transport_, index);
}

bool Net::control(std::span<const std::byte> command) {
  const auto kind = static_cast<uint8_t>(command[0]), verb = static_cast<uint8_t>(command[1]);
  const auto data = command.subspan(2);
  const auto half = [&] {
    uint16_t value = 0;
    std::memcpy(&value, data.data(), sizeof value);
    return value;
  };
  switch (kind) {
    case kRx:
      if (data.size() != 1 || !negotiated(verb <= 1 ? kCtrlRx : kCtrlRxExtra)) return false;
      return filter_.set_mode(verb, data[0] != std::byte{0});
    case kMacClass: {
      if (verb == 0) return negotiated(kCtrlRx) && filter_.set_table(data);
      if (verb != 1 || data.size() != net::kMacBytes || !negotiated(kCtrlMacAddr)) return false;
      MacAddress mac;
      std::memcpy(mac.data(), data.data(), mac.size());
      filter_.set_mac(mac);
      uint64_t packed = 0;
      std::memcpy(&packed, mac.data(), mac.size());
      mac_ = packed;
      return true;
    }
    case kVlan:
      return data.size() == 2 && verb <= 1 && negotiated(kCtrlVlan) &&
             filter_.set_vlan(half(), verb == 0);
    case kAnnounceClass:
      if (verb != 0 || !negotiated(kGuestAnnounce)) return false;
      announce_ = false;
      return true;
    case kMq:
      return verb == 0 && data.size() == 2 && negotiated(kMultiqueue) && set_pairs(half());
    case kOffloadsClass: {
      uint64_t wanted = 0;
      if (verb != 0 || data.size() != sizeof wanted || !negotiated(kCtrlGuestOffloads))
        return false;
      std::memcpy(&wanted, data.data(), sizeof wanted);
      const uint64_t possible = transport_->negotiated_features() & kGuestOffloads;
      if ((wanted & ~possible) != 0) return false;
      set_offloads(wanted);
      return true;
    }
    default:
      return false;
  }
}

bool Net::set_pairs(unsigned pairs) {
  if (pairs < 1 || pairs > pairs_) return false;
  lent_->stop();
  pairs_used_ = pairs;
  port_->use_queues(pairs);
  update_loan();
  for (unsigned queue = 0; !lent_->lent() && queue < 2 * pairs; ++queue) queue_notified(queue);
  return true;
}

}  // namespace limen::virtio
