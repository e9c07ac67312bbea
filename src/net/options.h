// What -netdev says, as plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace limen::net {

/// The user-mode network (libslirp). Empty: as QEMU has it.
struct UserOptions {
  bool ipv4 = true, ipv6 = true;
  bool restricted = false;
  std::string net, host, dns, dhcp_start;
  std::string ipv6_prefix, ipv6_host, ipv6_dns;
  unsigned ipv6_prefix_bits = 64;
  std::string host_name, domain_name, tftp, boot_file, tftp_server_name;
  std::vector<std::string> dns_search, host_forwards, guest_forwards;
};

/// A tap device of the host's.
struct TapOptions {
  std::string interface = {};            ///< "": the kernel names it.
  std::vector<std::string> fds = {};     ///< Open devices, one per queue, instead of an interface.
  std::string helper = {}, bridge = {};  ///< Who makes a device on a bridge, instead; "": nobody.
  std::string script = {}, down_script = {};  ///< "" or "no": none.
  bool header = true;                         ///< vnet_hdr=.
  bool header_required = false;
  unsigned queues = 1;
  bool vhost = false;                       ///< The kernel moves the frames, where it can.
  bool vhost_required = false;              ///< vhostforce=: it must.
  std::vector<std::string> vhost_fds = {};  ///< Open /dev/vhost-net, one per queue; empty: none.
  unsigned poll_microseconds = 0;           ///< poll-us=.
};

/// An address as QEMU's SocketAddress has it.
struct SocketAddress {
  enum class Kind : uint8_t { kInet, kUnix, kFd } kind = Kind::kInet;
  std::string host = {}, port = {};  ///< kInet.
  std::string path = {};             ///< kUnix; a descriptor's number with kFd.
};

/// Frames with a length in front, over a stream (-netdev stream, and socket with listen= or
/// connect=).
struct StreamOptions {
  SocketAddress address = {};
  bool server = false;
  unsigned reconnect_seconds = 0;
};

/// A frame per datagram (-netdev dgram, and socket with mcast= or udp=).
struct DatagramOptions {
  std::optional<SocketAddress> local = {}, remote = {};
};

struct HubOptions {
  int hub = 0;
  std::string netdev = {};  ///< What is plugged into the port; "": a card will be.
};

struct BackendDescription {
  std::string id = {};
  std::variant<UserOptions, TapOptions, StreamOptions, DatagramOptions, HubOptions> options = {};
};

using Parameters = std::vector<std::pair<std::string, std::string>>;

/// Reads what -netdev or netdev_add says: "type", "id" and what the type has; nested members are
/// written "addr.type", lists as one key several times. Words as QEMU has them.
Result<BackendDescription> parse_backend(const Parameters& parameters);

/// The types that parse_backend() knows.
[[nodiscard]] std::span<const std::string_view> backend_types();

/// 52:54:00:12:34:56.
Result<std::vector<uint8_t>> parse_mac(std::string_view text);
[[nodiscard]] std::string format_mac(std::span<const uint8_t> mac);

}  // namespace limen::net
