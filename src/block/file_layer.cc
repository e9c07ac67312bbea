#include "block/file_layer.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "block/buffers.h"

namespace limen::block {
namespace {

constexpr uint64_t kDirectAlignment = 4096;
constexpr uint64_t kZeroPiece = uint64_t{1} << 20;

bool unsupported(int error) {
  return error == EOPNOTSUPP || error == ENOSYS || error == ENOTTY || error == EINVAL;
}

int allocate(int fd, int mode, uint64_t offset, uint64_t length) {
  while (::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0)
    if (errno != EINTR) return errno;
  return 0;
}

bool aligned_for_direct(uint64_t offset, std::span<const iovec> buffers) {
  return offset % kDirectAlignment == 0 && std::ranges::all_of(buffers, [](const iovec& buffer) {
           return (reinterpret_cast<uintptr_t>(buffer.iov_base) | buffer.iov_len) %
                      kDirectAlignment ==
                  0;
         });
}

}  // namespace

Result<std::unique_ptr<FileLayer>> FileLayer::open(const std::string& path,
                                                   const OpenOptions& options) {
  const bool direct = options.cache == CacheMode::kNone || options.cache == CacheMode::kDirectSync;
  const bool synchronous =
      options.cache == CacheMode::kWritethrough || options.cache == CacheMode::kDirectSync;
  const int flags = (options.read_only ? O_RDONLY : O_RDWR) | (synchronous ? O_DSYNC : 0);
  auto file = LIMEN_TRY(open_image_file(path, flags));
  if (options.lock)
    LIMEN_TRY(lock_image(file, path, options.read_only ? Access::kRead : Access::kWrite));
  std::unique_ptr<FileLayer> layer(new FileLayer);
  layer->path_ = path;
  layer->options_ = options;
  layer->regular_file_ = file.regular_file;
  layer->capacity_ = file.size;
  layer->fd_ = std::move(file.fd);
  if (direct) {
    // The same file, whatever its name stands for by now.
    const auto self = fmt::format("/proc/self/fd/{}", layer->fd_.get());
    layer->direct_fd_.reset(::open(self.c_str(), flags | O_DIRECT | O_CLOEXEC));
    if (!layer->direct_fd_.valid()) {
      if (errno == EINVAL)
        return fail(
            "image '{}' cannot be opened with O_DIRECT: its file system refuses (use "
            "cache=writeback or cache=writethrough)",
            path);
      return fail_errno(errno, fmt::format("opening image '{}' with O_DIRECT", path));
    }
  }
  return layer;
}

uint64_t FileLayer::file_size() const {
  if (!regular_file_) return capacity_;
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) return 0;
  return static_cast<uint64_t>(status.st_size);
}

uint64_t FileLayer::allocated_bytes() const {
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) return 0;
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

uint64_t FileLayer::size() const { return (file_size() + kSectorSize - 1) & ~(kSectorSize - 1); }

int FileLayer::transfer(bool write, uint64_t offset, std::span<const iovec> wanted) {
  const bool direct = direct_fd_.valid() && aligned_for_direct(offset, wanted);
  const int fd = direct ? direct_fd_.get() : fd_.get();
  std::vector<iovec> buffers(wanted.begin(), wanted.end());
  size_t first = 0;
  while (true) {
    while (first < buffers.size() && buffers[first].iov_len == 0) ++first;
    if (first == buffers.size()) return 0;
    const int count = static_cast<int>(std::min<size_t>(buffers.size() - first, IOV_MAX));
    const auto at = static_cast<off_t>(offset);
    const ssize_t result = write ? ::pwritev(fd, &buffers[first], count, at)
                                 : ::preadv(fd, &buffers[first], count, at);
    if (result < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    if (result == 0) {
      if (write) return ENOSPC;
      fill_zero(std::span(buffers).subspan(first), 0, UINT64_MAX);
      return 0;
    }
    offset += static_cast<uint64_t>(result);
    for (auto left = static_cast<size_t>(result); left > 0;) {
      auto& buffer = buffers[first];
      const size_t step = std::min(left, buffer.iov_len);
      buffer.iov_base = static_cast<std::byte*>(buffer.iov_base) + step;
      buffer.iov_len -= step;
      left -= step;
      if (buffer.iov_len == 0) ++first;
    }
  }
}

int FileLayer::read(uint64_t offset, std::span<const iovec> buffers) {
  return transfer(false, offset, buffers);
}

int FileLayer::write(uint64_t offset, std::span<const iovec> buffers) {
  return transfer(true, offset, buffers);
}

int FileLayer::read_bytes(uint64_t offset, std::span<std::byte> bytes) {
  const iovec buffer = buffer_over(bytes);
  return transfer(false, offset, {&buffer, 1});
}

int FileLayer::write_bytes(uint64_t offset, std::span<const std::byte> bytes) {
  const iovec buffer = {const_cast<std::byte*>(bytes.data()), bytes.size()};
  return transfer(true, offset, {&buffer, 1});
}

int FileLayer::synchronous_end(int error) {
  // O_DSYNC covers write(2), not fallocate(2).
  const bool synchronous =
      options_.cache == CacheMode::kWritethrough || options_.cache == CacheMode::kDirectSync;
  return error == 0 && synchronous ? flush() : error;
}

int FileLayer::write_zeroes(uint64_t offset, uint64_t length, bool may_unmap) {
  // A hole is zeroes only within the file; beyond its end the size would stay as it is.
  const bool inside = !regular_file_ || offset + length <= file_size();
  if (may_unmap && punch_hole_works_ && inside) {
    const int error =
        allocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    if (!unsupported(error)) return synchronous_end(error);
    punch_hole_works_ = false;
  }
  if (zero_range_works_) {
    const int error = allocate(fd_.get(), FALLOC_FL_ZERO_RANGE, offset, length);
    if (!unsupported(error)) return synchronous_end(error);
    zero_range_works_ = false;
  }
  const auto zeroes = aligned_memory(std::min(length, kZeroPiece));
  if (zeroes == nullptr) return ENOMEM;
  std::memset(zeroes.get(), 0, static_cast<size_t>(std::min(length, kZeroPiece)));
  for (uint64_t done = 0; done < length;) {
    const auto step = std::min(kZeroPiece, length - done);
    if (const int error = write_bytes(offset + done, {zeroes.get(), static_cast<size_t>(step)});
        error != 0)
      return error;
    done += step;
  }
  return 0;
}

int FileLayer::discard(uint64_t offset, uint64_t length) {
  if (!options_.discard_unmap) return 0;
  int error = 0;
  if (regular_file_) {
    error = allocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  } else {
    uint64_t range[2] = {offset, length};
    if (::ioctl(fd_.get(), BLKDISCARD, range) != 0) error = errno;
  }
  return unsupported(error) ? 0 : synchronous_end(error);
}

int FileLayer::flush() {
  if (options_.read_only || options_.cache == CacheMode::kUnsafe) return 0;
  // A failed write-back is reported once and what was lost stays lost (fsync(2), "ERRORS").
  if (write_back_failed_) return EIO;
  while (::fdatasync(fd_.get()) != 0) {
    if (errno == EINTR) continue;
    const int error = errno;
    write_back_failed_ = true;
    return error;
  }
  return 0;
}

int FileLayer::truncate(uint64_t size) {
  if (!regular_file_) return size <= capacity_ ? 0 : ENOSPC;
  while (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0)
    if (errno != EINTR) return errno;
  return 0;
}

int FileLayer::preallocate(uint64_t offset, uint64_t length) {
  if (!regular_file_ || length == 0) return 0;
  return allocate(fd_.get(), 0, offset, length);
}

Result<Extent> FileLayer::extent(uint64_t offset, uint64_t length) {
  Extent found{.length = length, .present = true, .data = true, .host_offset = offset};
  if (!regular_file_ || !seek_works_) return found;
  const auto at = static_cast<off_t>(offset);
  const off_t data = ::lseek(fd_.get(), at, SEEK_DATA);
  if (data < 0 && errno != ENXIO) {
    seek_works_ = false;
    return found;
  }
  if (data == at) {
    const off_t hole = ::lseek(fd_.get(), at, SEEK_HOLE);
    if (hole > at) found.length = std::min(length, static_cast<uint64_t>(hole - at));
    return found;
  }
  found.data = false;
  found.zero = true;
  if (data > at) found.length = std::min(length, static_cast<uint64_t>(data - at));
  return found;
}

}  // namespace limen::block
