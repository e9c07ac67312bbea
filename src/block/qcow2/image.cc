#include "block/qcow2/image.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/delayed_library.h"
#include "base/log.h"
#include "block/qcow2/check.h"

namespace limen::block::qcow2 {
namespace {

constexpr uint64_t kHeaderRead = uint64_t{64} << 10;

}  // namespace

Result<Header> Image::read_header(FileLayer& file) {
  std::vector<std::byte> start(std::min(kHeaderRead, file.file_size()));
  if (const int error = file.read_bytes(0, start); error != 0)
    return fail_errno(error, fmt::format("reading the header of image '{}'", file.path()));
  return parse_header(start, file.path());
}

Image::Image(std::unique_ptr<FileLayer> file, std::unique_ptr<FileLayer> data, Header header,
             const ImageOptions& options)
    : file_(std::move(file)),
      data_file_(std::move(data)),
      data_(data_file_ != nullptr ? *data_file_ : *file_),
      options_(options),
      header_(std::move(header)),
      cluster_size_(header_.cluster_size()),
      subcluster_size_(header_.subcluster_size()),
      slice_size_(std::min<uint64_t>(cluster_size_, 4096)),
      size_(header_.size),
      refcounts_(*file_, header_, options.refcount_cache_bytes,
                 [this](const std::string& message) { return mark_corrupt(message); }),
      l2_cache_(*file_, slice_size_, std::max<size_t>(options.l2_cache_bytes / slice_size_, 16)) {}

Image::~Image() {
  if (const auto closed = close(); !closed) log::error("{}", closed.error().message);
}

Result<std::unique_ptr<Image>> Image::open(std::unique_ptr<FileLayer> file,
                                           std::unique_ptr<FileLayer> data,
                                           const ImageOptions& options) {
  auto header = LIMEN_TRY(read_header(*file));
  const auto path = file->path();
  if (header.has_data_file() && data == nullptr)
    return fail("image '{}': its external data file '{}' is not open", path, header.data_file);
  if ((header.incompatible & kCorrupt) != 0 && !options.read_only && !options.check_only)
    return fail("qcow2: Image '{}' is corrupt; cannot be opened read/write", path);
  LIMEN_TRY(load_library(header.compression == Compression::kZstd ? LIMEN_ZSTD_LIBRARY
                                                                  : LIMEN_Z_LIBRARY));
  std::unique_ptr<Image> image(
      new Image(std::move(file), std::move(data), std::move(header), options));
  image->closed_ = true;  // nothing to write until it is whole
  LIMEN_TRY(image->load());
  if (options.read_only || options.check_only) return image;
  if (image->dirty()) {
    // The refcounts were not all written.
    log::info("image '{}' was not closed properly: rebuilding its refcounts", path);
    LIMEN_TRY(repair(*image));
  }
  // What is not known, and what is not kept up to date.
  const uint64_t kept = image->header_.autoclear & kDataFileRaw;
  if (image->header_.version >= 3 && kept != image->header_.autoclear) {
    image->header_.autoclear = kept;
    std::byte field[8];
    store_big(field, kept);
    if (const int error = image->file_->write_bytes(88, field); error != 0)
      return fail_errno(error, fmt::format("writing the header of image '{}'", path));
  }
  image->closed_ = false;
  return image;
}

Result<> Image::load() {
  LIMEN_TRY(load_l1());
  if (const int error = refcounts_.load(); error != 0)
    return fail_errno(error, fmt::format("reading the refcount table of image '{}'", path()));
  snapshots_.clear();
  snapshots_bytes_ = 0;
  if (header_.snapshot_count != 0) {
    // An entry has at most 40 + 1024 + 2 * 65535 bytes; most have far less.
    const uint64_t most = std::min<uint64_t>(
        uint64_t{header_.snapshot_count} * 132'200,
        file_->file_size() - std::min(file_->file_size(), header_.snapshots_offset));
    std::vector<std::byte> bytes(std::min<uint64_t>(most, uint64_t{64} << 20));
    if (const int error = file_->read_bytes(header_.snapshots_offset, bytes); error != 0)
      return fail_errno(error, fmt::format("reading the snapshot table of image '{}'", path()));
    snapshots_ = LIMEN_TRY(
        parse_snapshots(bytes, header_.snapshot_count, header_, path(), snapshots_bytes_));
  }
  return {};
}

Result<> Image::load_l1() {
  l1_ = LIMEN_TRY(read_l1(header_.l1_offset, header_.l1_size));
  dirty_l1_.clear();
  l2_cache_.clear();
  known_file_size_ = file_->file_size();
  note_metadata();
  return {};
}

void Image::note_metadata() {
  l2_clusters_.clear();
  for (const uint64_t entry : l1_)
    if ((entry & kOffsetMask) != 0) l2_clusters_.insert((entry & kOffsetMask) / cluster_size_);
}

Result<std::vector<uint64_t>> Image::read_l1(uint64_t offset, uint64_t entries) {
  std::vector<std::byte> raw(entries * 8);
  if (const int error = file_->read_bytes(offset, raw); error != 0)
    return fail_errno(error,
                      fmt::format("reading the L1 table of image '{}' at {:#x}", path(), offset));
  std::vector<uint64_t> l1(entries);
  for (size_t i = 0; i < l1.size(); ++i) l1[i] = load_big<uint64_t>(&raw[8 * i]);
  return l1;
}

Result<> Image::change_backing(const std::string& file, const std::string& format) {
  LIMEN_TRY(close());
  closed_ = false;
  auto changed = header_;
  changed.backing_file = file;
  changed.backing_format = format;
  const auto bytes = LIMEN_TRY(serialize_header(changed));
  int error = file_->write_bytes(0, bytes);
  if (error == 0) error = file_->flush();
  if (error != 0) return fail_errno(error, fmt::format("writing the header of image '{}'", path()));
  header_ = std::move(changed);
  return {};
}

}  // namespace limen::block::qcow2
