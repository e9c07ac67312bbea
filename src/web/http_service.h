// HTTP and WebSockets by libwebsockets, on a thread of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "web/access.h"

namespace limen::web {

struct Response {
  unsigned status = 200;
  std::string_view type = "text/plain; charset=utf-8";
  std::span<const uint8_t> content = {};  ///< Outlives the service, or empty:
  std::string text = {};                  ///< then this.
  bool compressed = false;                ///< gzip.
  std::string cookie = {};                ///< The value of Set-Cookie.
};

/// One end of a WebSocket, as a channel sees it. On the service's thread.
class Socket {
 public:
  virtual ~Socket() = default;
  /// Channel::next() is asked as soon as the client takes more.
  virtual void want_write() = 0;
  /// What the client sends waits, or does so no longer.
  virtual void hold(bool held) = 0;
  /// Channel::woken() is called once, after that time.
  virtual void wake_after(std::chrono::milliseconds time) = 0;
  virtual void close() = 0;
};

/// What stands behind a WebSocket. On the service's thread.
class Channel {
 public:
  struct Message {
    std::vector<uint8_t> bytes;
    bool text = false;
  };
  virtual ~Channel() = default;
  /// The handshake is through.
  virtual void opened() {}
  /// A piece of a message, at most kLargestPiece bytes; `last`: of this message. After an error
  /// the client is dropped.
  virtual Result<> received(std::span<const uint8_t> piece, bool last) = 0;
  /// The next message for the client; nothing: there is none now.
  virtual std::optional<Message> next() = 0;
  virtual void woken() {}
};

/// Somebody who waits for a descriptor that is not a client's. On the service's thread.
class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual void readable() = 0;
  virtual void writable() {}
  /// There is nothing to wait for any more.
  virtual void gone() {}
};

/// A watched descriptor; it is closed with this object. On the service's thread.
class Watch {
 public:
  virtual ~Watch() = default;
  virtual void want_writable() = 0;
  /// readable() is not called meanwhile.
  virtual void hold(bool held) = 0;
};

/// What answers. Called on the service's thread.
class Handler {
 public:
  virtual ~Handler() = default;
  virtual Response answer(const Request& request) = 0;
  /// A WebSocket; in its place a status to answer with. `socket` outlives the channel.
  virtual std::expected<std::unique_ptr<Channel>, unsigned> open(const Request& request,
                                                                 Socket& socket) = 0;
};

class HttpService {
 public:
  static constexpr size_t kLargestPiece = 16384;
  /// Clients at a time; one more is turned away.
  static constexpr size_t kMostClients = 48;

  /// `handler` outlives it. `listener`: clients come here; none: by adopt() alone.
  static Result<std::unique_ptr<HttpService>> create(Handler& handler, UniqueFd listener);
  /// Everything that is open is closed.
  ~HttpService();
  HttpService(const HttpService&) = delete;
  HttpService& operator=(const HttpService&) = delete;

  /// Runs `work` on the thread soon. Thread-safe. What has not begun when the service ends is
  /// dropped.
  void post(std::function<void()> work);
  /// The same, and waits for it.
  void run_there(const std::function<void()>& work);

  // On the thread.

  /// nullptr: there is no place for another.
  std::unique_ptr<Watch> watch(UniqueFd fd, Watcher& watcher);
  /// A connected socket as a client.
  void adopt(UniqueFd fd);

 private:
  class Engine;
  explicit HttpService(std::unique_ptr<Engine> engine);
  std::unique_ptr<Engine> engine_;
};

}  // namespace limen::web
