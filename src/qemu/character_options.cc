#include "qemu/character_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "base/nearest.h"
#include "base/size_text.h"
#include "machine/device_catalog.h"

namespace limen::qemu {
namespace {

using machine::CharacterDescription;
using Kind = CharacterDescription::Kind;
using Keys = std::vector<std::string_view>;

constexpr std::array<std::string_view, 10> kBackends = {
    "socket", "udp", "pty", "file", "pipe", "stdio", "null", "ringbuf", "memory", "web"};

Result<CharacterDescription> common(const KeyValues& values, Keys known) {
  for (const std::string_view key : {"backend", "id", "mux", "logfile", "logappend"})
    known.push_back(key);
  LIMEN_TRY(values.check(known));
  CharacterDescription character;
  character.id = values.text("id");
  character.multiplexed = LIMEN_TRY(values.boolean("mux", false));
  character.log_file = values.text("logfile");
  character.log_append = LIMEN_TRY(values.boolean("logappend", false));
  return character;
}

/// "nowait" and "noserver" are what QEMU's users wrote before wait=off.
Result<bool> switched(const KeyValues& values, std::string_view key, bool otherwise) {
  const auto negated = values.find("no" + std::string(key));
  if (negated) return false;
  return values.boolean(key, otherwise);
}

Result<device::SocketAddress> socket_address(const KeyValues& values) {
  device::SocketAddress address;
  const auto path = values.find("path");
  const auto fd = values.find("fd");
  const auto host = values.find("host");
  const auto port = values.find("port");
  if (int{path.has_value()} + int{fd.has_value()} + int{host || port} > 1)
    return fail("None or one of 'path', 'fd' or 'host' option required.");
  if (path) {
    address.path = *path;
    address.abstract = LIMEN_TRY(values.boolean("abstract", false));
    address.tight = LIMEN_TRY(values.boolean("tight", true));
  } else if (fd) {
    address.kind = device::SocketAddress::Kind::kDescriptor;
    const auto number = machine::parse_number(*fd);
    if (!number || *number > INT32_MAX) return fail("fd={} is not a file descriptor", *fd);
    address.descriptor = static_cast<int>(*number);
  } else {
    address.kind = device::SocketAddress::Kind::kInet;
    if (!host && !port) return fail("chardev: socket: no path, fd or host given");
    address.host = values.text("host");
    if (!port || port->empty()) return fail("chardev: socket: no port given");
    address.port = *port;
    if (const auto last = values.find("to")) {
      const auto number = machine::parse_number(*last);
      if (!number || *number > UINT16_MAX) return fail("to={} is not a port", *last);
      address.last_port = static_cast<uint16_t>(*number);
    }
    address.ipv4 = LIMEN_TRY(values.boolean("ipv4", false));
    address.ipv6 = LIMEN_TRY(values.boolean("ipv6", false));
  }
  address.no_delay = LIMEN_TRY(values.boolean("delay", !LIMEN_TRY(values.boolean("nodelay", true))))
                         ? false
                         : true;
  return address;
}

Result<CharacterDescription> socket(const KeyValues& values) {
  for (const std::string_view key : {"tls-creds", "tls-authz", "websocket", "tn3270"})
    if (const auto value = values.find(key); value && *value != "off")
      return fail("{}={}: not there yet; a plain or telnet socket is", key, *value);
  auto character = LIMEN_TRY(
      common(values,
             {"path",      "abstract", "tight",  "fd",        "host",      "port",      "to",
              "ipv4",      "ipv6",     "server", "noserver",  "wait",      "nowait",    "telnet",
              "reconnect", "nodelay",  "delay",  "tls-creds", "tls-authz", "websocket", "tn3270"}));
  character.kind = Kind::kSocket;
  character.address = LIMEN_TRY(socket_address(values));
  character.server = LIMEN_TRY(switched(values, "server", false));
  const bool wait_given = values.find("wait").has_value();
  character.wait = LIMEN_TRY(switched(values, "wait", character.server));
  if (!character.server && wait_given)
    return fail("'wait' option is incompatible with socket in client connect mode");
  character.telnet = LIMEN_TRY(values.boolean("telnet", false));
  if (const auto reconnect = values.find("reconnect")) {
    const auto seconds = machine::parse_number(*reconnect);
    if (!seconds || *seconds > INT32_MAX)
      return fail("reconnect={} is no time in seconds", *reconnect);
    if (character.server && *seconds != 0)
      return fail("'reconnect' option is incompatible with socket in server listen mode");
    character.reconnect = std::chrono::seconds(*seconds);
  }
  return character;
}

Result<std::string> required(const KeyValues& values, std::string_view key) {
  auto value = values.text(key);
  if (value.empty())
    return fail("chardev: {}: no {} given", values.text("backend"),
                key == "path" ? "filename" : key);
  return value;
}

Result<CharacterDescription> from_values(const KeyValues& values) {
  const auto backend = values.text("backend");
  if (backend == "socket") return socket(values);
  CharacterDescription character;
  if (backend == "stdio") {
    character = LIMEN_TRY(common(values, {"signal"}));
    character.kind = Kind::kStdio;
    character.signals = LIMEN_TRY(values.boolean("signal", true));
  } else if (backend == "file") {
    character = LIMEN_TRY(common(values, {"path", "append"}));
    character.kind = Kind::kFile;
    character.path = LIMEN_TRY(required(values, "path"));
    character.append = LIMEN_TRY(values.boolean("append", false));
  } else if (backend == "pipe") {
    character = LIMEN_TRY(common(values, {"path"}));
    character.kind = Kind::kPipe;
    character.path = LIMEN_TRY(required(values, "path"));
  } else if (backend == "pty") {
    character = LIMEN_TRY(common(values, {}));
    character.kind = Kind::kPty;
  } else if (backend == "null") {
    character = LIMEN_TRY(common(values, {}));
  } else if (backend == "web") {
    character = LIMEN_TRY(common(values, {}));
    character.kind = Kind::kWeb;
  } else if (backend == "ringbuf" || backend == "memory") {
    character = LIMEN_TRY(common(values, {"size"}));
    character.kind = Kind::kRing;
    if (const auto size = values.find("size")) {
      character.ring_size = LIMEN_TRY(parse_size(*size, 1));
      constexpr uint64_t kMost = uint64_t{1} << 30;
      if (character.ring_size > kMost) return fail("size={} is too large for a ringbuf", *size);
    }
  } else if (backend == "udp") {
    character =
        LIMEN_TRY(common(values, {"host", "port", "localaddr", "localport", "ipv4", "ipv6"}));
    character.kind = Kind::kUdp;
    character.address.kind = character.local.kind = device::SocketAddress::Kind::kInet;
    character.address.host = values.text("host");
    character.address.port = values.text("port");
    if (character.address.port.empty()) return fail("chardev: udp: remote port not specified");
    character.address.ipv4 = LIMEN_TRY(values.boolean("ipv4", false));
    character.address.ipv6 = LIMEN_TRY(values.boolean("ipv6", false));
    character.local.host = values.text("localaddr");
    character.local.port = values.text("localport");
  } else if (backend == "vc") {
    return fail("'vc' is not there; 'web' is, with -display web");
  } else {
    return fail("'{}' is not a valid char driver name{}", backend, choice_hint(backend, kBackends));
  }
  return character;
}

/// "HOST:PORT,option=..." as -chardev writes it.
Result<std::string> expand_host_and_port(std::string_view text, std::string_view extra) {
  const auto comma = std::min(text.find(','), text.size());
  const auto where = text.substr(0, comma);
  // [::1]:4444
  const auto colon = where.rfind(':');
  if (colon == std::string_view::npos) return fail("chardev: socket: no port given");
  auto host = where.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return fmt::format("socket,host={},port={}{}{}", host, where.substr(colon + 1), extra,
                     text.substr(comma));
}

/// "[HOST]:PORT[@[LOCAL]:PORT]" as -chardev writes it.
Result<std::string> expand_udp(std::string_view text) {
  const auto at = text.find('@');
  const auto remote = text.substr(0, at);
  const auto colon = remote.rfind(':');
  if (colon == std::string_view::npos) return fail("chardev: udp: remote port not specified");
  std::string all = fmt::format("udp,port={}", remote.substr(colon + 1));
  if (colon != 0) all += fmt::format(",host={}", remote.substr(0, colon));
  if (at == std::string_view::npos) return all;
  const auto local = text.substr(at + 1);
  const auto split = std::min(local.rfind(':'), local.size());
  if (split != 0) all += fmt::format(",localaddr={}", local.substr(0, split));
  if (split + 1 < local.size()) all += fmt::format(",localport={}", local.substr(split + 1));
  return all;
}

/// A path as a key=value list writes it: the short forms of files have no options behind.
std::string with_commas(std::string_view path) {
  std::string text;
  for (const char c : path) {
    if (c == ',') text += ',';
    text += c;
  }
  return text;
}

/// The short form as -chardev would have it.
Result<std::string> expand(std::string_view text) {
  const auto after = [&](std::string_view prefix) { return text.substr(prefix.size()); };
  for (const std::string_view name : {"null", "pty", "stdio", "vc", "web"})
    if (text == name || text.starts_with(std::string(name) + ",") ||
        (name == "vc" && text.starts_with("vc:")))
      return std::string(text);
  if (text.starts_with("file:")) return "file,path=" + with_commas(after("file:"));
  if (text.starts_with("pipe:")) return "pipe,path=" + with_commas(after("pipe:"));
  if (text.starts_with("unix:")) return "socket,path=" + std::string(after("unix:"));
  if (text.starts_with("tcp:")) return expand_host_and_port(after("tcp:"), "");
  if (text.starts_with("telnet:")) return expand_host_and_port(after("telnet:"), ",telnet=on");
  if (text.starts_with("udp:")) return expand_udp(after("udp:"));
  for (const std::string_view prefix : {"websocket:", "tn3270:", "msmouse", "braille"})
    if (text.starts_with(prefix)) return fail("'{}' is not there yet", text);
  constexpr std::array<std::string_view, 12> kForms = {"stdio", "mon:stdio", "pty",      "null",
                                                       "none",  "file:",     "pipe:",    "unix:",
                                                       "tcp:",  "telnet:",   "chardev:", "web"};
  const auto colon = text.find(':');
  const auto head = colon == std::string_view::npos ? text : text.substr(0, colon + 1);
  return fail("'{}' is not a valid char driver{}", text, choice_hint(head, kForms));
}

}  // namespace

Result<CharacterDescription> parse_character(std::string_view argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "backend"));
  if (!values.find("backend")) return fail("chardev: \"{}\" missing backend", values.text("id"));
  auto character = LIMEN_TRY(from_values(values));
  if (character.id.empty()) return fail("chardev: no id specified");
  return character;
}

Result<CharacterDescription> parse_short_character(std::string_view argument,
                                                   std::string_view label) {
  const bool multiplexed = argument.starts_with("mon:");
  if (multiplexed) argument.remove_prefix(4);
  const auto expanded = LIMEN_TRY(expand(argument));
  auto character = LIMEN_TRY(from_values(LIMEN_TRY(KeyValues::parse(expanded, "backend"))));
  character.id = label;
  character.multiplexed |= multiplexed;
  return character;
}

}  // namespace limen::qemu
