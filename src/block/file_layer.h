// A file or block device read and written with calls that block: the raw layer of a backing chain,
// and what lies under an image format.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "block/image_file.h"
#include "block/layer.h"
#include "block/raw_image.h"

namespace limen::block {

class FileLayer final : public Layer {
 public:
  /// `options.cache` and `options.lock` as RawImage::open takes them.
  static Result<std::unique_ptr<FileLayer>> open(const std::string& path,
                                                 const OpenOptions& options);

  [[nodiscard]] uint64_t size() const override;  ///< In whole sectors, as a disk.
  [[nodiscard]] bool read_only() const override { return options_.read_only; }
  [[nodiscard]] const std::string& path() const override { return path_; }
  [[nodiscard]] std::string format() const override { return "raw"; }
  /// What lies beyond the end of the file reads as zeroes.
  [[nodiscard]] int read(uint64_t offset, std::span<const iovec> buffers) override;
  /// Beyond the end: the file grows.
  [[nodiscard]] int write(uint64_t offset, std::span<const iovec> buffers) override;
  [[nodiscard]] int write_zeroes(uint64_t offset, uint64_t length, bool may_unmap) override;
  [[nodiscard]] int discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] int flush() override;
  [[nodiscard]] Result<Extent> extent(uint64_t offset, uint64_t length) override;

  [[nodiscard]] int read_bytes(uint64_t offset, std::span<std::byte> bytes);
  [[nodiscard]] int write_bytes(uint64_t offset, std::span<const std::byte> bytes);
  /// ftruncate; nothing when it is a block device that is large enough.
  [[nodiscard]] int truncate(uint64_t size);
  /// Takes room on the file system: FALLOC_FL_KEEP_SIZE is not set.
  [[nodiscard]] int preallocate(uint64_t offset, uint64_t length);
  /// The file's length now, in bytes.
  [[nodiscard]] uint64_t file_size() const;
  [[nodiscard]] uint64_t allocated_bytes() const;
  [[nodiscard]] bool regular_file() const { return regular_file_; }

 private:
  FileLayer() = default;
  [[nodiscard]] int transfer(bool write, uint64_t offset, std::span<const iovec> buffers);
  [[nodiscard]] int synchronous_end(int error);

  std::string path_;
  OpenOptions options_;
  UniqueFd fd_;
  UniqueFd direct_fd_;     ///< With O_DIRECT only: the same file past the page cache.
  uint64_t capacity_ = 0;  ///< Of a block device.
  bool regular_file_ = true;
  std::atomic<bool> zero_range_works_ = true;
  std::atomic<bool> punch_hole_works_ = true;
  std::atomic<bool> seek_works_ = true;
  std::atomic<bool> write_back_failed_ = false;
};

}  // namespace limen::block
