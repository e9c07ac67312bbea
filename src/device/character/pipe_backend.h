// Named pipes as a character back end.
#pragma once

#include <memory>
#include <string>

#include "device/character/stream_backend.h"

namespace limen::device {

/// PATH.in is read and PATH.out written if both are there, else PATH is both.
class PipeBackend final : public StreamBackend {
 public:
  static Result<std::unique_ptr<PipeBackend>> create(EventLoop& loop, const std::string& path);
  [[nodiscard]] std::string filename() const override { return "pipe"; }

 private:
  explicit PipeBackend(EventLoop& loop) : StreamBackend(loop) {}
  void peer_gone() override {}
};

}  // namespace limen::device
