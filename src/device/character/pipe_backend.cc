#include "device/character/pipe_backend.h"

#include <fcntl.h>

#include <cerrno>

namespace limen::device {
namespace {

/// Open for both ways, a pipe never ends and opening it never waits.
UniqueFd open_pipe(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
}

}  // namespace

Result<std::unique_ptr<PipeBackend>> PipeBackend::create(EventLoop& loop, const std::string& path) {
  UniqueFd input = open_pipe(path + ".in");
  UniqueFd output = open_pipe(path + ".out");
  if (!input.valid() || !output.valid()) {
    input = open_pipe(path);
    if (!input.valid()) return fail_errno(errno, fmt::format("opening the pipe {}", path));
    output.reset(::fcntl(input.get(), F_DUPFD_CLOEXEC, 3));
  }
  std::unique_ptr<PipeBackend> backend(new PipeBackend(loop));
  LIMEN_TRY(backend->connect_peer(std::move(input), std::move(output)));
  return backend;
}

}  // namespace limen::device
