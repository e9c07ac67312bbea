#include "block/filters/error_policy.h"

#include <algorithm>
#include <array>
#include <cerrno>

namespace limen::block {
namespace {

/// In the order of ErrorAction.
constexpr std::array<std::string_view, 4> kNames = {"report", "ignore", "stop", "enospc"};

bool no_space(int error) { return error == ENOSPC || error == EDQUOT; }

}  // namespace

std::optional<ErrorAction> parse_error_action(std::string_view text) {
  const auto* const found = std::ranges::find(kNames, text);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<ErrorAction>(found - kNames.begin());
}

std::string_view error_action_name(ErrorAction action) {
  return kNames[static_cast<size_t>(action)];
}

ErrorPolicy::ErrorPolicy(std::unique_ptr<BlockDevice> below, ErrorAction on_read,
                         ErrorAction on_write, std::function<void(const IoError&)> failed)
    : Filter(std::move(below)),
      on_read_(on_read),
      on_write_(on_write),
      failed_(std::move(failed)) {}

void ErrorPolicy::submit(Request request) {
  const ErrorAction action = request.kind == Request::Kind::kRead ? on_read_ : on_write_;
  if (action == ErrorAction::kReport || action == ErrorAction::kIgnore) {
    // Never made again, so nothing of it but its end is kept.
    request.done = [this, kind = request.kind, done = std::move(request.done)](int error) {
      if (error == 0) return done(0);
      ended({.kind = kind, .done = done}, error);
    };
    return below().submit(std::move(request));
  }
  // A copy, since whoever does the request may use it up: a shared one, for `done` to find.
  auto kept = std::make_shared<Request>(request);
  request.done = [this, kept](int error) {
    if (error == 0) return kept->done(0);
    ended(std::move(*kept), error);
  };
  below().submit(std::move(request));
}

void ErrorPolicy::ended(Request request, int error) {
  const bool write = request.kind != Request::Kind::kRead;
  ErrorAction action = write ? on_write_ : on_read_;
  if (action == ErrorAction::kEnospc)
    action = no_space(error) ? ErrorAction::kStop : ErrorAction::kReport;
  // Errors of the request, not of the host: trying again would change nothing.
  if (error == EINVAL || error == EROFS || error == ENOTSUP) return request.done(error);
  const auto tell = [&] {
    if (failed_) failed_({write, no_space(error), action, error});
  };
  if (action == ErrorAction::kStop) {
    std::unique_lock lock(mutex_);
    if (giving_up_ == 0) {
      held_.emplace_back(std::move(request), error);
      lock.unlock();
      return tell();
    }
    action = ErrorAction::kReport;
  }
  tell();
  request.done(action == ErrorAction::kIgnore ? 0 : error);
}

void ErrorPolicy::retry() {
  std::vector<std::pair<Request, int>> again;
  {
    const std::lock_guard lock(mutex_);
    again.swap(held_);
  }
  for (auto& [request, error] : again) submit(std::move(request));
}

size_t ErrorPolicy::held() {
  const std::lock_guard lock(mutex_);
  return held_.size();
}

int ErrorPolicy::held_error() {
  const std::lock_guard lock(mutex_);
  return held_.empty() ? 0 : held_.front().second;
}

void ErrorPolicy::give_up_held(bool on) {
  std::vector<std::pair<Request, int>> given_up;
  {
    const std::lock_guard lock(mutex_);
    giving_up_ += on ? 1 : -1;
    if (on) given_up.swap(held_);
  }
  Filter::give_up_held(on);
  for (auto& [request, error] : given_up) request.done(error);
}

Result<> ErrorPolicy::drain() { return Filter::drain(); }

}  // namespace limen::block
