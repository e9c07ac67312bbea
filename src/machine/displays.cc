#include "machine/displays.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "curses/curses_display.h"
#include "machine/board.h"
#include "machine/objects.h"

namespace limen::machine {
namespace {

using Json = nlohmann::json;

Result<const ObjectDescription*> find_object(const MachineDescription& description,
                                             const std::string& id, std::string_view type,
                                             std::string_view what) {
  const auto found = std::ranges::find(description.objects, id, &ObjectDescription::id);
  if (found == description.objects.end()) return fail("No {} with id '{}'", what, id);
  if (!found->type.starts_with(type)) return fail("Object with id '{}' is not a {}", id, what);
  return &*found;
}

Result<vnc::TlsOptions> tls_options(const ObjectDescription& object) {
  const auto text = [&](const char* key) {
    const auto found = object.properties.find(key);
    return found == object.properties.end() ? std::string() : found->second;
  };
  if (text("endpoint") != "server")
    return fail("Expecting TLS credentials with a server endpoint: endpoint=server");
  vnc::TlsOptions tls{.anonymous = object.type == "tls-creds-anon",
                      .folder = text("dir"),
                      .verify_peer = true,
                      .priority = text("priority")};
  if (const auto verify = text("verify-peer"); !verify.empty())
    tls.verify_peer = parse_boolean(verify).value_or(true);
  if (!tls.anonymous && tls.folder.empty()) return fail("Missing 'dir' property value");
  return tls;
}

Json described(const vnc::EndpointInformation& server, const std::string& authentication) {
  return {{"host", server.host},
          {"service", server.service},
          {"family", server.family},
          {"websocket", server.websocket},
          {"auth", authentication}};
}

void tell(Events& events, const vnc::ServerEvent& event) {
  using Kind = vnc::ServerEvent::Kind;
  const Json data = {{"server", described(event.server, event.authentication)},
                     {"client",
                      {{"host", event.client.host},
                       {"service", event.client.service},
                       {"family", event.client.family},
                       {"websocket", event.client.websocket}}}};
  events.post(event.kind == Kind::kConnected     ? "VNC_CONNECTED"
              : event.kind == Kind::kInitialized ? "VNC_INITIALIZED"
                                                 : "VNC_DISCONNECTED",
              data);
}

/// In QEMU's words: -vnc localhost:0,to=99,id=default.
vnc::ServerOptions default_server() {
  vnc::ServerOptions options;
  options.by_default = true;
  options.address = {.kind = device::SocketAddress::Kind::kInet,
                     .host = "localhost",
                     .port = "5900",
                     .last_port = 5999};
  return options;
}

}  // namespace

Displays::~Displays() = default;

Result<std::unique_ptr<Displays>> Displays::create(const MachineDescription& description,
                                                   Board* board, Events& events, EventLoop& loop) {
  std::unique_ptr<Displays> displays(new Displays);
  displays->screen_ = board == nullptr ? nullptr : board->screen();
  displays->input_ = board == nullptr ? nullptr : &board->input();
  const bool has_screen = displays->screen_ != nullptr;
  if (!has_screen) {
    displays->own_screen_ = std::make_unique<display::Screen>();
    displays->screen_ = displays->own_screen_.get();
  }
  if (displays->input_ == nullptr) {
    displays->own_input_ = std::make_unique<display::Input>();
    displays->input_ = displays->own_input_.get();
  }
  for (const auto& options : description.vnc_servers)
    if (auto opened = displays->open_vnc(description, options, board, events); !opened)
      return fail("{}: {}", options.origin, opened.error().message);
  if (description.display == MachineDescription::Display::kDefault && has_screen &&
      description.vnc_servers.empty())
    if (auto opened = displays->open_vnc(description, default_server(), board, events); !opened)
      log::warning("no VNC server: {}", opened.error().message);
  if (description.display == MachineDescription::Display::kCurses)
    displays->curses_ =
        LIMEN_TRY(curses::CursesDisplay::create(*displays->screen_, *displays->input_, loop));
  return displays;
}

Result<> Displays::open_vnc(const MachineDescription& description,
                            const vnc::ServerOptions& options, Board* board, Events& events) {
  auto* screen = screen_;
  if (!options.screen.empty()) {
    screen = board == nullptr ? nullptr : board->screen(options.screen);
    if (screen == nullptr) return fail("Device '{}' not found", options.screen);
  }
  vnc::Server::Parts parts{.screen = *screen,
                           .input = *input_,
                           .machine_name = description.name,
                           .password = {},
                           .tls = {},
                           .tell = [&events](const auto& event) { tell(events, event); }};
  if (!options.password_secret.empty())
    parts.password = LIMEN_TRY(secret_data(
        *LIMEN_TRY(find_object(description, options.password_secret, "secret", "secret"))));
  if (!options.tls_credentials.empty())
    parts.tls = LIMEN_TRY(tls_options(*LIMEN_TRY(
        find_object(description, options.tls_credentials, "tls-creds-", "TLS credentials"))));
  vnc_servers_.push_back(LIMEN_TRY(vnc::Server::create(options, std::move(parts))));
  return {};
}

void Displays::set_monitor(std::function<std::string(std::string_view line)> monitor) {
  if (curses_ != nullptr) curses_->set_monitor(std::move(monitor));
}

vnc::Server* Displays::vnc_server(std::string_view id) const {
  for (const auto& server : vnc_servers_)
    if (id.empty() || server->options().id == id) return server.get();
  return nullptr;
}

}  // namespace limen::machine
