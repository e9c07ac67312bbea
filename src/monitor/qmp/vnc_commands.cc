// VNC servers: who is there, passwords.
#include <charconv>
#include <chrono>
#include <optional>

#include "machine/displays.h"
#include "machine/machine.h"
#include "monitor/qmp/command_table.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kVncSchema = R"(
enum NetworkAddressFamily { ipv4, ipv6, unix, vsock, unknown }
enum VncPrimaryAuth { none, vnc, ra2, ra2ne, tight, ultra, tls, vencrypt, sasl }
enum VncVencryptSubAuth { plain, tls-none, x509-none, tls-vnc, x509-vnc, tls-plain, x509-plain,
  tls-sasl, x509-sasl }
struct VncBasicInfo { host: str, service: str, family: NetworkAddressFamily, websocket: bool }
struct VncServerInfo { host: str, service: str, family: NetworkAddressFamily, websocket: bool,
  *auth: str }
struct VncClientInfo { host: str, service: str, family: NetworkAddressFamily, websocket: bool,
  *x509_dname: str, *sasl_username: str }
struct VncInfo { enabled: bool, *host: str, *family: NetworkAddressFamily, *service: str,
  *auth: str, *clients: [VncClientInfo] }
struct VncServerInfo2 { host: str, service: str, family: NetworkAddressFamily, websocket: bool,
  auth: VncPrimaryAuth, *vencrypt: VncVencryptSubAuth }
struct VncInfo2 { id: str, server: [VncServerInfo2], clients: [VncClientInfo],
  auth: VncPrimaryAuth, *vencrypt: VncVencryptSubAuth, *display: str }
command query-vnc -> VncInfo
command query-vnc-servers -> [VncInfo2]

enum DisplayProtocol { vnc, spice }
enum SetPasswordAction { keep, fail, disconnect }
command set_password { protocol: DisplayProtocol, password: str, *connected: SetPasswordAction,
  *display: str }
command expire_password { protocol: DisplayProtocol, time: str, *display: str }
command change-vnc-password { password: str }

event VNC_CONNECTED { server: VncServerInfo, client: VncBasicInfo }
event VNC_INITIALIZED { server: VncServerInfo, client: VncClientInfo }
event VNC_DISCONNECTED { server: VncServerInfo, client: VncClientInfo }
)";

Json endpoint(const vnc::EndpointInformation& at) {
  return {{"host", at.host},
          {"service", at.service},
          {"family", at.family},
          {"websocket", at.websocket}};
}

Json clients_of(const vnc::ServerInformation& server) {
  Json clients = Json::array();
  for (const auto& client : server.clients)
    clients.push_back({{"host", client.host},
                       {"service", client.service},
                       {"family", client.family},
                       {"websocket", client.websocket}});
  return clients;
}

Reply query_vnc(Context& context, const Json&) {
  auto* const server = context.machine.displays().vnc_server("");
  if (server == nullptr) return Json{{"enabled", false}};
  const auto all = server->information();
  Json info = {{"enabled", true}, {"auth", all.authentication}, {"clients", clients_of(all)}};
  if (!all.endpoints.empty()) {
    info["host"] = all.endpoints.front().host;
    info["service"] = all.endpoints.front().service;
    info["family"] = all.endpoints.front().family;
  }
  return info;
}

Reply query_vnc_servers(Context& context, const Json&) {
  Json servers = Json::array();
  for (const auto& server : context.machine.displays().vnc_servers()) {
    const auto all = server->information();
    Json info = {{"id", all.id},
                 {"server", Json::array()},
                 {"clients", clients_of(all)},
                 {"auth", all.authentication}};
    if (!all.sub_authentication.empty()) info["vencrypt"] = all.sub_authentication;
    for (const auto& each : all.endpoints) {
      auto at = endpoint(each);
      at["auth"] = all.authentication;
      if (!all.sub_authentication.empty()) at["vencrypt"] = all.sub_authentication;
      info["server"].push_back(at);
    }
    servers.push_back(std::move(info));
  }
  return servers;
}

std::expected<vnc::Server*, Failure> server_of(Context& context, const Json& arguments) {
  if (arguments.contains("protocol") && arguments["protocol"] != "vnc")
    return failure("GenericError", "Could not set password: there is no spice");
  auto* const server = context.machine.displays().vnc_server(arguments.value("display", ""));
  if (server == nullptr) return failure("GenericError", "Could not set password");
  return server;
}

Reply set_password(Context& context, const Json& arguments) {
  const auto server = server_of(context, arguments);
  if (!server) return std::unexpected(server.error());
  const auto connected = arguments.value("connected", "keep");
  if (connected != "keep")  // as in QEMU, VNC keeps who is there
    return failure("GenericError", "parameter 'connected' must be 'keep' when 'protocol' is 'vnc'");
  if (auto set = (*server)->set_password(arguments["password"]); !set)
    return std::unexpected(Failure(std::move(set).error()));
  return nothing();
}

Reply change_vnc_password(Context& context, const Json& arguments) {
  return set_password(context, arguments);
}

Reply expire_password(Context& context, const Json& arguments) {
  using std::chrono::seconds;
  using std::chrono::system_clock;
  const auto server = server_of(context, arguments);
  if (!server) return std::unexpected(server.error());
  const std::string text = arguments["time"];
  const auto now = system_clock::now();
  std::optional<system_clock::time_point> when;
  if (text == "now") {
    when = now;
  } else if (text != "never") {
    const bool later = text.starts_with('+');
    const char* const first = text.data() + (later ? 1 : 0);
    int64_t value = 0;
    const auto [end, error] = std::from_chars(first, text.data() + text.size(), value);
    constexpr int64_t kMost = int64_t{1} << 33;
    if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > kMost)
      return failure("GenericError",
                     "Parameter 'time' doesn't take value '{}'; valid: now, never, +SECONDS, "
                     "seconds since 1970",
                     text);
    when = later ? now + seconds(value) : system_clock::time_point(seconds(value));
  }
  (*server)->expire_password(when);
  return nothing();
}

}  // namespace

CommandGroup vnc_commands() {
  return {kVncSchema,
          {{"query-vnc", query_vnc},
           {"query-vnc-servers", query_vnc_servers},
           {"set_password", set_password},
           {"expire_password", expire_password},
           {"change-vnc-password", change_vnc_password}}};
}

}  // namespace limen::monitor
