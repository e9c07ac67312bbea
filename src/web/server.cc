#include "web/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "base/delayed_library.h"
#include "base/log.h"
#include "machine/board.h"
#include "vnc/server.h"
#include "web/assets.h"
#include "web/control_channel.h"
#include "web/http_service.h"
#include "web/listening.h"
#include "web/screen_channel.h"
#include "web/status.h"
#include "web/terminal_channel.h"

namespace limen::web {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStatusInterval{1000};
/// How long the end of the machine waits for clients to be told of it.
constexpr milliseconds kFarewell{200};
constexpr std::string_view kTerminals = "/terminal/";

}  // namespace

class Server::Hub final : public Handler {
 public:
  Hub(machine::Machine& machine, const machine::WebDescription& description)
      : machine_(machine),
        access_(description.host,
                description.needs_token
                    ? std::optional(description.token.empty() ? Access::random_token()
                                                              : description.token)
                    : std::nullopt) {}
  ~Hub() override;

  Result<> open(const machine::WebDescription& description);
  [[nodiscard]] const std::string& url() const { return url_; }

 private:
  // Handler, on the service's thread
  Response answer(const Request& request) override;
  std::expected<std::unique_ptr<Channel>, unsigned> open(const Request& request,
                                                         Socket& socket) override;
  std::expected<std::unique_ptr<Channel>, unsigned> open_terminal(std::string_view id,
                                                                  Socket& socket);
  std::unique_ptr<Channel> open_control(Socket& socket);
  void stir_terminals();

  // On the machine's loop
  void welcome(unsigned client);
  void tick();
  void send_status();
  void perform(Command command, unsigned client);
  void update_terminals();
  /// Runs `work` on the loop, unless the server is over by then. Thread-safe.
  void post_to_machine(std::function<void()> work);
  /// A message for a client that may be gone. Thread-safe.
  void send(unsigned client, std::string message);

  machine::Machine& machine_;
  Access access_;
  std::string url_;
  std::unique_ptr<vnc::Server> screen_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  unsigned listener_ = 0;  ///< Of the machine's events.
  std::optional<Timer> timer_;
  Counters counters_;
  Rates rates_;
  bool ticking_ = false;
  std::vector<std::shared_ptr<device::ConsoleStream>> streams_;  ///< That have a listener.
  std::atomic<bool> stir_posted_ = false;
  std::atomic<size_t> watchers_ = 0;  ///< Clients that see the status.

  // On the service's thread.
  std::map<std::string, std::shared_ptr<device::ConsoleStream>, std::less<>> terminals_;
  std::vector<ControlChannel*> controls_;
  std::vector<TerminalChannel*> open_terminals_;
  unsigned last_client_ = 0;

  std::unique_ptr<HttpService> service_;  // before the others: its channels use them
};

Result<> Server::Hub::open(const machine::WebDescription& description) {
  LIMEN_TRY(load_library(LIMEN_LIBWEBSOCKETS_LIBRARY));
  auto place = LIMEN_TRY(listen_for_browsers(description));
  access_.set_port(place.port());
  url_ = fmt::format("http://{}/", place.reachable());
  if (access_.token())
    url_ += "?token=" + *access_.token();
  else if (!place.is_loopback())
    log::warning("{}: whoever reaches {} controls the machine", description.origin, place.name);
  auto& displays = machine_.displays();
  auto screen =
      vnc::Server::create({.id = "web", .listens = false, .share = vnc::SharePolicy::kIgnore},
                          {.screen = displays.screen(),
                           .input = displays.input(),
                           .machine_name = machine_.description().name});
  if (screen)
    screen_ = std::move(*screen);
  else
    log::warning("the browser shows no screen: {}", screen.error().message);
  service_ = LIMEN_TRY(HttpService::create(*this, std::move(place.fd)));
  update_terminals();
  timer_.emplace(machine_.loop(), [this] { tick(); });
  listener_ = machine_.events().add([this](const auto&, const auto&) {
    if (watchers_ != 0) send_status();
  });
  fmt::print(stderr, "web console: {}\n", url_);
  std::fflush(stderr);
  return {};
}

Server::Hub::~Hub() {
  if (service_ == nullptr) return;
  if (listener_ != 0) machine_.events().remove(listener_);
  timer_.reset();
  for (const auto& stream : streams_) stream->set_listener({});
  service_->run_there([this] {
    for (auto* const control : controls_) control->send(R"({"type":"ended"})");
  });
  const auto end = Clock::now() + kFarewell;
  for (bool idle = false; !idle && Clock::now() < end;) {
    service_->run_there([&] { idle = std::ranges::all_of(controls_, &ControlChannel::is_idle); });
    if (!idle) std::this_thread::sleep_for(milliseconds(2));
  }
  service_.reset();
}

// --- On the service's thread --------------------------------------------------------------------

Response Server::Hub::answer(const Request& request) {
  switch (access_.check(request)) {
    case Verdict::kUnauthorized:
      return {.status = 401};
    case Verdict::kForbidden:
      return {.status = 403};
    case Verdict::kAllowed:
      break;
  }
  const auto* const asset = find_asset(request.path);
  if (asset == nullptr) return {.status = 404};
  return {.type = asset->type,
          .content = asset->content,
          .compressed = true,
          .cookie = access_.shows_token(request) ? access_.cookie() : ""};
}

std::expected<std::unique_ptr<Channel>, unsigned> Server::Hub::open(const Request& request,
                                                                    Socket& socket) {
  constexpr unsigned kUnauthorized = 401, kForbidden = 403, kNotFound = 404, kUnavailable = 503;
  const auto verdict = access_.check(request);
  if (verdict == Verdict::kUnauthorized) return std::unexpected(kUnauthorized);
  if (verdict == Verdict::kForbidden) return std::unexpected(kForbidden);
  if (request.path == "/control") return open_control(socket);
  if (request.path.starts_with(kTerminals))
    return open_terminal(std::string_view(request.path).substr(kTerminals.size()), socket);
  if (request.path != "/screen" || screen_ == nullptr) return std::unexpected(kNotFound);
  auto channel = ScreenChannel::create(*service_, *screen_, socket);
  if (channel) return *std::move(channel);
  log::warning("web: {}", channel.error().message);
  return std::unexpected(kUnavailable);
}

std::expected<std::unique_ptr<Channel>, unsigned> Server::Hub::open_terminal(std::string_view id,
                                                                             Socket& socket) {
  constexpr unsigned kNotFound = 404;
  const auto found = terminals_.find(id);
  if (found == terminals_.end()) return std::unexpected(kNotFound);
  auto channel = std::make_unique<TerminalChannel>(
      found->second, socket, [this](auto& gone) { std::erase(open_terminals_, &gone); });
  open_terminals_.push_back(channel.get());
  return channel;
}

std::unique_ptr<Channel> Server::Hub::open_control(Socket& socket) {
  return std::make_unique<ControlChannel>(
      ControlChannel::Actions{.opened =
                                  [this](auto& channel) {
                                    controls_.push_back(&channel);
                                    watchers_ = controls_.size();
                                    post_to_machine(
                                        [this, client = channel.number()] { welcome(client); });
                                  },
                              .closed =
                                  [this](auto& channel) {
                                    std::erase(controls_, &channel);
                                    watchers_ = controls_.size();
                                  },
                              .command =
                                  [this](auto& channel, Command command) {
                                    post_to_machine([this, command, client = channel.number()] {
                                      perform(command, client);
                                    });
                                  }},
      socket, ++last_client_);
}

void Server::Hub::stir_terminals() {
  stir_posted_ = false;
  for (auto* const terminal : open_terminals_) terminal->stir();
}

// --- On any thread ------------------------------------------------------------------------------

void Server::Hub::post_to_machine(std::function<void()> work) {
  machine_.loop().post([alive = std::weak_ptr<bool>(alive_), work = std::move(work)] {
    if (!alive.expired()) work();
  });
}

void Server::Hub::send(unsigned client, std::string message) {
  service_->post([this, client, message = std::move(message)] {
    const auto found = std::ranges::find(controls_, client, &ControlChannel::number);
    if (found != controls_.end()) (*found)->send(message);
  });
}

// --- On the machine's loop ----------------------------------------------------------------------

void Server::Hub::update_terminals() {
  std::map<std::string, std::shared_ptr<device::ConsoleStream>, std::less<>> terminals;
  for (const auto& [id, stream] : machine_.characters().consoles()) {
    terminals[id] = stream;
    if (std::ranges::find(streams_, stream) != streams_.end()) continue;
    streams_.push_back(stream);
    stream->set_listener([this] {
      if (!stir_posted_.exchange(true)) service_->post([this] { stir_terminals(); });
    });
  }
  service_->post([this, terminals = std::move(terminals)] { terminals_ = terminals; });
}

void Server::Hub::welcome(unsigned client) {
  // One may have come since.
  update_terminals();
  auto* const board = machine_.board();
  const bool has_screen = screen_ != nullptr && board != nullptr && board->screen() != nullptr;
  send(client, machine_message(machine_, has_screen));
  if (!std::exchange(ticking_, true)) {
    counters_ = count(machine_);
    rates_ = {};
    timer_->arm(Clock::now() + kStatusInterval);
  }
  send_status();
}

void Server::Hub::tick() {
  ticking_ = watchers_ != 0;
  if (!ticking_) return;
  const auto now = count(machine_);
  rates_ = rates(std::exchange(counters_, now), now);
  send_status();
  timer_->arm(Clock::now() + kStatusInterval);
}

void Server::Hub::send_status() {
  service_->post([this, message = status_message(machine_, rates_)] {
    for (auto* const control : controls_) control->send_status(message);
  });
}

void Server::Hub::perform(Command command, unsigned client) {
  log::info("web: {}", command_name(command));
  switch (command) {
    case Command::kPause:
      return machine_.stop();
    case Command::kResume:
      if (const auto done = machine_.cont(); !done)
        send(client, nlohmann::json({{"type", "error"}, {"message", done.error().message}}).dump());
      return;
    case Command::kPowerDown:
      return machine_.power_down();
    case Command::kReset:
      return machine_.system_reset(machine::Cause::kHostUi);
    case Command::kQuit:
      return machine_.quit(machine::Cause::kHostUi);
  }
}

Server::Server(std::unique_ptr<Hub> hub) : hub_(std::move(hub)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::create(machine::Machine& machine,
                                               const machine::WebDescription& description) {
  auto hub = std::make_unique<Hub>(machine, description);
  if (auto opened = hub->open(description); !opened)
    return fail("{}: {}", description.origin, opened.error().message);
  return std::unique_ptr<Server>(new Server(std::move(hub)));
}

const std::string& Server::url() const { return hub_->url(); }

}  // namespace limen::web
