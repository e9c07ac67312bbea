#include "block/raw_image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <span>

#include "base/log.h"
#include "base/nearest.h"
#include "block/image_file.h"

namespace limen::block {
namespace {

constexpr size_t kBounceSize = size_t{1} << 20;
constexpr size_t kLargestAlignment = 4096;

/// In the order of CacheMode.
constexpr std::array<std::string_view, 5> kModeNames = {"writeback", "none", "writethrough",
                                                        "directsync", "unsafe"};

/// In the order of AioMode, from kThreads on.
constexpr std::array<std::string_view, 3> kAioNames = {"threads", "native", "io_uring"};

/// Up to this, a copy out of the page cache is made on the thread that asks, a vCPU's most often:
/// it takes no longer than waking another thread. On an I/O thread there is no limit.
constexpr uint64_t kQuickBytes = uint64_t{64} << 10;

struct FreeBuffer {
  void operator()(std::byte* buffer) const { std::free(buffer); }
};
using AlignedBuffer = std::unique_ptr<std::byte[], FreeBuffer>;

AlignedBuffer aligned_buffer(size_t size) {
  return AlignedBuffer(static_cast<std::byte*>(std::aligned_alloc(kLargestAlignment, size)));
}

uint64_t total(std::span<const iovec> buffers) {
  uint64_t bytes = 0;
  for (const auto& buffer : buffers) bytes += buffer.iov_len;
  return bytes;
}

bool aligned(std::span<const iovec> buffers, size_t alignment) {
  return std::ranges::all_of(buffers, [alignment](const iovec& buffer) {
    return (reinterpret_cast<uintptr_t>(buffer.iov_base) | buffer.iov_len) % alignment == 0;
  });
}

/// preadv or pwritev until all is done. 0 or an errno.
int transfer_all(int fd, bool write, std::vector<iovec> buffers, uint64_t offset) {
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
    // The file became shorter than it was when it was opened.
    if (result == 0) return EIO;
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

/// Copies between a flat buffer and the part of `buffers` that begins `skip` bytes in.
void copy_part(std::span<const iovec> buffers, uint64_t skip, std::span<std::byte> flat,
               bool to_flat) {
  for (const auto& buffer : buffers) {
    if (flat.empty()) return;
    if (skip >= buffer.iov_len) {
      skip -= buffer.iov_len;
      continue;
    }
    auto* const bytes = static_cast<std::byte*>(buffer.iov_base) + skip;
    const size_t size = std::min(flat.size(), buffer.iov_len - static_cast<size_t>(skip));
    if (to_flat)
      std::memcpy(flat.data(), bytes, size);
    else
      std::memcpy(bytes, flat.data(), size);
    flat = flat.subspan(size);
    skip = 0;
  }
}

int allocate(int fd, int mode, uint64_t offset, uint64_t length) {
  while (::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0)
    if (errno != EINTR) return errno;
  return 0;
}

bool unsupported(int error) {
  return error == EOPNOTSUPP || error == ENOSYS || error == ENOTTY || error == EINVAL;
}

/// The smallest power of two from 512 on with which O_DIRECT reads are taken: of offset and length,
/// or of the buffer's address.
size_t probe_alignment(int fd, bool of_memory) {
  const auto buffer = aligned_buffer(4 * kLargestAlignment);
  for (size_t alignment = kSectorSize; alignment < kLargestAlignment; alignment *= 2) {
    const ssize_t result = of_memory ? ::pread(fd, buffer.get() + alignment, kLargestAlignment, 0)
                                     : ::pread(fd, buffer.get(), alignment, 0);
    if (result >= 0) return alignment;
  }
  return kLargestAlignment;
}

}  // namespace

Result<CacheMode> parse_cache_mode(std::string_view text) {
  const auto* const found = std::ranges::find(kModeNames, text);
  if (found == kModeNames.end())
    return fail("unknown cache mode '{}'{}", text, choice_hint(text, kModeNames));
  return static_cast<CacheMode>(found - kModeNames.begin());
}

Result<AioMode> parse_aio_mode(std::string_view text) {
  const auto* const found = std::ranges::find(kAioNames, text);
  if (found == kAioNames.end())
    return fail("unknown aio mode '{}'{}", text, choice_hint(text, kAioNames));
  return static_cast<AioMode>(found - kAioNames.begin() + 1);
}

Result<std::unique_ptr<RawImage>> RawImage::open(const std::string& path,
                                                 const OpenOptions& options) {
  const bool direct = options.cache == CacheMode::kNone || options.cache == CacheMode::kDirectSync;
  const bool synchronous =
      options.cache == CacheMode::kWritethrough || options.cache == CacheMode::kDirectSync;
  if (options.aio == AioMode::kNative && !direct)
    return fail(
        "aio=native was specified, but it requires cache.direct=on, which was not specified "
        "(cache=none and cache=directsync have it)");
  const int flags = (options.read_only ? O_RDONLY : O_RDWR) | (synchronous ? O_DSYNC : 0);
  auto file = LIMEN_TRY(open_image_file(path, flags | (direct ? O_DIRECT : 0)));
  if (file.size % kSectorSize != 0)
    return fail("image '{}' has {} bytes, which is not a multiple of {}: nearest is {}", path,
                file.size, kSectorSize, (file.size + kSectorSize - 1) & ~(kSectorSize - 1));
  if (options.lock)
    LIMEN_TRY(lock_image(file, path, options.read_only ? Access::kRead : Access::kWrite));

  std::unique_ptr<RawImage> image(new RawImage);
  image->path_ = path;
  image->options_ = options;
  image->size_ = file.size;
  image->regular_file_ = file.regular_file;
  image->fd_ = std::move(file.fd);
  if (direct) {
    image->offset_alignment_ = probe_alignment(image->fd_.get(), false);
    image->memory_alignment_ = probe_alignment(image->fd_.get(), true);
    // The same file, whatever its name stands for by now.
    image->cached_fd_.reset(
        ::open(fmt::format("/proc/self/fd/{}", image->fd_.get()).c_str(), flags | O_CLOEXEC));
    if (!image->cached_fd_.valid())
      return fail_errno(errno, fmt::format("opening image '{}' a second time", path));
  }
  image->workers_ = std::make_unique<WorkerPool>(options.threads);
  return image;
}

RawImage::~RawImage() {
  if (owned_ring_ != nullptr) owned_ring_->wait_idle();
  workers_.reset();
  owned_ring_.reset();
}

void RawImage::run_on(LoopThread& thread) { thread_ = &thread; }

void RawImage::set_up_ring() {
  if (options_.aio == AioMode::kThreads) return;
  const auto refuse = [this](const Error& error) {
    if (options_.aio == AioMode::kIoUring || options_.aio == AioMode::kNative)
      log::warning("unable to use Linux io_uring for '{}', falling back to thread pool: {}", path_,
                   error.message);
    own_thread_.reset();
  };
  if (thread_ == nullptr) {
    auto thread = LoopThread::create("disk");
    if (!thread) return refuse(thread.error());
    own_thread_ = std::move(*thread);
  }
  auto ring = UringQueue::create(thread_ != nullptr ? *thread_ : *own_thread_);
  if (!ring) return refuse(ring.error());
  owned_ring_ = std::move(*ring);
  ring_.store(owned_ring_.get(), std::memory_order_release);
}

void RawImage::submit(Request request) {
  using Kind = Request::Kind;
  if (request.kind == Kind::kRead || request.kind == Kind::kWrite) {
    uint64_t length = 0;
    const int error = check(request, length);
    if (error != 0 || length == 0) {
      if (request.done) request.done(error);
      return;
    }
    if (options_.aio != AioMode::kThreads) {
      if (done_at_once(request, length)) {
        if (request.done) request.done(0);
        return;
      }
      if (goes_by_ring(request, length))
        return ring_.load()->submit({.fd = fd_.get(),
                                     .write = request.kind == Kind::kWrite,
                                     .buffers = std::move(request.buffers),
                                     .offset = request.offset,
                                     .done = std::move(request.done)});
    }
  }
  workers_->submit([this, moved = std::move(request)] {
    const int error = perform(moved);
    if (moved.done) moved.done(error);
  });
}

/// Whether the page cache took or gave everything without waiting. Otherwise nothing happened that
/// the whole request, done again, does not do as well.
bool RawImage::done_at_once(Request& request, uint64_t length) {
  const bool write = request.kind == Request::Kind::kWrite;
  auto& works = write ? quick_writes_ : quick_reads_;
  if (direct() || !works || request.buffers.size() > IOV_MAX) return false;
  const bool own = thread_ != nullptr && thread_->is_current();
  // O_DSYNC waits for the disk.
  if ((length > kQuickBytes && !own) || (write && options_.cache == CacheMode::kWritethrough))
    return false;
  const int count = static_cast<int>(request.buffers.size());
  const auto at = static_cast<off_t>(request.offset);
  const ssize_t result = write
                             ? ::pwritev2(fd_.get(), request.buffers.data(), count, at, RWF_NOWAIT)
                             : ::preadv2(fd_.get(), request.buffers.data(), count, at, RWF_NOWAIT);
  if (result < 0 && (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS)) works = false;
  return result >= 0 && static_cast<uint64_t>(result) == length;
}

bool RawImage::goes_by_ring(const Request& request, uint64_t length) {
  // The kernel gives a write into the page cache that may wait to a worker of its own, whose end
  // would then have to be told to this side's: one hop more than with a worker of this side.
  if (!direct() && request.kind == Request::Kind::kWrite) return false;
  // perform() says what is to be done with these.
  if (direct() && ((request.offset | length) % offset_alignment_ != 0 ||
                   !aligned(request.buffers, memory_alignment_)))
    return false;
  std::call_once(ring_asked_, [this] { set_up_ring(); });
  return ring_ != nullptr;
}

Result<> RawImage::drain() {
  // What ends on one of the two may go on on the other.
  UringQueue* ring = nullptr;
  do {
    workers_->wait_idle();
    ring = ring_.load(std::memory_order_acquire);
    if (ring != nullptr) ring->wait_idle();
  } while (!workers_->idle() || (ring != nullptr && !ring->idle()));
  if (const int error = flush(); error != 0)
    return fail_errno(error, fmt::format("flushing image '{}'", path_));
  return {};
}

Result<> RawImage::resize(uint64_t size) {
  if (options_.read_only) return fail("Block node is read-only");
  if (!regular_file_) {
    // It has the size it has; as QEMU, a device may be larger than what is used of it.
    if (size > size_) return fail("Cannot grow device files");
    return {};
  }
  while (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0)
    if (errno != EINTR)
      return fail_errno(errno, fmt::format("resizing image '{}' to {} bytes", path_, size));
  size_ = size;
  return {};
}

/// Whether the request is one that the image can do; `length` in bytes.
int RawImage::check(const Request& request, uint64_t& length) const {
  using Kind = Request::Kind;
  const bool transfers = request.kind == Kind::kRead || request.kind == Kind::kWrite;
  length = transfers ? total(request.buffers) : request.length;
  if (request.offset % kSectorSize != 0 || length % kSectorSize != 0) return EINVAL;
  const uint64_t size = size_;
  if (request.offset > size || length > size - request.offset) return EIO;
  if (request.kind != Kind::kRead && options_.read_only) return EROFS;
  return 0;
}

int RawImage::perform(const Request& request) {
  using Kind = Request::Kind;
  if (request.kind == Kind::kFlush) return flush();
  uint64_t length = 0;
  if (const int error = check(request, length); error != 0) return error;
  if (length == 0) return 0;
  switch (request.kind) {
    case Kind::kRead:
    case Kind::kWrite:
      return transfer(request.kind == Kind::kWrite, request.buffers, request.offset, length);
    case Kind::kDiscard:
      return discard(request.offset, length);
    case Kind::kWriteZeroes:
      return write_zeroes(request.offset, length, request.may_unmap);
    case Kind::kFlush:
      break;
  }
  return EINVAL;
}

int RawImage::transfer(bool write, const std::vector<iovec>& buffers, uint64_t offset,
                       uint64_t length) {
  if (!cached_fd_.valid()) return transfer_all(fd_.get(), write, buffers, offset);
  // A part of a block of the host's disk goes through the page cache. No other request that goes
  // past it touches that block, so the two views cannot overwrite each other.
  if ((offset | length) % offset_alignment_ != 0)
    return transfer_all(cached_fd_.get(), write, buffers, offset);
  if (aligned(buffers, memory_alignment_)) return transfer_all(fd_.get(), write, buffers, offset);
  return transfer_bounced(write, buffers, offset, length);
}

int RawImage::transfer_bounced(bool write, const std::vector<iovec>& buffers, uint64_t offset,
                               uint64_t length) {
  const auto bounce = aligned_buffer(std::min<uint64_t>(
      kBounceSize, (length + kLargestAlignment - 1) & ~uint64_t{kLargestAlignment - 1}));
  if (bounce == nullptr) return ENOMEM;
  for (uint64_t done = 0; done < length;) {
    const auto size = static_cast<size_t>(std::min<uint64_t>(kBounceSize, length - done));
    const std::span flat(bounce.get(), size);
    if (write) copy_part(buffers, done, flat, true);
    if (const int error = transfer_all(fd_.get(), write, {{bounce.get(), size}}, offset + done);
        error != 0)
      return error;
    if (!write) copy_part(buffers, done, flat, false);
    done += size;
  }
  return 0;
}

int RawImage::discard(uint64_t offset, uint64_t length) {
  if (!options_.discard_unmap) return 0;
  int error = 0;
  if (regular_file_) {
    error = allocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
  } else {
    uint64_t range[2] = {offset, length};
    if (::ioctl(fd_.get(), BLKDISCARD, range) != 0) error = errno;
  }
  // Discarding is advice (virtio 1.2 §5.2.6.2): a host that cannot has not failed.
  return unsupported(error) ? 0 : finish_write(error);
}

int RawImage::write_zeroes(uint64_t offset, uint64_t length, bool may_unmap) {
  if (may_unmap && options_.discard_unmap && punch_hole_works_) {
    const int error =
        allocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    if (!unsupported(error)) return finish_write(error);
    punch_hole_works_ = false;
  }
  if (zero_range_works_) {
    const int error =
        allocate(fd_.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
    if (!unsupported(error)) return finish_write(error);
    zero_range_works_ = false;
  }
  const auto size = static_cast<size_t>(std::min<uint64_t>(kBounceSize, length));
  const auto zeroes = aligned_buffer(kBounceSize);
  if (zeroes == nullptr) return ENOMEM;
  std::memset(zeroes.get(), 0, size);
  for (uint64_t done = 0; done < length;) {
    const auto step = std::min<uint64_t>(size, length - done);
    const std::vector<iovec> buffer = {{zeroes.get(), static_cast<size_t>(step)}};
    if (const int error = transfer(true, buffer, offset + done, step); error != 0) return error;
    done += step;
  }
  return 0;
}

int RawImage::finish_write(int error) {
  // O_DSYNC covers write(2), not fallocate(2).
  const bool synchronous =
      options_.cache == CacheMode::kWritethrough || options_.cache == CacheMode::kDirectSync;
  return error == 0 && synchronous ? flush() : error;
}

int RawImage::flush() {
  if (options_.read_only || options_.cache == CacheMode::kUnsafe) return 0;
  // The kernel reports a failed write-back once and then forgets the pages: what was lost stays
  // lost, and no later flush may claim otherwise (fsync(2), "ERRORS").
  if (write_back_failed_) return EIO;
  while (::fdatasync(fd_.get()) != 0) {
    if (errno == EINTR) continue;
    const int error = errno;
    write_back_failed_ = true;
    return error;
  }
  return 0;
}

}  // namespace limen::block
