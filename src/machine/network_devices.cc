// Network cards, and what stands behind them.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "machine/device_factory.h"
#include "nic/e1000/e1000.h"
#include "virtio/net/net.h"

namespace limen::machine {
namespace {

/// QEMU's addresses: 52:54:00:12:34:56 is the first card's.
constexpr std::array<uint8_t, net::kMacBytes> kFirstMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

/// "Property 'e1000.netdev' can't take value 'n0', it's in use".
std::unexpected<Error> property_error(const DeviceDescription& device, Error error) {
  if (error.message.starts_with("can't "))
    error.message = fmt::format("Property '{}.netdev' {}", device.driver, error.message);
  return std::unexpected(std::move(error));
}

void warn_without_netdev(const DeviceDescription& device, const DeviceProperties& properties) {
  if (properties.text("netdev").empty())
    log::warning("nic {} has no peer", properties.text("id", device.driver));
}

}  // namespace

Result<> Board::make_network() {
  if (network_ == nullptr)
    network_ = LIMEN_TRY(net::Network::create(memory_shared_ ? &memory_ : nullptr));
  return {};
}

Result<> Board::open_network(const MachineDescription& description) {
  if (description.netdevs.empty()) return {};
  LIMEN_TRY(make_network());
  for (const auto& netdev : description.netdevs)
    if (auto added = network_->add(netdev.backend); !added) {
      Error error = std::move(added).error();
      if (!netdev.origin.empty()) error.message = netdev.origin + ": " + error.message;
      return std::unexpected(std::move(error));
    }
  return {};
}

Result<> Board::add_netdev(const net::BackendDescription& backend) {
  LIMEN_TRY(make_network());
  return network_->add(backend);
}

void Board::warn_of_loose_ends() const {
  if (network_ == nullptr) return;
  for (const auto& netdev : network_->list())
    if (!netdev.plugged && !netdev.card) log::warning("netdev {} has no peer", netdev.id);
}

Result<net::Network*> DeviceFactory::network() {
  LIMEN_TRY(board_.make_network());
  return board_.network_.get();
}

/// The address that was given, or the next of QEMU's that is free.
Result<std::array<uint8_t, net::kMacBytes>> DeviceFactory::mac_of(
    const DeviceProperties& properties) {
  auto mac = kFirstMac;
  if (const auto text = properties.text("mac"); !text.empty()) {
    const auto parsed = net::parse_mac(text);
    if (!parsed) return fail("property 'mac' doesn't take value '{}'", text);
    std::ranges::copy(*parsed, mac.begin());
    if (std::ranges::equal(std::span(mac).first(5), std::span(kFirstMac).first(5)))
      macs_.insert(mac.back());
    return mac;
  }
  while (!macs_.insert(mac.back()).second) ++mac.back();
  return mac;
}

/// The address is free again when the card did not come, and when it goes.
Result<> DeviceFactory::keep_mac(std::span<const uint8_t> mac, Result<> added) {
  if (!std::ranges::equal(mac.first(5), std::span(kFirstMac).first(5))) return added;
  if (!added)
    macs_.erase(mac.back());
  else if (!board_.plugged_.empty() &&
           board_.plugged_.back().function == board_.devices_.back().get())
    plugged_macs_[board_.plugged_.back().function] = mac.back();
  return added;
}

Result<> DeviceFactory::create_net(const DeviceDescription& description,
                                   const DeviceProperties& properties) {
  virtio::NetProperties card;
  card.id = properties.text("id");
  card.mac = LIMEN_TRY(mac_of(properties));
  card.netdev = properties.text("netdev");
  card.multiqueue = properties.boolean("mq", false);
  card.receive_queue_size =
      static_cast<uint16_t>(properties.number("rx_queue_size", card.receive_queue_size));
  card.transmit_queue_size =
      static_cast<uint16_t>(properties.number("tx_queue_size", card.transmit_queue_size));
  card.mtu = static_cast<uint16_t>(properties.number("host_mtu", 0));
  card.speed = static_cast<uint32_t>(properties.number("speed", card.speed));
  if (const auto duplex = properties.text("duplex"); duplex == "full" || duplex == "half")
    card.duplex = duplex == "full" ? 1 : 0;
  else if (!duplex.empty())
    return fail("'duplex' must be 'half' or 'full'");
  for (const auto name : virtio::Net::feature_properties())
    if (!properties.boolean(std::string(name), true))
      card.features_off |= virtio::Net::feature_of(name);
  auto* network = LIMEN_TRY(this->network());
  auto device = virtio::Net::create(card, *network);
  if (!device) return keep_mac(card.mac, property_error(description, std::move(device).error()));
  warn_without_netdev(description, properties);
  return keep_mac(card.mac, add_virtio(description, properties, *std::move(device)));
}

Result<> DeviceFactory::create_e1000(const DeviceDescription& description,
                                     const DeviceProperties& properties) {
  nic::E1000Properties card;
  card.name = properties.text("id", description.driver);
  card.id = properties.text("id");
  card.mac = LIMEN_TRY(mac_of(properties));
  card.netdev = properties.text("netdev");
  auto function = nic::E1000::create(card, board_.memory_, *LIMEN_TRY(network()));
  if (!function)
    return keep_mac(card.mac, property_error(description, std::move(function).error()));
  warn_without_netdev(description, properties);
  return keep_mac(card.mac, add_function(properties, *std::move(function)));
}

}  // namespace limen::machine
