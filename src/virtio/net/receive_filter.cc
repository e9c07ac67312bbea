#include "virtio/net/receive_filter.h"

#include <algorithm>
#include <cstring>

#include "net/checksum.h"

namespace limen::virtio {

void ReceiveFilter::reset(const MacAddress& mac) {
  *this = ReceiveFilter();
  mac_ = mac;
}

bool ReceiveFilter::set_mode(uint8_t command, bool on) {
  switch (command) {
    case 0:
      promiscuous_ = on;
      return true;
    case 1:
      all_multicast_ = on;
      return true;
    case 2:
      all_unicast_ = on;
      return true;
    case 3:
      no_multicast_ = on;
      return true;
    case 4:
      no_unicast_ = on;
      return true;
    case 5:
      no_broadcast_ = on;
      return true;
    default:
      return false;
  }
}

bool ReceiveFilter::read_table(std::span<const std::byte>& data, Table& table) {
  uint32_t entries = 0;
  if (data.size() < sizeof entries) return false;
  std::memcpy(&entries, data.data(), sizeof entries);
  data = data.subspan(sizeof entries);
  if (entries > data.size() / net::kMacBytes) return false;
  table.overflown = entries > kMostAddresses;
  table.addresses.clear();
  if (!table.overflown) {
    table.addresses.resize(entries);
    for (size_t i = 0; i < entries; ++i)
      std::memcpy(table.addresses[i].data(), data.data() + i * net::kMacBytes, net::kMacBytes);
  }
  data = data.subspan(entries * net::kMacBytes);
  return true;
}

bool ReceiveFilter::set_table(std::span<const std::byte> data) {
  Table unicast, multicast;
  if (!read_table(data, unicast) || !read_table(data, multicast) || !data.empty()) return false;
  unicast_ = std::move(unicast);
  multicast_ = std::move(multicast);
  return true;
}

bool ReceiveFilter::set_vlan(uint16_t id, bool on) {
  if (id >= vlans_.size()) return false;
  vlans_[id] = on;
  return true;
}

bool ReceiveFilter::passes(std::span<const std::byte> head) const {
  if (head.size() < net::kEthernetHeaderBytes) return false;
  if (promiscuous_) return true;
  if (vlan_filter_ && head.size() >= 16 && net::load16(head, 12) == net::kEtherTypeVlan &&
      !vlans_[net::load16(head, 14) & 0xFFF])
    return false;
  MacAddress target;
  std::memcpy(target.data(), head.data(), target.size());
  if ((target[0] & 1) != 0) {
    if (std::ranges::all_of(target, [](uint8_t byte) { return byte == 0xFF; }))
      return !no_broadcast_;
    if (no_multicast_) return false;
    return all_multicast_ || multicast_.overflown ||
           std::ranges::find(multicast_.addresses, target) != multicast_.addresses.end();
  }
  if (no_unicast_) return false;
  return all_unicast_ || unicast_.overflown || target == mac_ ||
         std::ranges::find(unicast_.addresses, target) != unicast_.addresses.end();
}

}  // namespace limen::virtio
