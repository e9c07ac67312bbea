#include "web/lws_entries.h"

namespace limen::web {

WatchEntry::~WatchEntry() {
  if (watch != nullptr) watch->forget_entry();
  if (watcher != nullptr) watcher->gone();
}

OpenWatch::OpenWatch(WatchEntry* entry) : entry_(entry) { entry_->watch = this; }

OpenWatch::~OpenWatch() {
  if (entry_ == nullptr) return;
  entry_->watcher = nullptr;
  entry_->watch = nullptr;
  lws_set_timeout(entry_->wsi, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_ASYNC);
}

void OpenWatch::want_writable() {
  if (entry_ != nullptr) lws_callback_on_writable(entry_->wsi);
}

void OpenWatch::hold(bool held) {
  if (entry_ != nullptr) lws_rx_flow_control(entry_->wsi, held ? 0 : 1);
}

void ClientEntry::close() {
  lws_set_timeout(wsi, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_ASYNC);
}

}  // namespace limen::web
