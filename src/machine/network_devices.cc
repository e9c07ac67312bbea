// Network cards, and what stands behind them.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "machine/device_factory.h"
#include "virtio/net/net.h"

namespace limen::machine {
namespace {

/// QEMU's addresses: 52:54:00:12:34:56 is the first card's.
constexpr std::array<uint8_t, net::kMacBytes> kFirstMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

/// "Property 'e1000.netdev' can't find value 'n0'".
Error property_error(const DeviceDescription& device, Error error) {
  error.message = fmt::format("Property '{}.netdev' {}", device.driver, error.message);
  return error;
}

}  // namespace

Result<> Q35Board::open_network(const MachineDescription& description) {
  if (description.netdevs.empty()) return {};
  network_ = LIMEN_TRY(net::Network::create());
  for (const auto& netdev : description.netdevs)
    if (auto added = network_->add(netdev.backend); !added) {
      Error error = std::move(added).error();
      if (!netdev.origin.empty()) error.message = netdev.origin + ": " + error.message;
      return std::unexpected(std::move(error));
    }
  return {};
}

void Q35Board::warn_of_loose_ends() const {
  if (network_ == nullptr) return;
  for (const auto& netdev : network_->list())
    if (!netdev.plugged) log::warning("netdev {} has no peer", netdev.id);
}

Result<net::Network*> DeviceFactory::network() {
  if (board_.network_ == nullptr) board_.network_ = LIMEN_TRY(net::Network::create());
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

Result<> DeviceFactory::create_net(const DeviceDescription& description,
                                   const DeviceProperties& properties) {
  virtio::NetProperties card;
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
  if (!card.netdev.empty() && network->find(card.netdev) == nullptr)
    return fail("Property '{}.netdev' can't find value '{}'", description.driver, card.netdev);
  auto device = virtio::Net::create(card, *network);
  if (!device) {
    if (device.error().message.starts_with("can't "))
      return std::unexpected(property_error(description, std::move(device).error()));
    return std::unexpected(std::move(device).error());
  }
  if (card.netdev.empty())
    log::warning("nic {} has no peer", properties.text("id", description.driver));
  return add_virtio(description, properties, *std::move(device));
}

}  // namespace limen::machine
