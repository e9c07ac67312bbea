#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "block/buffers.h"
#include "block/probe.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

constexpr uint64_t kPiece = uint64_t{2} << 20;

/// Writes into `image` what it showed through the old backing file and would not show through the
/// new.
Result<> keep_content(block::qcow2::Image& image, block::Layer* fresh, Progress& progress) {
  const auto old_memory = block::aligned_memory(kPiece), new_memory = block::aligned_memory(kPiece);
  if (old_memory == nullptr || new_memory == nullptr) return fail("no memory for {} bytes", kPiece);
  const auto failed = [&image](int error, std::string_view what, uint64_t at) {
    return fail_errno(error, fmt::format("rebase of '{}': {} byte {}", image.path(), what, at));
  };
  const uint64_t size = image.size();
  const uint64_t unit = image.header().subcluster_size();
  for (uint64_t at = 0; at < size;) {
    const auto extent = LIMEN_TRY(image.extent(at, size - at));
    if (extent.present) {
      at += extent.length;
      continue;
    }
    const uint64_t length = std::min(extent.length, kPiece);
    const iovec old_buffer = {old_memory.get(), static_cast<size_t>(length)};
    const iovec new_buffer = {new_memory.get(), static_cast<size_t>(length)};
    if (const int error = image.read(at, {&old_buffer, 1}); error != 0)
      return failed(error, "reading", at);
    if (const int error = block::read_or_zero(fresh, at, {&new_buffer, 1}); error != 0)
      return failed(error, "reading the new backing file at", at);
    for (uint64_t from = 0; from < length;) {
      const auto same = [&](uint64_t offset) {
        const auto step = std::min(unit, length - offset);
        return std::memcmp(&old_memory[offset], &new_memory[offset], step) == 0;
      };
      const bool keep = !same(from);
      uint64_t to = from;
      while (to < length && same(to) != keep) to += unit;
      to = std::min(to, length);
      if (keep) {
        const std::span<std::byte> bytes(&old_memory[from], static_cast<size_t>(to - from));
        const iovec buffer = block::buffer_over(bytes);
        const int error = block::all_zero(std::span<const std::byte>(bytes))
                              ? image.write_zeroes(at + from, to - from, true)
                              : image.write(at + from, {&buffer, 1});
        if (error != 0) return failed(error, "writing", at);
      }
      from = to;
    }
    at += length;
    progress.show(at, size);
  }
  return {};
}

Result<int> run_rebase(const Words& words) {
  LIMEN_TRY(words.expect(1, "FILE"));
  if (!words.has("-b")) return fail("rebase: -b BACKING is missing (-b \"\" for none)");
  const auto& path = words.positional()[0];
  const bool unsafe = words.has("-u");
  const auto backing = words.text("-b");
  auto format = words.text("-F");
  const auto options = LIMEN_TRY(layer_options({.format = words.text("-f"),
                                                .write = true,
                                                .share = words.has("-U"),
                                                .cache = words.text("-t", "writeback"),
                                                .with_backing = !unsafe}));
  const auto layer = LIMEN_TRY(block::open_layer(path, options));
  auto* image = dynamic_cast<block::qcow2::Image*>(layer.get());
  if (image == nullptr) return fail("image '{}' is raw: it has no backing file", path);
  if (image->header().raw_data_file() && !backing.empty())
    return fail("image '{}' has a raw external data file: it can have no backing file", path);
  Progress progress(words.has("-p"));
  if (!format.empty()) LIMEN_TRY(block::check_format_supported(format, backing));
  if (!unsafe) {
    std::unique_ptr<block::Layer> fresh;
    if (!backing.empty()) {
      const auto full = LIMEN_TRY(block::backing_path(path, backing));
      auto opened = open(full, {.format = format, .cache = words.text("-T", "writeback")});
      if (!opened)
        return fail("could not open new backing file '{}': {}", full, opened.error().message);
      fresh = std::move(*opened);
      for (const block::Layer* below = fresh.get(); below != nullptr; below = below->backing())
        if (below->path() == path)
          return fail("backing file '{}' creates an infinite loop", backing);
      if (format.empty()) format = fresh->format();
    }
    LIMEN_TRY(keep_content(*image, fresh.get(), progress));
  }
  LIMEN_TRY(image->change_backing(backing, backing.empty() ? "" : format));
  progress.end();
  return 0;
}

constexpr Flag kRebaseFlags[] = {
    kHelpFlag,        kFormatFlag,   kQuietFlag,        kShareFlag,       kCacheFlag,
    kSourceCacheFlag, kProgressFlag, {"-u", "", false}, {"-b", "", true}, {"-F", "", true}};

}  // namespace

const Verb kRebase = {"rebase",
                      "[-f FORMAT] [-t CACHE] [-T CACHE] [-p] [-u] -b BACKING [-F FORMAT] FILE",
                      "give an image another backing file",
                      R"(  -b BACKING  the new one; "" for none: the image stands alone then
  -F FORMAT   its format
  -u          unsafe: only the name is changed, nothing is compared (for a file that was moved)
Without -u the disk shows the same as before: what differs is copied into the image.
)",
                      kRebaseFlags,
                      run_rebase};

}  // namespace limen::cli::image
