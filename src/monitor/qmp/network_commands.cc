// What stands behind network cards, and cables.
#include <algorithm>

#include "machine/board.h"
#include "machine/machine.h"
#include "monitor/network_parameters.h"
#include "monitor/qmp/command_table.h"
#include "monitor/qmp/descriptor_store.h"
#include "net/json_parameters.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kNetworkSchema = R"(
enum NetClientDriver { user, tap, bridge, socket, stream, dgram, hubport }
enum NetSocketAddressType { inet, unix, fd }
struct NetInetSocketAddress { host: str, port: str }
struct NetUnixSocketAddress { path: str, *abstract: bool }
union NetSocketAddress { type: NetSocketAddressType } on type { inet: NetInetSocketAddress,
  unix: NetUnixSocketAddress, fd: String }
struct NetdevUserOptions { *hostname: str, *restrict: bool, *ipv4: bool, *ipv6: bool, *net: str,
  *host: str, *tftp: str, *bootfile: str, *dhcpstart: str, *dns: str, *dnssearch: [String],
  *domainname: str, *ipv6-prefix: str, *ipv6-prefixlen: int, *ipv6-host: str, *ipv6-dns: str,
  *hostfwd: [String], *guestfwd: [String], *tftp-server-name: str }
struct NetdevTapOptions { *ifname: str, *fd: str, *fds: str, *script: str, *downscript: str,
  *br: str, *helper: str, *sndbuf: uint, *vnet_hdr: bool, *vhost: bool, *vhostforce: bool,
  *vhostfd: str, *vhostfds: str, *queues: uint, *poll-us: uint }
struct NetdevBridgeOptions { *br: str, *helper: str }
struct NetdevSocketOptions { *fd: str, *listen: str, *connect: str, *mcast: str, *localaddr: str,
  *udp: str }
struct NetdevStreamOptions { addr: NetSocketAddress, *server: bool, *reconnect: uint }
struct NetdevDgramOptions { *local: NetSocketAddress, *remote: NetSocketAddress }
struct NetdevHubPortOptions { hubid: int, *netdev: str }
union Netdev { id: str, type: NetClientDriver } on type { user: NetdevUserOptions,
  tap: NetdevTapOptions, bridge: NetdevBridgeOptions, socket: NetdevSocketOptions,
  stream: NetdevStreamOptions, dgram: NetdevDgramOptions, hubport: NetdevHubPortOptions }
command netdev_add Netdev
command netdev_del { id: str }
command set_link { name: str, up: bool }
)";

Reply netdev_add(Context& context, const Json& arguments) {
  auto parameters = net::json_parameters(arguments);
  if (!parameters) return std::unexpected(Failure(std::move(parameters).error()));
  if (auto added = add_netdev(context, std::move(*parameters)); !added)
    return std::unexpected(Failure(std::move(added).error()));
  return nothing();
}

Reply netdev_del(Context& context, const Json& arguments) {
  if (auto removed = context.machine.remove_netdev(arguments["id"]); !removed) {
    const bool missing = removed.error().message.ends_with("not found");
    return failure(missing ? "DeviceNotFound" : "GenericError", "{}", removed.error().message);
  }
  return nothing();
}

/// Null: there is none.
net::Network* network_of(Context& context) {
  auto* board = context.machine.board();
  return board != nullptr ? board->network() : nullptr;
}

Reply set_link(Context& context, const Json& arguments) {
  const std::string name = arguments["name"];
  auto* network = network_of(context);
  if (network == nullptr || !network->set_link(name, arguments["up"]))
    return failure("DeviceNotFound", "Device '{}' not found", name);
  return nothing();
}

/// Whether it is what getfd gave a descriptor: not a number.
bool is_name(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") != std::string::npos;
}

}  // namespace

Result<> add_netdev(Context& context, net::Parameters parameters) {
  std::vector<UniqueFd> taken;
  const auto number_of = [&](const std::string& text) -> Result<std::string> {
    if (!is_name(text)) return text;
    taken.push_back(LIMEN_TRY(context.descriptors.take(text)));
    return std::to_string(taken.back().get());
  };
  for (auto& [key, value] : parameters) {
    if (key == "fd" || key == "vhostfd" || key.ends_with(".str"))
      value = LIMEN_TRY(number_of(value));
    if (key != "fds" && key != "vhostfds") continue;
    std::string numbers;
    for (size_t at = 0; at <= value.size();) {
      const auto end = std::min(value.find(':', at), value.size());
      if (at != 0) numbers += ':';
      numbers += LIMEN_TRY(number_of(value.substr(at, end - at)));
      at = end + 1;
    }
    value = std::move(numbers);
  }
  const auto backend = LIMEN_TRY(net::parse_backend(parameters));
  auto* network = network_of(context);
  // One whose id is taken does not get so far as to take them.
  if (network == nullptr || network->find(backend.id) == nullptr)
    for (auto& descriptor : taken)
      static_cast<void>(descriptor.release());  // the back end's from here on
  return context.machine.add_netdev(backend);
}

CommandGroup network_commands() {
  return {kNetworkSchema,
          {{"netdev_add", netdev_add}, {"netdev_del", netdev_del}, {"set_link", set_link}}};
}

}  // namespace limen::monitor
