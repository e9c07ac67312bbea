// Which frames a network card lets through (virtio 1.2 §5.1.6.5.1 to §5.1.6.5.3).
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "net/frame.h"

namespace limen::virtio {

using MacAddress = std::array<uint8_t, net::kMacBytes>;

class ReceiveFilter {
 public:
  /// Longest table of addresses; a longer one lets everything of its kind through.
  static constexpr size_t kMostAddresses = 64;

  /// As after power-on: everything but foreign addresses passes; no VLAN is sorted out.
  void reset(const MacAddress& mac);
  void set_mac(const MacAddress& mac) { mac_ = mac; }
  void set_vlan_filter(bool on) { vlan_filter_ = on; }

  // Commands VIRTIO_NET_CTRL_RX; false: there is no such command.
  [[nodiscard]] bool set_mode(uint8_t command, bool on);
  /// VIRTIO_NET_CTRL_MAC_TABLE_SET with the two tables behind the command.
  [[nodiscard]] bool set_table(std::span<const std::byte> data);
  /// VIRTIO_NET_CTRL_VLAN_ADD and _DEL.
  [[nodiscard]] bool set_vlan(uint16_t id, bool on);

  /// `head`: the first bytes of a frame, 18 where it has as many.
  [[nodiscard]] bool passes(std::span<const std::byte> head) const;

 private:
  struct Table {
    std::vector<MacAddress> addresses;
    bool overflown = false;
  };
  static bool read_table(std::span<const std::byte>& data, Table& table);

  MacAddress mac_{};
  bool promiscuous_ = true, all_multicast_ = false, all_unicast_ = false;
  bool no_multicast_ = false, no_unicast_ = false, no_broadcast_ = false;
  Table unicast_, multicast_;
  bool vlan_filter_ = false;
  std::bitset<4096> vlans_;
};

}  // namespace limen::virtio
