#include "web/http_service.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "web/http_messages.h"
#include "web/lws_entries.h"

namespace limen::web {
namespace {

/// A client that has not said what it wants by then, or takes nothing of an answer for so long, is
/// dropped; a WebSocket that does not answer a ping is, too.
constexpr int kPatience = 20;
constexpr uint16_t kPing = 15, kHangUp = 30;
constexpr unsigned kDescriptors = 256;

}  // namespace

class HttpService::Engine final : private Watcher {
 public:
  explicit Engine(Handler& handler) : handler_(handler) {}
  ~Engine() override;

  Result<> open(UniqueFd listener);
  void post(std::function<void()> work);
  std::unique_ptr<Watch> watch(UniqueFd fd, Watcher& watcher);
  void adopt(UniqueFd fd);
  [[nodiscard]] bool is_current() const { return std::this_thread::get_id() == thread_.get_id(); }

 private:
  // libwebsockets' callbacks, one per protocol.
  static int client_event(lws* wsi, lws_callback_reasons reason, void* user, void* in, size_t size);
  static int watch_event(lws* wsi, lws_callback_reasons reason, void* user, void* in, size_t size);

  int http(ClientEntry& client);
  int http_writable(ClientEntry& client);
  int upgrade(ClientEntry& client, std::string_view protocol);
  static int answer(ClientEntry& client, unsigned status);
  static int receive(ClientEntry& client, std::span<const uint8_t> piece);
  static int write(ClientEntry& client);
  void run_posted();
  void forget(lws* wsi);
  void readable() override;  // the listener

  Handler& handler_;
  const std::array<lws_protocols, 3> protocols_ = {
      {{"limen", client_event, 0, kLargestPiece, 0, nullptr, kLargestPiece},
       {"descriptor", watch_event, 0, 0, 0, nullptr, 0},
       {nullptr, nullptr, 0, 0, 0, nullptr, 0}}};
  const lws_retry_bo_t idle_ = {.retry_ms_table = nullptr,
                                .retry_ms_table_count = 0,
                                .conceal_count = 0,
                                .secs_since_valid_ping = kPing,
                                .secs_since_valid_hangup = kHangUp,
                                .jitter_percent = 0};
  lws_context* context_ = nullptr;
  lws_vhost* vhost_ = nullptr;
  std::thread thread_;
  std::atomic<bool> ending_ = false;
  size_t clients_ = 0;
  int listener_fd_ = -1;
  std::unique_ptr<Watch> listener_;

  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // guarded by mutex_
};

Result<> HttpService::Engine::open(UniqueFd listener) {
  // Its messages are for those who write programs with it.
  lws_set_log_level(LLL_ERR | LLL_WARN, [](int, const char* line) {
    std::string_view text(line);
    while (text.ends_with('\n')) text.remove_suffix(1);
    log::debug("web: {}", text);
  });
  lws_context_creation_info info{};
  info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
  info.gid = static_cast<gid_t>(-1);
  info.uid = static_cast<uid_t>(-1);
  info.user = this;
  info.fd_limit_per_thread = kDescriptors;
  info.pt_serv_buf_size = kLargestPiece;
  context_ = lws_create_context(&info);
  if (context_ == nullptr) return fail("libwebsockets does not start");
  info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
  info.protocols = protocols_.data();
  info.timeout_secs = kPatience;
  info.keepalive_timeout = kPatience;
  info.retry_and_idle_policy = &idle_;
  vhost_ = lws_create_vhost(context_, &info);
  if (vhost_ == nullptr) return fail("libwebsockets does not start");
  if (listener.valid()) {
    listener_fd_ = listener.get();
    listener_ = watch(std::move(listener), *this);
    if (listener_ == nullptr) return fail("libwebsockets does not watch the listening socket");
  }
  thread_ = std::thread([this] {
    ::pthread_setname_np(::pthread_self(), "web");
    while (!ending_ && lws_service(context_, 0) >= 0) {
    }
  });
  return {};
}

HttpService::Engine::~Engine() {
  ending_ = true;
  if (thread_.joinable()) {
    lws_cancel_service(context_);
    thread_.join();
  }
  listener_.reset();
  // Closes all that is open, with the callbacks for it.
  if (context_ != nullptr) lws_context_destroy(context_);
}

void HttpService::Engine::post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
  }
  lws_cancel_service(context_);
}

void HttpService::Engine::run_posted() {
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard lock(mutex_);
    work.swap(posted_);
  }
  for (const auto& each : work) each();
}

std::unique_ptr<Watch> HttpService::Engine::watch(UniqueFd fd, Watcher& watcher) {
  auto entry = std::make_unique<WatchEntry>();
  entry->watcher = &watcher;
  lws_adopt_desc_t description{};
  description.vh = vhost_;
  description.type = LWS_ADOPT_RAW_FILE_DESC;
  description.vh_prot_name = protocols_[1].name;
  description.opaque = static_cast<Entry*>(entry.get());
  // From here on the descriptor and the entry are its own.
  description.fd.filefd = fd.release();
  auto* const its = entry.release();
  its->wsi = lws_adopt_descriptor_vhost_via_info(&description);
  return its->wsi == nullptr ? nullptr : std::make_unique<OpenWatch>(its);
}

void HttpService::Engine::adopt(UniqueFd fd) {
  if (clients_ >= kMostClients) {
    log::info("web: there are {} clients; another one was turned away", clients_);
    return;
  }
  auto entry = std::make_unique<ClientEntry>();
  lws_adopt_desc_t description{};
  description.vh = vhost_;
  description.type = static_cast<lws_adoption_type>(LWS_ADOPT_HTTP | LWS_ADOPT_SOCKET);
  description.opaque = static_cast<Entry*>(entry.get());
  description.fd.sockfd = fd.release();
  auto* const its = entry.release();
  ++clients_;
  if (lws* const wsi = lws_adopt_descriptor_vhost_via_info(&description)) its->wsi = wsi;
}

void HttpService::Engine::readable() {
  UniqueFd fd(::accept4(listener_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) return;
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  adopt(std::move(fd));
}

void HttpService::Engine::forget(lws* wsi) {
  auto* const entry = static_cast<Entry*>(lws_get_opaque_user_data(wsi));
  if (entry == nullptr) return;
  lws_set_opaque_user_data(wsi, nullptr);
  if (dynamic_cast<ClientEntry*>(entry) != nullptr) --clients_;
  delete entry;
}

/// An answer of a status alone.
int HttpService::Engine::answer(ClientEntry& client, unsigned status) {
  client.response = {.status = status, .text = std::string(reason_of(status))};
  client.sent = 0;
  return send_header(client) && send_content(client).value_or(false) ? 0 : -1;
}

int HttpService::Engine::http(ClientEntry& client) {
  const auto request = request_of(client.wsi);
  if (!request) {
    // What may follow is of no interest.
    answer(client, 405);
    return -1;
  }
  client.response = handler_.answer(*request);
  if (client.response.status != 200 && client.response.text.empty())
    client.response.text = reason_of(client.response.status);
  client.sent = 0;
  if (!send_header(client)) return -1;
  lws_callback_on_writable(client.wsi);
  return 0;
}

int HttpService::Engine::http_writable(ClientEntry& client) {
  const auto all = send_content(client);
  if (!all) return -1;
  if (*all) return lws_http_transaction_completed(client.wsi) != 0 ? -1 : 0;
  lws_callback_on_writable(client.wsi);
  return 0;
}

/// As LWS_CALLBACK_HTTP_CONFIRM_UPGRADE has it: 0: goes on, 1: was answered.
int HttpService::Engine::upgrade(ClientEntry& client, std::string_view protocol) {
  const auto request = request_of(client.wsi);
  const bool websocket = ::strcasecmp(std::string(protocol).c_str(), "websocket") == 0;
  if (!request || !websocket) return answer(client, 400) == 0 ? 1 : -1;
  auto channel = handler_.open(*request, client);
  if (!channel) return answer(client, channel.error()) == 0 ? 1 : -1;
  client.channel = std::move(*channel);
  return 0;
}

int HttpService::Engine::receive(ClientEntry& client, std::span<const uint8_t> piece) {
  const bool last =
      lws_is_final_fragment(client.wsi) != 0 && lws_remaining_packet_payload(client.wsi) == 0;
  if (const auto done = client.channel->received(piece, last); !done) {
    log::info("web: a client is dropped: {}", done.error().message);
    return -1;
  }
  return 0;
}

int HttpService::Engine::write(ClientEntry& client) {
  // What it took half is sent first.
  if (lws_partial_buffered(client.wsi) != 0) {
    lws_callback_on_writable(client.wsi);
    return 0;
  }
  auto message = client.channel->next();
  if (!message) return 0;
  const size_t size = message->bytes.size();
  message->bytes.insert(message->bytes.begin(), LWS_PRE, 0);
  if (lws_write(client.wsi, message->bytes.data() + LWS_PRE, size,
                message->text ? LWS_WRITE_TEXT : LWS_WRITE_BINARY) < static_cast<int>(size))
    return -1;
  lws_callback_on_writable(client.wsi);
  return 0;
}

int HttpService::Engine::client_event(lws* wsi, lws_callback_reasons reason, void*, void* in,
                                      size_t size) {
  auto& engine = *static_cast<Engine*>(lws_context_user(lws_get_context(wsi)));
  if (reason == LWS_CALLBACK_EVENT_WAIT_CANCELLED) {
    engine.run_posted();
    return 0;
  }
  if (reason == LWS_CALLBACK_WSI_DESTROY) {
    engine.forget(wsi);
    return 0;
  }
  auto* const client =
      dynamic_cast<ClientEntry*>(static_cast<Entry*>(lws_get_opaque_user_data(wsi)));
  if (client == nullptr) return 0;
  client->wsi = wsi;
  switch (reason) {
    case LWS_CALLBACK_HTTP:
      return engine.http(*client);
    case LWS_CALLBACK_HTTP_WRITEABLE:
      return engine.http_writable(*client);
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
      return engine.upgrade(*client, static_cast<const char*>(in));
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
      return client->channel != nullptr ? 0 : -1;
    case LWS_CALLBACK_ESTABLISHED:
      client->channel->opened();
      return 0;
    case LWS_CALLBACK_RECEIVE:
      return receive(*client, {static_cast<const uint8_t*>(in), size});
    case LWS_CALLBACK_SERVER_WRITEABLE:
      return write(*client);
    case LWS_CALLBACK_TIMER:
      if (client->channel != nullptr) client->channel->woken();
      return 0;
    case LWS_CALLBACK_CLOSED:
      client->channel.reset();
      return 0;
    // Files, proxies and the like of libwebsockets' own are not there.
    case LWS_CALLBACK_HTTP_BODY:
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
    case LWS_CALLBACK_HTTP_FILE_COMPLETION:
      return -1;
    default:
      return 0;
  }
}

int HttpService::Engine::watch_event(lws* wsi, lws_callback_reasons reason, void*, void*, size_t) {
  auto* const entry = dynamic_cast<WatchEntry*>(static_cast<Entry*>(lws_get_opaque_user_data(wsi)));
  if (entry == nullptr) return 0;
  if (entry->watcher == nullptr) return -1;
  if (reason == LWS_CALLBACK_RAW_RX_FILE) entry->watcher->readable();
  if (reason == LWS_CALLBACK_RAW_WRITEABLE_FILE) entry->watcher->writable();
  return 0;
}

HttpService::HttpService(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}
HttpService::~HttpService() = default;

Result<std::unique_ptr<HttpService>> HttpService::create(Handler& handler, UniqueFd listener) {
  auto engine = std::make_unique<Engine>(handler);
  LIMEN_TRY(engine->open(std::move(listener)));
  return std::unique_ptr<HttpService>(new HttpService(std::move(engine)));
}

void HttpService::post(std::function<void()> work) { engine_->post(std::move(work)); }

void HttpService::run_there(const std::function<void()>& work) {
  if (engine_->is_current()) return work();
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  engine_->post([&] {
    work();
    const std::lock_guard lock(mutex);
    done = true;
    changed.notify_one();
  });
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return done; });
}

std::unique_ptr<Watch> HttpService::watch(UniqueFd fd, Watcher& watcher) {
  return engine_->watch(std::move(fd), watcher);
}
void HttpService::adopt(UniqueFd fd) { engine_->adopt(std::move(fd)); }

}  // namespace limen::web
