// Character back ends that need no event loop: nowhere, and a file.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "device/character_backend.h"

namespace limen::device {

/// Takes everything, gives nothing.
class NullBackend final : public CharacterBackend {
 public:
  void write(std::span<const uint8_t>) override {}
  [[nodiscard]] std::string filename() const override { return "null"; }
};

/// What the guest writes goes to a file, which is made anew unless it is to be appended to.
class FileBackend final : public CharacterBackend {
 public:
  /// Errors name the path.
  static Result<std::unique_ptr<FileBackend>> create(const std::string& path, bool append = false);
  void write(std::span<const uint8_t> bytes) override;
  [[nodiscard]] std::string filename() const override { return "file"; }

 private:
  explicit FileBackend(UniqueFd fd, std::string path);
  std::mutex mutex_;
  UniqueFd fd_;
  const std::string path_;
  bool failed_ = false;  // guarded by mutex_
};

}  // namespace limen::device
