#include "virtio/net/net.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "virtio/net/net_features.h"
#include "virtio/net/net_port.h"

namespace limen::virtio {

using namespace net_feature;

namespace {

struct FeatureProperty {
  std::string_view name;
  uint64_t bits;
};
constexpr std::array<FeatureProperty, 19> kFeatureProperties = {{
    {"csum", kCsum},
    {"guest_csum", kGuestCsum},
    {"gso", kHostTso4 | kHostTso6 | kHostEcn | kHostUfo},
    {"host_tso4", kHostTso4},
    {"host_tso6", kHostTso6},
    {"host_ecn", kHostEcn},
    {"host_ufo", kHostUfo},
    {"guest_tso4", kGuestTso4},
    {"guest_tso6", kGuestTso6},
    {"guest_ecn", kGuestEcn},
    {"guest_ufo", kGuestUfo},
    {"mrg_rxbuf", kMergeable},
    {"status", kStatus},
    {"ctrl_vq", kCtrlVq},
    {"ctrl_rx", kCtrlRx},
    {"ctrl_vlan", kCtrlVlan},
    {"ctrl_rx_extra", kCtrlRxExtra},
    {"ctrl_mac_addr", kCtrlMacAddr},
    {"guest_announce", kGuestAnnounce},
}};

/// struct virtio_net_config (§5.1.4) as far as it is used.
struct __attribute__((packed)) Configuration {
  uint8_t mac[6];
  uint16_t status;
  uint16_t max_virtqueue_pairs;
  uint16_t mtu;
  uint32_t speed;
  uint8_t duplex;
};
static_assert(sizeof(Configuration) == 17);
constexpr uint16_t kLinkUp = 1, kAnnounce = 2;

/// struct virtio_net_hdr with num_buffers, which VERSION_1 always has (§5.1.6).
struct Header {
  net::OffloadHeader offload;
  uint16_t buffers = 0;
};
static_assert(sizeof(Header) == 12);

/// Requests handled before others have a turn.
constexpr unsigned kBurst = 128;
constexpr uint16_t kLeastQueue = 64;

}  // namespace

struct Net::Receiver {
  std::vector<DescriptorChain> chains;  ///< Taken from the ring, the first `held` of them unused.
  size_t held = 0;
  uint64_t room = 0;  ///< Bytes that the held chains take.
  std::vector<uint32_t> written;
  bool starved = false;
};

struct Net::Sender {
  DescriptorChain chain;
  bool waiting = false;  ///< `chain` was not sent: the back end had no room.
  std::vector<iovec> parts;
};

uint64_t Net::feature_of(std::string_view property) {
  const auto found = std::ranges::find(kFeatureProperties, property, &FeatureProperty::name);
  return found == kFeatureProperties.end() ? 0 : found->bits;
}

std::vector<std::string_view> Net::feature_properties() {
  std::vector<std::string_view> names;
  names.reserve(kFeatureProperties.size());
  for (const auto& property : kFeatureProperties) names.push_back(property.name);
  return names;
}

Result<std::unique_ptr<Net>> Net::create(const NetProperties& properties, net::Network& network) {
  for (const auto& [size, name] :
       {std::pair<uint16_t, const char*>{properties.receive_queue_size, "rx_queue_size"},
        std::pair<uint16_t, const char*>{properties.transmit_queue_size, "tx_queue_size"}})
    if (size < kLeastQueue || size > Virtqueue::kMaximumSize || !std::has_single_bit(size))
      return fail("Invalid {} (= {}), must be a power of 2 between {} and {}", name, size,
                  kLeastQueue, Virtqueue::kMaximumSize);
  if (properties.mtu != 0 && properties.mtu < 68)
    return fail("host_mtu={}: should be 68 to 65535", properties.mtu);
  std::unique_ptr<Net> card(new Net(properties, network));
  LIMEN_TRY(card->plug());
  return card;
}

Net::Net(const NetProperties& properties, net::Network& network)
    : properties_(properties),
      network_(network),
      port_(std::make_unique<Port>(*this)),
      notified_(2 * kMostPairs + 1) {
  uint64_t mac = 0;
  std::memcpy(&mac, properties.mac.data(), properties.mac.size());
  mac_ = mac;
}

Result<> Net::plug() {
  if (!properties_.netdev.empty()) LIMEN_TRY(network_.plug(*port_, properties_.netdev));
  network_.add_card(*port_, properties_.id, "virtio-net-pci");
  network_.run([this] {
    if (properties_.multiqueue) pairs_ = std::clamp(port_->back_end_queues(), 1u, kMostPairs);
    if (const auto* kernel = port_->back_end_rings())
      leaves_unfinished_ = kernel->leaves_unfinished();
    link_up_ = port_->cable_up();
    receivers_ = std::vector<Receiver>(pairs_);
    senders_ = std::vector<Sender>(pairs_);
    reset_state();
  });
  return {};
}

Net::~Net() {
  network_.run([this] {
    network_.remove_card(*port_);
    lent_.reset();
    port_.reset();
  });
}

uint64_t Net::features() const {
  uint64_t bits = kCsum | kGuestOffloads | kCtrlGuestOffloads | kMac | kHostTso4 | kHostTso6 |
                  kHostEcn | kHostUfo | kMergeable | kStatus | kCtrlVq | kCtrlRx | kCtrlVlan |
                  kCtrlRxExtra | kGuestAnnounce | kCtrlMacAddr;
  if (pairs_ > 1) bits |= kMultiqueue;
  if (properties_.mtu != 0) bits |= kMtu;
  if (properties_.speed != UINT32_MAX || properties_.duplex != 0xFF) bits |= kSpeedDuplex;
  if (!leaves_unfinished_) bits &= ~(kCsum | kGuestCsum | kCtrlGuestOffloads);
  bits &= ~properties_.features_off;
  // What needs what (§5.1.3.1).
  if ((bits & kCtrlVq) == 0)
    bits &= ~(kCtrlRx | kCtrlVlan | kCtrlRxExtra | kGuestAnnounce | kMultiqueue | kCtrlMacAddr |
              kCtrlGuestOffloads);
  if ((bits & kCsum) == 0) bits &= ~(kHostTso4 | kHostTso6 | kHostEcn | kHostUfo);
  if ((bits & kGuestCsum) == 0) bits &= ~kGuestOffloads;
  if ((bits & (kHostTso4 | kHostTso6)) == 0) bits &= ~kHostEcn;
  if ((bits & (kGuestTso4 | kGuestTso6)) == 0) bits &= ~kGuestEcn;
  return bits;
}

uint16_t Net::queue_size(unsigned index) const {
  if (index == 2 * pairs_) return kLeastQueue;
  return index % 2 == 0 ? properties_.receive_queue_size : properties_.transmit_queue_size;
}

size_t Net::configuration_size() const { return sizeof(Configuration); }

void Net::read_configuration(size_t offset, std::span<std::byte> into) {
  Configuration configuration{};
  const uint64_t mac = mac_;
  std::memcpy(configuration.mac, &mac, sizeof configuration.mac);
  configuration.status =
      static_cast<uint16_t>((link_up_ ? kLinkUp : 0) | (announce_ ? kAnnounce : 0));
  configuration.max_virtqueue_pairs = static_cast<uint16_t>(pairs_);
  configuration.mtu = properties_.mtu;
  configuration.speed = properties_.speed;
  configuration.duplex = properties_.duplex;
  std::memcpy(into.data(), reinterpret_cast<const std::byte*>(&configuration) + offset,
              into.size());
}

bool Net::negotiated(uint64_t feature) const {
  return (transport_->negotiated_features() & feature) != 0;
}

/// Without MQ there is one pair, and the control queue stands behind it (§5.1.2).
unsigned Net::control_queue() const { return negotiated(kMultiqueue) ? 2 * pairs_ : 2; }

void Net::connect(Transport& transport) {
  transport_ = &transport;
  lent_ = std::make_unique<LentRings>(transport, network_.loop(), pairs_, [this](unsigned queue) {
    transport_->needs_reset(fmt::format("the kernel's vhost-net refuses queue {}", queue));
  });
}

void Net::queue_notified(unsigned index) {
  if (lent_->kick(index) || notified_[index].exchange(true)) return;
  network_.loop().post([this, index] {
    notified_[index] = false;
    serve(index);
  });
}

EventLoop* Net::doorbell_loop(EventLoop&) { return &network_.loop(); }

void Net::started() {
  network_.run([this] {
    set_offloads(transport_->negotiated_features());
    filter_.set_vlan_filter(negotiated(kCtrlVlan));
    update_loan();
  });
}

void Net::stopped() {
  network_.run([this] { update_loan(); });
}

void Net::reset() {
  network_.run([this] { reset_state(); });
}

void Net::reset_state() {
  loan_refused_ = false;
  update_loan();
  for (auto& receiver : receivers_) receiver.held = receiver.room = receiver.starved = 0;
  for (auto& sender : senders_) sender.waiting = false;
  uint64_t mac = 0;
  std::memcpy(&mac, properties_.mac.data(), properties_.mac.size());
  mac_ = mac;
  announce_ = false;
  filter_.reset(properties_.mac);
  pairs_used_ = 1;
  set_offloads(0);
  port_->use_queues(1);
  port_->room_again();  // what waits for a driver's buffers need not
}

void Net::set_offloads(uint64_t features) {
  const bool checksum = (features & kGuestCsum) != 0;
  offloads_ = {.checksum = checksum,
               .tcp4 = checksum && (features & kGuestTso4) != 0,
               .tcp6 = checksum && (features & kGuestTso6) != 0,
               .ecn = checksum && (features & kGuestEcn) != 0,
               .udp = checksum && (features & kGuestUfo) != 0};
  port_->tell_offloads();
}

void Net::serve(unsigned queue) {
  if (!transport_->running() || lent_->kick(queue)) return;
  if (!port_->machine_runs()) return;  // it looks at all queues when it goes on
  if (queue == control_queue()) {
    serve_control();
    return;
  }
  if (queue >= 2 * pairs_) return;
  if (queue % 2 != 0) return transmit(queue / 2);
  Receiver& receiver = receivers_[queue / 2];
  if (std::exchange(receiver.starved, false)) port_->room_again();
}

void Net::peer_ready() {
  for (unsigned pair = 0; pair < pairs_; ++pair)
    if (senders_[pair].waiting) transmit(pair);
}

void Net::link_changed() {
  update_loan();
  const bool up = port_->cable_up();
  if (link_up_.exchange(up) == up || transport_ == nullptr) return;
  if (transport_->running() && negotiated(kStatus)) transport_->configuration_changed();
}

// --- Rings that the kernel serves ----------------------------------------------------------------

void Net::running_changed() {
  if (transport_ == nullptr) return;
  update_loan();
  for (unsigned queue = 0; port_->machine_runs() && queue < queue_count(); ++queue)
    queue_notified(queue);
}

void Net::update_loan() {
  net::KernelRings* const kernel = port_->back_end_rings();
  if (transport_ == nullptr) return;
  const bool wanted = kernel != nullptr && !loan_refused_ && port_->machine_runs() &&
                      port_->cable_up() && transport_->running() && rings_on();
  if (wanted && !lent_->lent()) borrow(*kernel);
  if (wanted) return;
  const bool had = lent_->lent();
  lent_->stop();
  // While the machine stands still its memory does, too: frames wait in the kernel.
  if (!port_->machine_runs()) return;
  if (kernel != nullptr) kernel->release();
  for (unsigned queue = 0; had && queue < 2 * pairs_; ++queue) queue_notified(queue);
}

void Net::borrow(net::KernelRings& kernel) {
  auto started =
      lent_->start(kernel, pairs_used_, [this](unsigned queue) { return put_back(queue); });
  if (started) return;
  loan_refused_ = true;
  // Once: a guest can have it asked as often as it likes.
  if (!std::exchange(warned_, true))
    log::warning("vhost=on: {}; frames go through this process", started.error().message);
  kernel.release();
  for (unsigned queue = 0; queue < 2 * pairs_; ++queue) queue_notified(queue);
}

bool Net::rings_on() const {
  for (unsigned queue = 0; queue < 2 * pairs_used_; ++queue)
    if (!transport_->queue(queue).enabled()) return false;
  return true;
}

size_t Net::put_back(unsigned queue) {
  if (queue % 2 != 0) return std::exchange(senders_[queue / 2].waiting, false) ? 1 : 0;
  Receiver& receiver = receivers_[queue / 2];
  receiver.room = 0;
  return std::exchange(receiver.held, size_t{0});
}

// --- Transmission (§5.1.6.2) ---------------------------------------------------------------------

void Net::transmit(unsigned pair) {
  const unsigned index = 2 * pair + 1;
  Sender& sender = senders_[pair];
  Virtqueue& queue = transport_->queue(index);
  bool interrupt = false;
  unsigned done = 0;
  for (; done < kBurst; ++done) {
    if (!sender.waiting && !queue.pop_into(sender.chain)) break;
    const DescriptorChain& chain = sender.chain;
    Header header;
    if (chain.read(0, std::as_writable_bytes(std::span(&header, 1))) != sizeof header) {
      transport_->needs_reset("frame without a header");
      return;
    }
    sender.parts.clear();
    size_t skip = sizeof header;
    for (const Buffer& buffer : chain.readable) {
      const size_t size = buffer.bytes.size();
      if (size > skip) sender.parts.push_back({buffer.bytes.data() + skip, size - skip});
      skip -= std::min(skip, size);
    }
    const net::Frame frame{.parts = sender.parts,
                           .bytes = chain.readable_bytes - sizeof header,
                           .offload = header.offload};
    // One that is too short or too long for any wire is lost.
    const bool sound =
        frame.bytes >= net::kEthernetHeaderBytes && frame.bytes <= net::kMaximumFrame;
    sender.waiting = sound && port_->transmit(frame, pair) == net::Delivery::kFull;
    if (sender.waiting) break;
    interrupt |= queue.push(chain, 0);
  }
  if (interrupt) transport_->interrupt_queue(index);
  port_->transmitted();
  stop_if_broken(*transport_, index);
  if (done == kBurst) queue_notified(index);  // there may be more
}

// --- Reception (§5.1.6.4) ------------------------------------------------------------------------

net::Delivery Net::receive(const net::Frame& frame, unsigned pair) {
  if (transport_ == nullptr || !transport_->running()) return net::Delivery::kTaken;
  pair %= pairs_used_;
  const unsigned index = 2 * pair;
  Virtqueue& queue = transport_->queue(index);
  if (!queue.enabled()) return net::Delivery::kTaken;
  std::array<std::byte, 18> head;
  if (!filter_.passes(std::span(head).first(net::copy_out(frame, head))))
    return net::Delivery::kTaken;

  Receiver& receiver = receivers_[pair];
  const size_t bytes = sizeof(Header) + frame.bytes;
  const bool mergeable = negotiated(kMergeable);
  if (!collect_buffers(receiver, index, mergeable ? bytes : 1)) {
    stop_if_broken(*transport_, index);
    receiver.starved = true;
    return net::Delivery::kFull;
  }
  size_t buffers = 1;
  if (mergeable)
    for (uint64_t room = receiver.chains[0].writable_bytes; room < bytes; ++buffers)
      room += receiver.chains[buffers].writable_bytes;
  else if (receiver.chains[0].writable_bytes < bytes)
    return net::Delivery::kTaken;  // larger than the driver said it would take
  fill(receiver, frame, buffers);
  const bool interrupt = queue.push_all(std::span(receiver.chains).first(buffers),
                                        std::span(receiver.written).first(buffers));
  for (size_t i = 0; i < buffers; ++i) receiver.room -= receiver.chains[i].writable_bytes;
  // The used ones go behind the others, to be filled again.
  std::rotate(receiver.chains.begin(), receiver.chains.begin() + static_cast<ptrdiff_t>(buffers),
              receiver.chains.begin() + static_cast<ptrdiff_t>(receiver.held));
  receiver.held -= buffers;
  if (interrupt) transport_->interrupt_queue(index);
  return net::Delivery::kTaken;
}

/// Takes chains from the ring until they hold `bytes`. False: the driver has not given enough.
bool Net::collect_buffers(Receiver& receiver, unsigned queue, size_t bytes) {
  while (receiver.room < bytes) {
    if (receiver.held == receiver.chains.size()) receiver.chains.emplace_back();
    DescriptorChain& chain = receiver.chains[receiver.held];
    if (!transport_->queue(queue).pop_into(chain)) return false;
    if (chain.writable_bytes < sizeof(Header)) {
      transport_->needs_reset("receive buffer without room for a header");
      return false;
    }
    receiver.room += chain.writable_bytes;
    ++receiver.held;
  }
  return true;
}

/// Header and frame into the first `buffers` chains, one after the other.
void Net::fill(Receiver& receiver, const net::Frame& frame, size_t buffers) {
  Header header{.offload = frame.offload, .buffers = static_cast<uint16_t>(buffers)};
  if (!offloads_.checksum) header.offload = {};
  receiver.written.assign(buffers, 0);
  std::span<const std::byte> from = std::as_bytes(std::span(&header, 1));
  size_t part = 0;
  for (size_t i = 0; i < buffers; ++i) {
    for (const Buffer& buffer : receiver.chains[i].writable) {
      std::span<std::byte> room = buffer.bytes;
      while (!room.empty()) {
        while (from.empty() && part < frame.parts.size()) {
          const iovec& next = frame.parts[part++];
          from = {static_cast<const std::byte*>(next.iov_base), next.iov_len};
        }
        if (from.empty()) return;
        const size_t count = std::min(room.size(), from.size());
        std::memcpy(room.data(), from.data(), count);
        room = room.subspan(count);
        from = from.subspan(count);
        receiver.written[i] += static_cast<uint32_t>(count);
      }
    }
  }
}

}  // namespace limen::virtio
