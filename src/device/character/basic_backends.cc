#include "device/character/basic_backends.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "base/fd_sets.h"
#include "base/log.h"

namespace limen::device {

FileBackend::FileBackend(UniqueFd fd, std::string path)
    : fd_(std::move(fd)), path_(std::move(path)) {}

Result<std::unique_ptr<FileBackend>> FileBackend::create(const std::string& path, bool append) {
  UniqueFd fd = open_file(path, O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC), 0666);
  if (!fd.valid()) return fail_errno(errno, fmt::format("opening {} for a serial port", path));
  return std::unique_ptr<FileBackend>(new FileBackend(std::move(fd), path));
}

void FileBackend::write(std::span<const uint8_t> bytes) {
  const std::lock_guard lock(mutex_);
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd_.get(), bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      // Said once: a full disk would otherwise bring a line for every byte.
      if (!failed_) log::warning("writing {}: {}; output is lost", path_, std::strerror(errno));
      failed_ = true;
      return;
    }
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  failed_ = false;
}

}  // namespace limen::device
