#include "block/filters/temporary_overlay.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "block/image_file.h"
#include "block/raw_image.h"

namespace limen::block {
namespace {

/// The part of `buffers` that holds bytes [skip, skip + count).
std::vector<iovec> cut(const std::vector<iovec>& buffers, uint64_t skip, uint64_t count) {
  std::vector<iovec> parts;
  for (const iovec& buffer : buffers) {
    if (count == 0) break;
    if (skip >= buffer.iov_len) {
      skip -= buffer.iov_len;
      continue;
    }
    const uint64_t length = std::min<uint64_t>(buffer.iov_len - skip, count);
    parts.push_back({static_cast<std::byte*>(buffer.iov_base) + skip, length});
    count -= length;
    skip = 0;
  }
  return parts;
}

}  // namespace

Result<std::unique_ptr<TemporaryOverlay>> TemporaryOverlay::create(
    std::unique_ptr<BlockDevice> below) {
  const char* folder = std::getenv("TMPDIR");
  std::string path = (folder != nullptr && *folder != 0 ? folder : "/var/tmp");
  path += "/limen-snapshot-XXXXXX";
  const UniqueFd fd(::mkostemp(path.data(), O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, fmt::format("making temporary file '{}'", path));
  struct Remover {
    const std::string& name;
    ~Remover() { ::unlink(name.c_str()); }
  } const remover{path};
  const uint64_t size = (below->size() + kSectorSize - 1) / kSectorSize * kSectorSize;
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0)
    return fail_errno(errno, fmt::format("sizing temporary file '{}'", path));
  // Nobody will read it after this process, so nothing has to reach the disk.
  auto file = LIMEN_TRY(RawImage::open(path, {.cache = CacheMode::kUnsafe, .lock = false}));
  return std::unique_ptr<TemporaryOverlay>(new TemporaryOverlay(std::move(below), std::move(file)));
}

TemporaryOverlay::TemporaryOverlay(std::unique_ptr<BlockDevice> below,
                                   std::unique_ptr<BlockDevice> file)
    : Filter(std::move(below)), file_(std::move(file)) {
  map_ = std::vector<std::atomic<Part*>>(file_->size() / kSectorSize / kSectorsPerPart + 1);
}

void TemporaryOverlay::submit(Request request) {
  using Kind = Request::Kind;
  uint64_t length = request.length;
  if (request.kind == Kind::kWrite) {
    length = 0;
    for (const iovec& buffer : request.buffers) length += buffer.iov_len;
  }
  switch (request.kind) {
    case Kind::kFlush:
      return request.done(0);
    case Kind::kRead:
      return read(std::move(request));
    case Kind::kDiscard:
      // Gone from the guest's sight; what the disk below has must not come back.
      request.kind = Kind::kWriteZeroes;
      request.may_unmap = true;
      break;
    default:
      break;
  }
  request.done = [this, offset = request.offset, length,
                  done = std::move(request.done)](int error) {
    if (error == 0) mark_written(offset, length);
    done(error);
  };
  file_->submit(std::move(request));
}

void TemporaryOverlay::read(Request request) {
  uint64_t length = 0;
  for (const iovec& buffer : request.buffers) length += buffer.iov_len;
  if (request.offset > size() || length > size() - request.offset) return request.done(EIO);
  struct Shared {
    std::function<void(int)> done;
    std::atomic<size_t> left = 1;
    std::atomic<int> error = 0;
    void part_done(int result) {
      int none = 0;
      if (result != 0) error.compare_exchange_strong(none, result);
      if (--left == 0) done(error);
    }
  };
  const auto shared = std::make_shared<Shared>();
  shared->done = std::move(request.done);
  for (uint64_t at = 0; at < length;) {
    uint64_t run = length - at;
    BlockDevice& from = written(request.offset + at, run) ? *file_ : below();
    Request part{.kind = Request::Kind::kRead, .offset = request.offset + at, .length = run};
    part.buffers = cut(request.buffers, at, run);
    part.done = [shared](int error) { shared->part_done(error); };
    ++shared->left;
    from.submit(std::move(part));
    at += run;
  }
  shared->part_done(0);
}

void TemporaryOverlay::mark_written(uint64_t offset, uint64_t length) {
  const uint64_t first = offset / kSectorSize, end = (offset + length) / kSectorSize;
  for (uint64_t sector = first; sector < end;) {
    auto& slot = map_[sector / kSectorsPerPart];
    Part* part = slot.load(std::memory_order_acquire);
    if (part == nullptr) {
      const std::lock_guard lock(mutex_);
      part = slot.load(std::memory_order_acquire);
      if (part == nullptr) {
        parts_.push_back(std::make_unique<Part>());
        part = parts_.back().get();
        slot.store(part, std::memory_order_release);
      }
    }
    const uint64_t within = sector % kSectorsPerPart, bit = within % 64;
    const uint64_t count = std::min(64 - bit, end - sector);
    const uint64_t mask = (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << bit;
    part->words[within / 64].fetch_or(mask, std::memory_order_release);
    sector += count;
  }
}

bool TemporaryOverlay::written(uint64_t offset, uint64_t& length) const {
  const auto at = [this](uint64_t sector) {
    const Part* part = map_[sector / kSectorsPerPart].load(std::memory_order_acquire);
    if (part == nullptr) return false;
    const uint64_t within = sector % kSectorsPerPart;
    return (part->words[within / 64].load(std::memory_order_acquire) >> (within % 64) & 1) != 0;
  };
  const uint64_t first = offset / kSectorSize, end = (offset + length) / kSectorSize;
  const bool is_written = at(first);
  uint64_t sector = first + 1;
  while (sector < end && at(sector) == is_written) ++sector;
  // A disk whose end is not that of a sector has its last part below.
  if (sector < end) length = sector * kSectorSize - offset;
  return is_written;
}

Result<> TemporaryOverlay::drain() {
  LIMEN_TRY(file_->drain());
  return Filter::drain();
}

void TemporaryOverlay::run_on(LoopThread& thread) {
  file_->run_on(thread);
  Filter::run_on(thread);
}

}  // namespace limen::block
