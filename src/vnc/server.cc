#include "vnc/server.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/delayed_library.h"
#include "base/log.h"
#include "base/loop_thread.h"
#include "vnc/connection.h"

// Behind the others: it defines macros with plain names.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <rfb/rfb.h>

namespace limen::vnc {
namespace {

using std::chrono::milliseconds;

/// How often the screen is looked at: while it changes, and how much more seldom, up to what, with
/// every look at which it had not.
constexpr milliseconds kBusy{33}, kSlowDown{20}, kIdle{250};
constexpr size_t kMostClients = 64;
constexpr size_t kPasswordSize = 8;  // what VNC's authentication looks at (RFC 6143 §7.2.2)

}  // namespace

/// What runs on the server's thread.
class Server::Hub final : public ConnectionHost, public display::Viewer {
 public:
  Hub(const ServerOptions& options, Parts parts)
      : options_(options), parts_(std::move(parts)), password_(parts_.password) {}
  ~Hub() override;

  Result<> open();

  // On any thread.
  ServerInformation information();
  [[nodiscard]] const ServerOptions& options() const { return options_; }
  Result<> set_password(const std::string& password);
  void expire_password(std::optional<std::chrono::system_clock::time_point> when) {
    thread_->run_there([&] { expires_ = when; });
  }
  void disconnect_clients() {
    thread_->run_there([&] {
      for (const auto& client : clients_) client->close("disconnected by a monitor");
    });
  }

  void adopt(UniqueFd fd) {
    // std::function wants what can be copied.
    thread_->loop().post([this, shared = std::make_shared<UniqueFd>(std::move(fd))] {
      add_client(std::move(*shared), false);
    });
  }

  // ConnectionHost
  bool password_matches(std::span<const uint8_t, 16> challenge,
                        std::span<const uint8_t, 16> response) override;
  bool joined(Connection& connection, bool shared) override;
  void stir() override;
  void wish_size(unsigned width, unsigned height) override {
    parts_.screen.wish_size(width, height);
  }
  void over(Connection& connection) override;
  Encoder& encoder() override { return *encoder_; }
  display::Input& input() override { return parts_.input; }

  // display::Viewer, on any thread
  void frame_changed(const display::Frame& frame, std::span<const display::Rectangle> changed,
                     bool resized) override;
  void pointer_changed(const std::shared_ptr<const display::Pointer>& pointer) override;

 private:
  struct Listener {
    UniqueFd fd;
    bool websocket;
    std::string path;  ///< Of a Unix socket.
  };
  Result<> listen(const device::SocketAddress& address, bool websocket);
  void accept(const Listener& listener);
  void add_client(UniqueFd fd, bool websocket);
  void look();
  void look_at(Clock::time_point when);
  /// Hands what the screen told to the encoder; false: there was nothing.
  bool apply();
  void tell(ServerEvent::Kind kind, const Connection& connection);
  [[nodiscard]] std::string authentication() const;
  [[nodiscard]] static ClientInformation describe(const Connection& connection);
  [[nodiscard]] size_t initialized_clients() const {
    return static_cast<size_t>(std::ranges::count_if(
        clients_, [](const auto& each) { return each->is_initialized() && !each->is_over(); }));
  }

  const ServerOptions options_;
  const Parts parts_;
  std::shared_ptr<TlsCredentials> credentials_;
  std::unique_ptr<LoopThread> thread_;

  // On the thread.
  std::unique_ptr<Encoder> encoder_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<std::unique_ptr<Connection>> clients_;
  std::optional<std::string> password_;
  std::optional<std::chrono::system_clock::time_point> expires_;
  std::unique_ptr<Timer> timer_;
  milliseconds interval_ = kBusy;
  Clock::time_point next_look_ = Clock::time_point::max();
  bool looking_ = false;

  // What the screen told, perhaps on another's thread.
  std::mutex mutex_;
  display::Frame frame_;                             // guarded by mutex_
  std::vector<display::Rectangle> changed_;          // guarded by mutex_
  bool resized_ = false;                             // guarded by mutex_
  std::shared_ptr<const display::Pointer> pointer_;  // guarded by mutex_
  bool pointer_changed_ = false;                     // guarded by mutex_
};

Result<> Server::Hub::open() {
  LIMEN_TRY(load_library(LIMEN_VNCSERVER_LIBRARY));
  LIMEN_TRY(load_library(LIMEN_GNUTLS_LIBRARY));
  if (parts_.tls) credentials_ = LIMEN_TRY(TlsCredentials::create(*parts_.tls));
  const std::string name =
      parts_.machine_name.empty() ? "Limen" : "Limen (" + parts_.machine_name + ")";
  encoder_ = LIMEN_TRY(Encoder::create(name));
  thread_ = LIMEN_TRY(LoopThread::create("vnc"));
  timer_ = std::make_unique<Timer>(thread_->loop(), [this] { look(); });
  if (options_.listens) LIMEN_TRY(listen(options_.address, false));
  if (options_.websocket) LIMEN_TRY(listen(*options_.websocket, true));
  if (options_.by_default) {
    const auto where = Connection::address_of(listeners_.front()->fd.get(), false);
    // On standard output, in QEMU's words: scripts look for it.
    const bool bracket = where.family == "ipv6";
    fmt::print("VNC server running on {}{}{}:{}\n", bracket ? "[" : "", where.host,
               bracket ? "]" : "", where.service);
    std::fflush(stdout);
  }
  return {};
}

Server::Hub::~Hub() {
  if (thread_ == nullptr) return;
  thread_->run_there([this] {
    for (const auto& listener : listeners_) {
      thread_->loop().unwatch(listener->fd.get());
      if (!listener->path.empty()) ::unlink(listener->path.c_str());
    }
    timer_->disarm();
    if (std::exchange(looking_, false)) parts_.screen.remove_viewer(*this);
    clients_.clear();
  });
  timer_.reset();
  thread_.reset();
}

Result<> Server::Hub::listen(const device::SocketAddress& address, bool websocket) {
  auto listener = std::make_unique<Listener>();
  listener->fd = LIMEN_TRY(device::listen_on(address));
  listener->websocket = websocket;
  if (address.kind == device::SocketAddress::Kind::kUnix && !address.abstract)
    listener->path = address.path;
  // More than one may knock at a time.
  constexpr int kBacklog = 32;
  ::listen(listener->fd.get(), kBacklog);
  auto* const its = listener.get();
  listeners_.push_back(std::move(listener));
  return thread_->loop().watch(its->fd.get(), EPOLLIN, [this, its](uint32_t) { accept(*its); });
}

void Server::Hub::accept(const Listener& listener) {
  UniqueFd fd(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (fd.valid()) add_client(std::move(fd), listener.websocket);
}

void Server::Hub::add_client(UniqueFd fd, bool websocket) {
  if (clients_.size() >= kMostClients) {
    log::warning("VNC: there are {} clients; another one was turned away", clients_.size());
    return;
  }
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  auto client = std::make_unique<Connection>(
      thread_->loop(), *this, std::move(fd),
      Connection::Way{.websocket = websocket,
                      .lossy = options_.lossy,
                      .security = {.password = options_.password,
                                   .tls = credentials_ != nullptr,
                                   .anonymous_tls = parts_.tls && parts_.tls->anonymous,
                                   .on_tls_already = websocket && credentials_ != nullptr},
                      .credentials = credentials_});
  auto* const its = client.get();
  clients_.push_back(std::move(client));
  tell(ServerEvent::Kind::kConnected, *its);
  if (auto started = its->start(); !started) its->close(started.error().message);
}

bool Server::Hub::password_matches(std::span<const uint8_t, 16> challenge,
                                   std::span<const uint8_t, 16> response) {
  if (!password_) return false;
  if (expires_ && std::chrono::system_clock::now() >= *expires_) return false;
  std::array<uint8_t, 16> expected{};
  std::ranges::copy(challenge, expected.begin());
  std::array<char, kPasswordSize + 1> key{};
  std::memcpy(key.data(), password_->data(), std::min(password_->size(), kPasswordSize));
  rfbEncryptBytes(expected.data(), key.data());
  unsigned difference = 0;
  for (size_t i = 0; i < expected.size(); ++i)
    difference |= static_cast<unsigned>(expected.at(i) ^ response[i]);
  return difference == 0;
}

bool Server::Hub::joined(Connection& connection, bool shared) {
  if (!shared && options_.share != SharePolicy::kIgnore) {
    if (options_.share == SharePolicy::kForceShared) return false;
    for (const auto& other : clients_)
      if (other.get() != &connection) other->close("another client wants the screen for itself");
  }
  tell(ServerEvent::Kind::kInitialized, connection);
  if (!std::exchange(looking_, true)) {
    parts_.screen.add_viewer(*this);
    next_look_ = Clock::time_point::max();
  }
  // The first picture's size is what the client is told.
  parts_.screen.update();
  apply();
  stir();
  return true;
}

void Server::Hub::stir() {
  interval_ = kBusy;
  // Never later than it would be: who stirs more often than that is shown pictures all the same.
  if (looking_ && next_look_ > Clock::now() + kBusy) look_at(Clock::now() + kBusy);
}

void Server::Hub::look_at(Clock::time_point when) {
  next_look_ = when;
  timer_->arm(when);
}

void Server::Hub::look() {
  parts_.screen.update();
  const bool changed = apply();
  for (const auto& client : clients_) client->update();
  interval_ = changed ? kBusy : std::min(interval_ + kSlowDown, kIdle);
  if (looking_) look_at(Clock::now() + interval_);
}

void Server::Hub::over(Connection& connection) {
  tell(ServerEvent::Kind::kDisconnected, connection);
  thread_->loop().post([this, gone = &connection] {
    std::erase_if(clients_, [&](const auto& each) { return each.get() == gone; });
    if (initialized_clients() != 0 || !looking_) return;
    looking_ = false;
    timer_->disarm();
    parts_.screen.remove_viewer(*this);
  });
}

void Server::Hub::frame_changed(const display::Frame& frame,
                                std::span<const display::Rectangle> changed, bool resized) {
  const std::lock_guard lock(mutex_);
  if (resized || frame.width != frame_.width || frame.height != frame_.height) {
    frame_ = frame;
    changed_.clear();
    resized_ = true;
    return;
  }
  for (const auto& part : changed) {
    if (part.x >= frame.width || part.y >= frame.height) continue;
    const unsigned width = std::min(part.width, frame.width - part.x);
    const unsigned bottom = part.y + std::min(part.height, frame.height - part.y);
    for (unsigned y = part.y; y < bottom; ++y)
      std::memcpy(frame_.row(y) + part.x, frame.row(y) + part.x, size_t{width} * sizeof(uint32_t));
    if (!resized_) changed_.push_back(part);
  }
}

void Server::Hub::pointer_changed(const std::shared_ptr<const display::Pointer>& pointer) {
  const std::lock_guard lock(mutex_);
  pointer_ = pointer;
  pointer_changed_ = true;
}

bool Server::Hub::apply() {
  const std::lock_guard lock(mutex_);
  const bool changed = resized_ || !changed_.empty();
  if (changed) encoder_->show(frame_, changed_, resized_);
  changed_.clear();
  resized_ = false;
  if (std::exchange(pointer_changed_, false)) encoder_->set_pointer(pointer_);
  return changed;
}

std::string Server::Hub::authentication() const {
  return credentials_ != nullptr ? "vencrypt" : options_.password ? "vnc" : "none";
}

ClientInformation Server::Hub::describe(const Connection& connection) {
  const auto& peer = connection.peer();
  return {.host = peer.host,
          .service = peer.service,
          .family = peer.family,
          .websocket = connection.is_websocket(),
          .initialized = connection.is_initialized()};
}

void Server::Hub::tell(ServerEvent::Kind kind, const Connection& connection) {
  if (!parts_.tell) return;
  const auto& own = connection.local();
  parts_.tell({.kind = kind,
               .server = {.host = own.host,
                          .service = own.service,
                          .family = own.family,
                          .websocket = connection.is_websocket()},
               .authentication = authentication(),
               .client = describe(connection)});
}

ServerInformation Server::Hub::information() {
  ServerInformation all{.id = options_.id, .authentication = authentication()};
  if (credentials_ != nullptr)
    all.sub_authentication = std::string(parts_.tls->anonymous ? "tls" : "x509") +
                             (options_.password ? "-vnc" : "-none");
  thread_->run_there([&] {
    for (const auto& listener : listeners_) {
      const auto where = Connection::address_of(listener->fd.get(), false);
      all.endpoints.push_back({.host = where.host,
                               .service = where.service,
                               .family = where.family,
                               .websocket = listener->websocket});
    }
    for (const auto& client : clients_)
      if (!client->is_over()) all.clients.push_back(describe(*client));
  });
  return all;
}

Result<> Server::Hub::set_password(const std::string& password) {
  if (!options_.password)
    return fail("no VNC display with id '{}' asks for a password", options_.id);
  thread_->run_there([&] { password_ = password; });
  return {};
}

Server::Server(std::unique_ptr<Hub> hub) : hub_(std::move(hub)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::create(const ServerOptions& options, Parts parts) {
  auto hub = std::make_unique<Hub>(options, std::move(parts));
  LIMEN_TRY(hub->open());
  return std::unique_ptr<Server>(new Server(std::move(hub)));
}

ServerInformation Server::information() { return hub_->information(); }
const ServerOptions& Server::options() const { return hub_->options(); }
Result<> Server::set_password(const std::string& password) { return hub_->set_password(password); }
void Server::expire_password(std::optional<std::chrono::system_clock::time_point> when) {
  hub_->expire_password(when);
}
void Server::disconnect_clients() { hub_->disconnect_clients(); }
void Server::adopt(UniqueFd fd) { hub_->adopt(std::move(fd)); }

}  // namespace limen::vnc
