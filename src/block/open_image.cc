#include "block/open_image.h"

#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/log.h"
#include "block/layer_device.h"
#include "block/probe.h"

namespace limen::block {
namespace {

void warn_of_guess(const std::string& path) {
  log::warning(
      "Image format was not specified for '{}' and probing guessed raw. Automatically detecting "
      "the "
      "format is dangerous for raw images. Specify the 'raw' format explicitly to remove this "
      "warning",
      path);
}

/// A file, whatever its name.
struct FileIdentity {
  dev_t device = 0;
  ino_t number = 0;
  bool operator==(const FileIdentity&) const = default;
};

Result<FileIdentity> identity_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0)
    return fail_errno(errno, fmt::format("could not open '{}'", path));
  return FileIdentity{status.st_dev, status.st_ino};
}

OpenOptions file_options(const LayerOptions& options) {
  auto file = options.file;
  // LayerDevice flushes after each write; the metadata need not be on the disk at once.
  if (file.cache == CacheMode::kWritethrough) file.cache = CacheMode::kWriteback;
  if (file.cache == CacheMode::kDirectSync) file.cache = CacheMode::kNone;
  return file;
}

Result<std::unique_ptr<Layer>> open_in_chain(const std::string& path, const LayerOptions& options,
                                             std::vector<FileIdentity>& seen);

Result<std::unique_ptr<Layer>> open_backing(const qcow2::Image& image, const LayerOptions& options,
                                            std::vector<FileIdentity>& seen) {
  const auto& header = image.header();
  const auto path = LIMEN_TRY(backing_path(image.path(), header.backing_file));
  LayerOptions lower = options;
  lower.file.read_only = true;
  lower.check_only = false;
  lower.format = header.backing_format;
  if (lower.format == "file" || lower.format == "host_device") lower.format = "raw";
  auto opened = open_in_chain(path, lower, seen);
  if (!opened) {
    auto error = std::move(opened).error();
    error.message = fmt::format("could not open backing file '{}' of image '{}': {}", path,
                                image.path(), error.message);
    return std::unexpected(std::move(error));
  }
  return opened;
}

Result<std::unique_ptr<qcow2::Image>> open_qcow2_in_chain(std::unique_ptr<FileLayer> file,
                                                          const LayerOptions& options,
                                                          std::vector<FileIdentity>& seen) {
  const auto header = LIMEN_TRY(qcow2::Image::read_header(*file));
  std::unique_ptr<FileLayer> data;
  if (header.has_data_file()) {
    // As QEMU: a relative name begins in the current folder, unlike a backing file's.
    const auto& path = header.data_file;
    auto opened = FileLayer::open(path, file_options(options));
    if (!opened)
      return fail("could not open data file '{}' of image '{}': {}", path, file->path(),
                  opened.error().message);
    data = std::move(*opened);
  }
  qcow2::ImageOptions image_options;
  image_options.read_only = options.file.read_only;
  image_options.discard_unmap = options.file.discard_unmap;
  image_options.check_only = options.check_only;
  auto image = LIMEN_TRY(qcow2::Image::open(std::move(file), std::move(data), image_options));
  if (options.with_backing && !header.backing_file.empty())
    image->set_backing(LIMEN_TRY(open_backing(*image, options, seen)));
  return image;
}

Result<std::unique_ptr<Layer>> open_in_chain(const std::string& path, const LayerOptions& options,
                                             std::vector<FileIdentity>& seen) {
  const auto identity = LIMEN_TRY(identity_of(path));
  if (std::ranges::find(seen, identity) != seen.end())
    return fail("backing file '{}' creates an infinite loop", path);
  seen.push_back(identity);
  auto file = LIMEN_TRY(FileLayer::open(path, file_options(options)));
  std::string format = options.format;
  if (format.empty()) format = LIMEN_TRY(probe_format(*file));
  LIMEN_TRY(check_format_supported(format, path));
  if (format == "raw") return file;
  return LIMEN_TRY(open_qcow2_in_chain(std::move(file), options, seen));
}

}  // namespace

Result<std::string> backing_path(const std::string& image, const std::string& backing) {
  std::string name = backing;
  if (name.starts_with("json:")) {
    const auto json = nlohmann::json::parse(name.substr(5), nullptr, false);
    const auto* at = &json;
    if (json.is_object() && json.contains("file") && json["file"].is_object()) at = &json["file"];
    for (const char* key : {"filename", "file.filename"})
      if (at->is_object() && at->contains(key) && (*at)[key].is_string())
        name = (*at)[key].get<std::string>();
    if (name == backing)
      return fail("backing file '{}' of image '{}' is not understood: expected a file's name",
                  backing, image);
  }
  if (name.starts_with("file:"))
    name.erase(0, 5);
  else if (const auto colon = name.find(':'), bar = name.find('/');
           colon != std::string::npos && colon < bar)
    return fail("backing file '{}' of image '{}': unknown protocol '{}'", backing, image,
                name.substr(0, colon));
  if (name.starts_with('/')) return name;
  const auto slash = image.rfind('/');
  return slash == std::string::npos ? name : image.substr(0, slash + 1) + name;
}

Result<std::unique_ptr<Layer>> open_layer(const std::string& path, const LayerOptions& options) {
  std::vector<FileIdentity> seen;
  return open_in_chain(path, options, seen);
}

Result<std::unique_ptr<qcow2::Image>> open_qcow2(const std::string& path,
                                                 const LayerOptions& options) {
  std::vector<FileIdentity> seen(1, LIMEN_TRY(identity_of(path)));
  auto file = LIMEN_TRY(FileLayer::open(path, file_options(options)));
  return open_qcow2_in_chain(std::move(file), options, seen);
}

Result<std::string> guess_format(const std::string& path, const OpenOptions& options) {
  // Only its start is read: locked when it is opened in earnest.
  auto examined = options;
  examined.read_only = true;
  examined.lock = false;
  examined.cache = CacheMode::kWriteback;
  const auto file = LIMEN_TRY(FileLayer::open(path, examined));
  auto format = LIMEN_TRY(probe_format(*file));
  if (format == "raw" && !options.read_only) warn_of_guess(path);
  return format;
}

Result<std::unique_ptr<BlockDevice>> open_image(const std::string& path, const std::string& format,
                                                const OpenOptions& options) {
  LIMEN_TRY(check_format_supported(format, path));
  if (format == "raw") {
    auto image = LIMEN_TRY(RawImage::open(path, options));
    return image;
  }
  return layer_as_disk(LIMEN_TRY(open_layer(path, {.file = options, .format = format})), options);
}

std::unique_ptr<BlockDevice> layer_as_disk(std::unique_ptr<Layer> layer,
                                           const OpenOptions& options) {
  const bool flush_writes =
      options.cache == CacheMode::kWritethrough || options.cache == CacheMode::kDirectSync;
  return std::make_unique<LayerDevice>(std::move(layer), options.threads, options.discard_unmap,
                                       flush_writes);
}

}  // namespace limen::block
