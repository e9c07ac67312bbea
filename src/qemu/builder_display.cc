// Options for who shows the screen: -display, -vnc, -k.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/nearest.h"
#include "machine/device_catalog.h"
#include "qemu/builder.h"
#include "qemu/json_options.h"
#include "qemu/key_values.h"

namespace limen::qemu {
namespace {

using device::SocketAddress;
using Display = machine::MachineDescription::Display;

constexpr unsigned kFirstPort = 5900, kFirstWebSocketPort = 5700;
constexpr uint16_t kFirstWebPort = 5780, kLastWebPort = 5879;

/// "localhost:1", ":1", "[::1]:1", "unix:/path"; `number`: behind the colon.
Result<SocketAddress> vnc_address(const std::string& text, unsigned& number) {
  constexpr std::string_view kUnix = "unix:";
  if (text.starts_with(kUnix)) {
    SocketAddress address{.path = text.substr(kUnix.size())};
    if (address.path.empty()) return fail("the path of a socket is missing");
    return address;
  }
  const auto colon = text.rfind(':');
  if (colon == std::string::npos)
    return fail("{}: a display is HOST:NUMBER, as in 127.0.0.1:0, or unix:PATH", text);
  const auto parsed = machine::parse_number(text.substr(colon + 1));
  if (!parsed || *parsed > UINT16_MAX - kFirstPort)
    return fail("error converting display number '{}'; valid: 0 to {}", text.substr(colon + 1),
                UINT16_MAX - kFirstPort);
  number = static_cast<unsigned>(*parsed);
  auto host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return SocketAddress{.kind = SocketAddress::Kind::kInet,
                       .host = host,
                       .port = std::to_string(kFirstPort + number)};
}

Result<> refuse(const KeyValues& values) {
  for (const std::string_view key : {"sasl", "reverse", "acl", "power-control"})
    if (LIMEN_TRY(values.boolean(key, false)))
      return fail("{}=on is not there{}", key,
                  key == "sasl" ? "; password= and tls-creds= are" : "");
  for (const std::string_view key : {"tls-authz", "sasl-authz"})
    if (values.find(key)) return fail("{}= is not there", key);
  return {};
}

}  // namespace

Result<> Builder::display(const std::string& argument) {
  display_chosen_ = true;
  constexpr std::string_view kVnc = "vnc=";
  if (argument.starts_with(kVnc))
    return add_vnc(argument.substr(kVnc.size()), "-display " + argument);
  const auto values = LIMEN_TRY(read_texts(argument, "type"));
  const auto type = values.text("type");
  if (type == "web") return add_web(values, "-display " + argument);
  if (values.wants_help()) {
    print("Available display backend types:\nnone\ncurses\nvnc\nweb\n");
    return {};
  }
  if (type.empty()) return fail("Parameter 'type' is missing");
  // The last one counts, as in QEMU.
  result_.machine.web.reset();
  if (type == "none") {
    result_.machine.display = Display::kNone;
    return {};
  }
  if (type == "curses") {
    result_.machine.display = Display::kCurses;
    return {};
  }
  if (type == "vnc") return fail("where is missing, as in vnc=:0");
  constexpr std::array<std::string_view, 6> kAbsent = {"gtk",   "sdl",       "egl-headless",
                                                       "cocoa", "spice-app", "dbus"};
  constexpr std::array<std::string_view, 4> kTypes = {"none", "vnc", "curses", "web"};
  if (std::ranges::find(kAbsent, std::string_view(type)) != kAbsent.end())
    return fail("Display '{}' is not available; valid: none, curses, vnc=DISPLAY, web", type);
  return fail("Parameter 'type' does not accept value '{}'{}", type, choice_hint(type, kTypes));
}

Result<> Builder::add_web(const KeyValues& values, const std::string& origin) {
  constexpr std::array<std::string_view, 4> kKnown = {"type", "addr", "port", "token"};
  LIMEN_TRY(values.check(kKnown));
  machine::WebDescription web{.origin = origin,
                              .host = values.text("addr", "127.0.0.1"),
                              .first_port = kFirstWebPort,
                              .last_port = kLastWebPort};
  if (web.host.empty()) return fail("addr= is empty; valid: an address of this host");
  if (web.host.starts_with('[') && web.host.ends_with(']'))
    web.host = web.host.substr(1, web.host.size() - 2);
  if (const auto port = values.find("port")) {
    const auto number = machine::parse_number(*port);
    if (!number || *number > UINT16_MAX)
      return fail("port={} is no port; valid: 1 to {}, or 0 for any that is free", *port,
                  UINT16_MAX);
    web.first_port = web.last_port = static_cast<uint16_t>(*number);
  }
  if (const auto token = values.find("token")) {
    web.needs_token = *token != "off";
    if (web.needs_token) {
      web.token = *token;
      constexpr size_t kShortest = 16, kLongest = 256;
      const bool plain = std::ranges::all_of(web.token, [](char each) {
        return (each >= '0' && each <= '9') || (each >= 'a' && each <= 'z') ||
               (each >= 'A' && each <= 'Z') || each == '-' || each == '_';
      });
      if (!plain || web.token.size() < kShortest || web.token.size() > kLongest)
        return fail(
            "token= has {} characters; valid: {} to {} letters, digits, '-' and '_', or off",
            web.token.size(), kShortest, kLongest);
    }
  }
  result_.machine.display = Display::kWeb;
  result_.machine.web = std::move(web);
  return {};
}

Result<> Builder::vnc(const std::string& argument) {
  display_chosen_ = true;
  return add_vnc(argument, "-vnc " + argument);
}

Result<> Builder::add_vnc(const std::string& options, const std::string& origin) {
  auto& machine = result_.machine;
  const auto values = LIMEN_TRY(KeyValues::parse(options, "vnc"));
  constexpr std::array<std::string_view, 24> kKnown = {"vnc",
                                                       "id",
                                                       "to",
                                                       "ipv4",
                                                       "ipv6",
                                                       "password",
                                                       "password-secret",
                                                       "tls-creds",
                                                       "lossy",
                                                       "websocket",
                                                       "share",
                                                       "non-adaptive",
                                                       "reverse",
                                                       "sasl",
                                                       "acl",
                                                       "audiodev",
                                                       "tls-authz",
                                                       "sasl-authz",
                                                       "key-delay-ms",
                                                       "display",
                                                       "head",
                                                       "power-control",
                                                       "connections",
                                                       "lock-key-sync"};
  LIMEN_TRY(values.check(kKnown));
  LIMEN_TRY(refuse(values));
  const auto where = values.text("vnc");
  if (where.empty()) return fail("a display is missing, as in :0 or unix:PATH");
  machine.display = Display::kVnc;
  if (where == "none") return {};
  vnc::ServerOptions server;
  server.origin = origin;
  server.id = values.text("id", machine.vnc_servers.empty()
                                    ? "default"
                                    : fmt::format("vnc{}", machine.vnc_servers.size() + 1));
  for (const auto& other : machine.vnc_servers)
    if (other.id == server.id) return fail("Duplicate ID '{}' for vnc", server.id);
  unsigned number = 0;
  server.address = LIMEN_TRY(vnc_address(where, number));
  const bool inet = server.address.kind == SocketAddress::Kind::kInet;
  if (const auto to = values.find("to")) {
    const auto last = machine::parse_number(*to);
    if (!last || *last < number || *last > UINT16_MAX - kFirstPort)
      return fail("to={} is no display number from {} to {}", *to, number, UINT16_MAX - kFirstPort);
    server.address.last_port = static_cast<uint16_t>(kFirstPort + *last);
  }
  server.address.ipv4 = LIMEN_TRY(values.boolean("ipv4", false));
  server.address.ipv6 = LIMEN_TRY(values.boolean("ipv6", false));
  if (const auto socket = values.find("websocket"); socket && *socket != "off") {
    SocketAddress address = server.address;
    if (*socket == "on") {
      if (!inet) return fail("websocket=on: a number of a port is needed beside a Unix socket");
      address.port = std::to_string(kFirstWebSocketPort + number);
      if (address.last_port != 0)
        address.last_port =
            static_cast<uint16_t>(address.last_port - kFirstPort + kFirstWebSocketPort);
    } else {
      const auto colon = socket->rfind(':');
      const auto port = colon == std::string::npos ? *socket : socket->substr(colon + 1);
      const auto parsed = machine::parse_number(port);
      if (!parsed || *parsed > UINT16_MAX) return fail("websocket={} is no port", *socket);
      if (!inet) address = {.kind = SocketAddress::Kind::kInet, .host = "localhost"};
      if (colon != std::string::npos) address.host = socket->substr(0, colon);
      address.port = port;
      address.last_port = 0;
    }
    server.websocket = address;
  }
  server.password = LIMEN_TRY(values.boolean("password", false));
  server.password_secret = values.text("password-secret");
  if (!server.password_secret.empty()) {
    if (values.find("password")) return fail("'password' flag is redundant with 'password-secret'");
    server.password = true;
  }
  server.tls_credentials = values.text("tls-creds");
  server.screen = values.text("display");
  server.lossy = LIMEN_TRY(values.boolean("lossy", false));
  constexpr std::array<std::string_view, 3> kPolicies = {"allow-exclusive", "force-shared",
                                                         "ignore"};
  const auto share = LIMEN_TRY(values.choice("share", kPolicies, "allow-exclusive"));
  server.share = share == "ignore"         ? vnc::SharePolicy::kIgnore
                 : share == "force-shared" ? vnc::SharePolicy::kForceShared
                                           : vnc::SharePolicy::kAllowExclusive;
  machine.vnc_servers.push_back(std::move(server));
  return {};
}

Result<> Builder::keyboard_layout(const std::string& argument) {
  if (argument == "en-us") return {};
  return fail(
      "could not read keymap file: '{}': there is layout en-us alone; clients that send scan codes "
      "need none",
      argument);
}

}  // namespace limen::qemu
