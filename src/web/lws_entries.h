// What is kept at each of libwebsockets' objects ("wsi"): a client, or a watched descriptor.
#pragma once

#include <libwebsockets.h>

#include <chrono>
#include <cstddef>
#include <memory>

#include "web/http_service.h"

namespace limen::web {

/// The object's "opaque user data"; it ends with the object.
struct Entry {
  Entry() = default;
  virtual ~Entry() = default;
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;
  lws* wsi = nullptr;
};

class OpenWatch;

struct WatchEntry final : Entry {
  ~WatchEntry() override;
  Watcher* watcher = nullptr;  ///< Null, as `watch`: nobody waits any more.
  OpenWatch* watch = nullptr;
};

class OpenWatch final : public Watch {
 public:
  explicit OpenWatch(WatchEntry* entry);
  ~OpenWatch() override;
  OpenWatch(const OpenWatch&) = delete;
  OpenWatch& operator=(const OpenWatch&) = delete;
  void want_writable() override;
  void hold(bool held) override;
  void forget_entry() { entry_ = nullptr; }

 private:
  WatchEntry* entry_;
};

struct ClientEntry final : Entry, Socket {
  void want_write() override { lws_callback_on_writable(wsi); }
  void hold(bool held) override { lws_rx_flow_control(wsi, held ? 0 : 1); }
  void wake_after(std::chrono::milliseconds time) override {
    lws_set_timer_usecs(wsi, std::chrono::microseconds(time).count());
  }
  void close() override;

  std::unique_ptr<Channel> channel = {};
  Response response = {};
  size_t sent = 0;  ///< Of the answer's content.
};

}  // namespace limen::web
