// A folder for a test's files, and a request that waits.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <vector>

#include "block/block_device.h"

namespace limen::block {

class ScratchFolder {
 public:
  /// Below `parent`, or in the build folder: /tmp may be a tmpfs, which has no O_DIRECT.
  explicit ScratchFolder(const std::string& parent = ".") {
    std::string pattern = parent + "/limen-block-XXXXXX";
    if (::mkdtemp(pattern.data()) != nullptr) path_ = std::filesystem::canonical(pattern);
  }
  ~ScratchFolder() {
    if (!path_.empty()) std::filesystem::remove_all(path_);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  [[nodiscard]] std::string path(const std::string& name) const { return path_ / name; }
  /// A sparse file.
  std::string image(const std::string& name, uint64_t size) const {
    std::string where = path(name);
    std::ofstream(where, std::ios::binary).close();
    std::filesystem::resize_file(where, size);
    return where;
  }

 private:
  std::filesystem::path path_;
};

/// Runs a request and waits for its error.
inline int run(BlockDevice& device, Request request) {
  std::promise<int> promise;
  auto error = promise.get_future();
  request.done = [&promise](int result) { promise.set_value(result); };
  device.submit(std::move(request));
  return error.get();
}

inline iovec buffer_of(std::vector<uint8_t>& bytes) { return {bytes.data(), bytes.size()}; }

inline int write_at(BlockDevice& device, uint64_t offset, std::vector<uint8_t> bytes) {
  return run(device,
             {.kind = Request::Kind::kWrite, .offset = offset, .buffers = {buffer_of(bytes)}});
}

inline std::vector<uint8_t> read_at(BlockDevice& device, uint64_t offset, size_t size) {
  std::vector<uint8_t> bytes(size, 0xEE);
  EXPECT_EQ(run(device,
                {
                    .kind = Request::Kind::kRead,
                    .offset = offset,
                    .buffers = {buffer_of(bytes)},
                }),
            0);
  return bytes;
}

inline uint64_t allocated(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

}  // namespace limen::block
