// A pseudo-terminal as a character back end.
#pragma once

#include <memory>
#include <string>

#include "device/character/stream_backend.h"

namespace limen::device {

/// The master's side of a new pseudo-terminal. Whoever opens the other side is the peer.
class PtyBackend final : public StreamBackend {
 public:
  static Result<std::unique_ptr<PtyBackend>> create(EventLoop& loop);
  ~PtyBackend() override;

  /// "/dev/pts/3".
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string filename() const override { return "pty:" + path_; }

 private:
  explicit PtyBackend(EventLoop& loop) : StreamBackend(loop), check_(loop, [this] { look(); }) {}
  Result<> open();
  /// Whether the other side is open; connects if it is.
  void look();
  void peer_gone() override;
  void schedule_look();

  UniqueFd master_;
  UniqueFd opened_;  ///< An inotify descriptor: told when someone opens the path.
  std::string path_;
  Timer check_;  ///< Where there is no inotify.
};

}  // namespace limen::device
