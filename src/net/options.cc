#include "net/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/identifier.h"
#include "base/nearest.h"

namespace limen::net {
namespace {

constexpr std::array<std::string_view, 7> kTypes = {"user",   "tap",   "bridge", "socket",
                                                    "stream", "dgram", "hubport"};
/// Where Debian's qemu-system-common has it, with the privilege that it needs.
constexpr std::string_view kBridgeHelper = "/usr/lib/qemu/qemu-bridge-helper";
constexpr std::string_view kBridge = "br0";
constexpr unsigned kMostQueues = 256;

/// Hands parameters out by name and remembers which names there are.
class Reader {
 public:
  explicit Reader(const Parameters& parameters) : parameters_(parameters) {
    known_ = {"type", "id"};
  }

  /// Of one that stands several times the last counts, as in QEMU.
  std::optional<std::string> find(std::string_view key) {
    known_.push_back(key);
    std::optional<std::string> found;
    for (const auto& [name, value] : parameters_)
      if (name == key) found = value;
    return found;
  }
  std::string text(std::string_view key) { return find(key).value_or(std::string()); }
  std::vector<std::string> list(std::string_view key) {
    known_.push_back(key);
    std::vector<std::string> values;
    for (const auto& [name, value] : parameters_)
      if (name == key) values.push_back(value);
    return values;
  }
  Result<bool> boolean(std::string_view key, bool otherwise) {
    const auto value = find(key);
    if (!value) return otherwise;
    if (*value == "on" || *value == "yes" || *value == "true" || *value == "y") return true;
    if (*value == "off" || *value == "no" || *value == "false" || *value == "n") return false;
    return fail("Parameter '{}' expects 'on' or 'off'", key);
  }
  Result<std::optional<unsigned>> number(std::string_view key, unsigned most) {
    const auto value = find(key);
    if (!value) return std::nullopt;
    unsigned number = 0;
    const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), number);
    if (error != std::errc() || end != value->data() + value->size() || number > most)
      return fail("Parameter '{}' expects a number up to {}, not '{}'", key, most, *value);
    return number;
  }
  Result<> finish() const {
    for (const auto& [name, value] : parameters_)
      if (std::ranges::find(known_, std::string_view(name)) == known_.end())
        return fail("Invalid parameter '{}'{}", name, choice_hint(name, known_));
    return {};
  }

 private:
  const Parameters& parameters_;
  std::vector<std::string_view> known_;
};

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const auto end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Result<UserOptions> parse_user(Reader& reader) {
  UserOptions user;
  const auto ipv4 = reader.find("ipv4"), ipv6 = reader.find("ipv6");
  user.ipv4 = LIMEN_TRY(reader.boolean("ipv4", true));
  user.ipv6 = LIMEN_TRY(reader.boolean("ipv6", true));
  if (!user.ipv4 && !user.ipv6) return fail("IPv4 and IPv6 disabled");
  // One that is asked for alone switches the other off, as in QEMU.
  if (ipv4 && user.ipv4 && !ipv6) user.ipv6 = false;
  if (ipv6 && user.ipv6 && !ipv4) user.ipv4 = false;
  user.restricted = LIMEN_TRY(reader.boolean("restrict", false));
  user.net = reader.text("net");
  user.host = reader.text("host");
  user.dns = reader.text("dns");
  user.dhcp_start = reader.text("dhcpstart");
  user.ipv6_prefix = reader.text("ipv6-prefix");
  const auto prefix_bits = LIMEN_TRY(reader.number("ipv6-prefixlen", 126));
  user.ipv6_prefix_bits = prefix_bits.value_or(64);
  if (const auto net = reader.find("ipv6-net")) {
    const auto slash = net->find('/');
    user.ipv6_prefix = net->substr(0, slash);
    if (slash != std::string::npos) {
      unsigned bits = 0;
      const char* end = net->data() + net->size();
      const auto [at, error] = std::from_chars(net->data() + slash + 1, end, bits);
      if (error != std::errc() || at != end || bits > 126)
        return fail("Parameter 'ipv6-net' expects a prefix as in fec0::/64, not '{}'", *net);
      user.ipv6_prefix_bits = bits;
    }
  }
  user.ipv6_host = reader.text("ipv6-host");
  user.ipv6_dns = reader.text("ipv6-dns");
  user.host_name = reader.text("hostname");
  user.domain_name = reader.text("domainname");
  user.tftp = reader.text("tftp");
  user.boot_file = reader.text("bootfile");
  user.tftp_server_name = reader.text("tftp-server-name");
  user.dns_search = reader.list("dnssearch");
  user.host_forwards = reader.list("hostfwd");
  user.guest_forwards = reader.list("guestfwd");
  if (reader.find("smb") || reader.find("smbserver"))
    return fail("smb= is not there: share files by tftp=, or by a disk image");
  return user;
}

/// Who moves the frames of `tap`, which is complete but for that.
Result<> read_vhost(Reader& reader, const std::optional<std::string>& fd,
                    const std::optional<std::string>& fds, TapOptions& tap) {
  tap.vhost_required = LIMEN_TRY(reader.boolean("vhostforce", false));
  tap.vhost = LIMEN_TRY(reader.boolean("vhost", fd || fds || tap.vhost_required));
  tap.poll_microseconds = LIMEN_TRY(reader.number("poll-us", INT32_MAX)).value_or(0);
  if (fd) tap.vhost_fds = {*fd};
  if (fds) tap.vhost_fds = split(*fds, ':');
  if (tap.vhost_fds.empty()) return {};
  if (!tap.vhost) return fail("vhostfd(s)= is not valid without vhost");
  if (tap.vhost_fds.size() != tap.queues)
    return fd ? fail(
                    "vhostfd= is one descriptor, and queues={} takes as many: use fds= and "
                    "vhostfds=",
                    tap.queues)
              : fail("The number of fds passed does not match the number of vhostfds passed");
  return {};
}

Result<TapOptions> parse_tap(Reader& reader) {
  TapOptions tap;
  const auto fd = reader.find("fd"), fds = reader.find("fds");
  const auto queues = LIMEN_TRY(reader.number("queues", kMostQueues));
  const auto ifname = reader.find("ifname"), script = reader.find("script"),
             down_script = reader.find("downscript"), header = reader.find("vnet_hdr");
  const auto helper = reader.find("helper"), bridge = reader.find("br");
  const auto vhost_fd = reader.find("vhostfd"), vhost_fds = reader.find("vhostfds");
  reader.find("sndbuf");  // the kernel's own bound is what holds
  if (fd && (ifname || script || down_script || header || queues || fds || vhost_fds))
    return fail(
        "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, fds=, and vhostfds= are "
        "invalid with fd=");
  if (helper && (ifname || script || down_script || header || queues || fd || fds || vhost_fds))
    return fail(
        "ifname=, script=, downscript=, vnet_hdr=, queues=, fd=, fds=, and vhostfds= are invalid "
        "with helper=");
  if (bridge && !helper)
    return fail("br= goes with helper=; -netdev bridge,br={} has QEMU's", *bridge);
  if (fds && (ifname || script || down_script || header || queues || vhost_fd))
    return fail(
        "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, and vhostfd= are invalid "
        "with fds=");
  if (vhost_fds && !fds) return fail("vhostfds= is invalid if fds= wasn't specified");
  if (fd) tap.fds = {*fd};
  if (fds) tap.fds = split(*fds, ':');
  tap.helper = helper.value_or("");
  tap.bridge = bridge.value_or(std::string(kBridge));
  tap.interface = ifname.value_or("");
  tap.script = script.value_or("/etc/qemu-ifup");
  tap.down_script = down_script.value_or("/etc/qemu-ifdown");
  tap.header = LIMEN_TRY(reader.boolean("vnet_hdr", true));
  tap.header_required = header.has_value();
  tap.queues = queues.value_or(1);
  if (tap.queues == 0) return fail("Parameter 'queues' expects a positive number");
  if (!tap.fds.empty()) tap.queues = static_cast<unsigned>(tap.fds.size());
  LIMEN_TRY(read_vhost(reader, vhost_fd, vhost_fds, tap));
  return tap;
}

TapOptions parse_bridge(Reader& reader) {
  TapOptions tap;
  tap.helper = reader.find("helper").value_or(std::string(kBridgeHelper));
  tap.bridge = reader.find("br").value_or(std::string(kBridge));
  return tap;
}

/// addr.type=inet,addr.host=,addr.port= and the like, below `prefix`.
Result<std::optional<SocketAddress>> parse_address(Reader& reader, const std::string& prefix) {
  // The names must live as long as the reader: they go into its list of known ones.
  static constexpr std::array<std::array<std::string_view, 7>, 3> kNames = {
      {{"addr", "addr.type", "addr.host", "addr.port", "addr.path", "addr.str", "addr.abstract"},
       {"local", "local.type", "local.host", "local.port", "local.path", "local.str",
        "local.abstract"},
       {"remote", "remote.type", "remote.host", "remote.port", "remote.path", "remote.str",
        "remote.abstract"}}};
  const auto& names =
      *std::ranges::find(kNames, std::string_view(prefix), [](const auto& row) { return row[0]; });
  const auto type = reader.find(names[1]);
  SocketAddress address;
  const auto host = reader.find(names[2]), port = reader.find(names[3]),
             path = reader.find(names[4]), descriptor = reader.find(names[5]);
  if (!type) {
    if (host || port || path || descriptor) return fail("Parameter '{}' is missing", names[1]);
    return std::nullopt;
  }
  const auto need = [](const std::optional<std::string>& value,
                       std::string_view name) -> Result<std::string> {
    if (!value) return fail("Parameter '{}' is missing", name);
    return *value;
  };
  if (*type == "inet") {
    address.host = LIMEN_TRY(need(host, names[2]));
    address.port = LIMEN_TRY(need(port, names[3]));
  } else if (*type == "unix") {
    address.kind = SocketAddress::Kind::kUnix;
    address.path = LIMEN_TRY(need(path, names[4]));
    if (LIMEN_TRY(reader.boolean(names[6], false))) address.path.insert(0, 1, '\0');
  } else if (*type == "fd") {
    address.kind = SocketAddress::Kind::kFd;
    address.path = LIMEN_TRY(need(descriptor, names[5]));
  } else {
    constexpr std::array<std::string_view, 3> kKinds = {"inet", "unix", "fd"};
    return fail("Parameter '{}' does not accept value '{}'{}", names[1], *type,
                choice_hint(*type, kKinds));
  }
  return address;
}

Result<StreamOptions> parse_stream(Reader& reader) {
  StreamOptions stream;
  const auto address = LIMEN_TRY(parse_address(reader, "addr"));
  if (!address) return fail("Parameter 'addr' is missing");
  stream.address = *address;
  stream.server = LIMEN_TRY(reader.boolean("server", false));
  stream.reconnect_seconds = LIMEN_TRY(reader.number("reconnect", 86400)).value_or(0);
  if (stream.server && stream.reconnect_seconds != 0)
    return fail("'reconnect' option is incompatible with socket in server listening mode");
  return stream;
}

bool is_multicast(const std::string& host) {
  unsigned first = 0;
  std::from_chars(host.data(), host.data() + host.size(), first);
  return first >= 224 && first <= 239;
}

Result<DatagramOptions> parse_datagram(Reader& reader) {
  DatagramOptions datagram;
  datagram.local = LIMEN_TRY(parse_address(reader, "local"));
  datagram.remote = LIMEN_TRY(parse_address(reader, "remote"));
  using Kind = SocketAddress::Kind;
  if (!datagram.local && datagram.remote && datagram.remote->kind == Kind::kInet &&
      is_multicast(datagram.remote->host))
    return datagram;
  if (!datagram.local) return fail("dgram requires local= parameter");
  if (!datagram.remote && datagram.local->kind != Kind::kFd)
    return fail("dgram requires both local= and remote= parameters");
  if (datagram.remote && datagram.local->kind != datagram.remote->kind &&
      !(datagram.local->kind == Kind::kFd && datagram.remote->kind == Kind::kInet) &&
      !is_multicast(datagram.remote->host))
    return fail("remote and local types must be the same");
  return datagram;
}

/// "host:port"; an empty host is any.
Result<SocketAddress> parse_host_port(const std::string& text) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos)
    return fail(
        "host address '{}' doesn't contain ':' separating "
        "host from port",
        text);
  SocketAddress address;
  address.host = text.substr(0, colon);
  address.port = text.substr(colon + 1);
  unsigned port = 0;
  const char* end = address.port.data() + address.port.size();
  const auto [at, error] = std::from_chars(address.port.data(), end, port);
  if (error != std::errc() || at != end || port > 65535)
    return fail("port number '{}' is invalid", address.port);
  return address;
}

Result<BackendDescription> parse_socket(Reader& reader) {
  const auto fd = reader.find("fd"), listen = reader.find("listen"),
             connect = reader.find("connect"), mcast = reader.find("mcast"),
             udp = reader.find("udp"), local = reader.find("localaddr");
  const auto given = fd.has_value() + listen.has_value() + connect.has_value() + mcast.has_value() +
                     udp.has_value();
  if (fd && given == 1) {
    // Stream or datagrams: the socket itself says.
    DatagramOptions datagram;
    datagram.local = SocketAddress{.kind = SocketAddress::Kind::kFd, .path = *fd};
    return BackendDescription{.id = {}, .options = datagram};
  }
  if (given != 1) return fail("exactly one of listen=, connect=, mcast= or udp= is required");
  if (local && !mcast && !udp) return fail("localaddr= is only valid with mcast= or udp=");
  if (listen || connect) {
    StreamOptions stream;
    stream.server = listen.has_value();
    stream.address = LIMEN_TRY(parse_host_port(listen ? *listen : *connect));
    if (stream.address.host.empty()) stream.address.host = listen ? "0.0.0.0" : "127.0.0.1";
    return BackendDescription{.id = {}, .options = stream};
  }
  DatagramOptions datagram;
  datagram.remote = LIMEN_TRY(parse_host_port(mcast ? *mcast : *udp));
  if (mcast && !is_multicast(datagram.remote->host))
    return fail("specified mcastaddr {} does not contain a multicast address",
                datagram.remote->host);
  if (udp) {
    if (!local) return fail("localaddr= is mandatory with udp=");
    datagram.local = LIMEN_TRY(parse_host_port(*local));
    if (datagram.local->host.empty()) datagram.local->host = "0.0.0.0";
  } else if (local) {
    datagram.local = SocketAddress{.host = *local, .port = "0"};
  }
  return BackendDescription{.id = {}, .options = datagram};
}

Result<HubOptions> parse_hub(Reader& reader) {
  const auto number = LIMEN_TRY(reader.number("hubid", INT32_MAX));
  if (!number) return fail("Parameter 'hubid' is missing");
  return HubOptions{.hub = static_cast<int>(*number), .netdev = reader.text("netdev")};
}

/// '#' begins the ids that are made up for what has none.
bool is_netdev_id(std::string_view id) {
  return is_identifier(id.starts_with('#') ? id.substr(1) : id);
}

}  // namespace

std::span<const std::string_view> backend_types() { return kTypes; }

Result<BackendDescription> parse_backend(const Parameters& parameters) {
  Reader reader(parameters);
  const auto type = reader.find("type");
  if (!type) return fail("Parameter 'type' is missing");
  if (std::ranges::find(kTypes, std::string_view(*type)) == kTypes.end())
    return fail("Parameter 'type' does not accept value '{}'{}", *type, choice_hint(*type, kTypes));
  BackendDescription backend;
  if (*type == "user")
    backend.options = LIMEN_TRY(parse_user(reader));
  else if (*type == "tap")
    backend.options = LIMEN_TRY(parse_tap(reader));
  else if (*type == "bridge")
    backend.options = parse_bridge(reader);
  else if (*type == "stream")
    backend.options = LIMEN_TRY(parse_stream(reader));
  else if (*type == "dgram")
    backend.options = LIMEN_TRY(parse_datagram(reader));
  else if (*type == "socket")
    backend = LIMEN_TRY(parse_socket(reader));
  else
    backend.options = LIMEN_TRY(parse_hub(reader));
  LIMEN_TRY(reader.finish());
  const auto id = reader.find("id");
  if (!id) return fail("Parameter 'id' is missing");
  if (!is_netdev_id(*id))
    return fail(
        "Parameter 'id' expects an identifier, not '{}': letters, digits, '-', '.', '_', "
        "starting with a letter",
        *id);
  backend.id = *id;
  return backend;
}

Result<std::vector<uint8_t>> parse_mac(std::string_view text) {
  std::vector<uint8_t> mac;
  for (const auto& part : split(text, text.find('-') != std::string_view::npos ? '-' : ':')) {
    uint8_t value = 0;
    const char* end = part.data() + part.size();
    const auto [at, error] = std::from_chars(part.data(), end, value, 16);
    if (part.empty() || part.size() > 2 || error != std::errc() || at != end)
      return fail("invalid syntax for ethernet address");
    mac.push_back(value);
  }
  if (mac.size() != 6) return fail("invalid syntax for ethernet address");
  return mac;
}

std::string format_mac(std::span<const uint8_t> mac) {
  return fmt::format("{:02x}", fmt::join(mac, ":"));
}

}  // namespace limen::net
