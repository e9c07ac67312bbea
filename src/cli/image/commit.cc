#include <fmt/format.h>

#include <algorithm>

#include "block/buffers.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

constexpr uint64_t kPiece = uint64_t{2} << 20;

/// Writes what the layers above `base` have into it.
Result<> copy_down(block::Layer& top, const block::Layer& read_base, block::Layer& base,
                   Progress& progress) {
  const auto memory = block::aligned_memory(kPiece);
  if (memory == nullptr) return fail("no memory for {} bytes", kPiece);
  const auto failed = [](int error, const block::Layer& layer, uint64_t at) {
    return fail_errno(error, fmt::format("commit at byte {} of '{}'", at, layer.path()));
  };
  const uint64_t size = top.size();
  for (uint64_t at = 0; at < size;) {
    const auto found = LIMEN_TRY(block::chain_extent(top, &read_base, at, size - at));
    uint64_t length = found.extent.length;
    if (found.layer != nullptr && found.extent.zero) {
      if (const int error = base.write_zeroes(at, length, true); error != 0)
        return failed(error, base, at);
    } else if (found.layer != nullptr) {
      length = std::min(length, kPiece);
      const iovec buffer = {memory.get(), static_cast<size_t>(length)};
      if (const int error = top.read(at, {&buffer, 1}); error != 0) return failed(error, top, at);
      if (const int error = base.write(at, {&buffer, 1}); error != 0)
        return failed(error, base, at);
    }
    at += length;
    progress.show(at, size);
  }
  if (const int error = base.flush(); error != 0) return failed(error, base, size);
  return {};
}

Result<> grow(block::Layer& base, uint64_t size) {
  if (base.size() >= size) return {};
  if (auto* image = dynamic_cast<block::qcow2::Image*>(&base)) return image->resize(size);
  if (const int error = dynamic_cast<block::FileLayer&>(base).truncate(size); error != 0)
    return fail_errno(error, fmt::format("growing image '{}' to {} bytes", base.path(), size));
  return {};
}

Result<block::Layer*> find_base(block::Layer& top, const std::string& wanted) {
  if (top.backing() == nullptr) return fail("image '{}' does not have a backing file", top.path());
  if (wanted.empty()) return top.backing();
  const auto path = LIMEN_TRY(block::backing_path(top.path(), wanted));
  for (block::Layer* layer = top.backing(); layer != nullptr; layer = layer->backing())
    if (layer->path() == path || layer->path() == wanted) return layer;
  return fail("did not find '{}' in the backing chain of '{}'", wanted, top.path());
}

Result<int> run_commit(const Words& words) {
  LIMEN_TRY(words.expect(1, "FILE"));
  const auto& path = words.positional()[0];
  const auto cache = words.text("-t", "writeback");
  // Held for as long as this takes: the chain itself is read without locks, since its base is
  // written.
  auto locked = LIMEN_TRY(block::FileLayer::open(path, {}));
  auto top = LIMEN_TRY(open(path, {.format = words.text("-f"), .share = true, .cache = cache}));
  const block::Layer* const read_base = LIMEN_TRY(find_base(*top, words.text("-b")));
  Progress progress(words.has("-p"));
  {
    const auto base = LIMEN_TRY(
        open(read_base->path(), {.format = read_base->format(), .write = true, .cache = cache}));
    LIMEN_TRY(grow(*base, top->size()));
    LIMEN_TRY(copy_down(*top, *read_base, *base, progress));
  }
  top.reset();
  // With a base further down, what is between would shine through.
  if (!words.has("-d") && !words.has("-b")) {
    auto options = LIMEN_TRY(layer_options(
        {.format = "qcow2", .write = true, .share = true, .cache = cache, .with_backing = false}));
    const auto image = LIMEN_TRY(block::open_qcow2(path, options));
    LIMEN_TRY(image->make_empty());
  }
  progress.end();
  if (!words.has("-q")) fmt::print("Image committed.\n");
  return 0;
}

constexpr Flag kCommitFlags[] = {kHelpFlag,  kFormatFlag,      kQuietFlag,        kProgressFlag,
                                 kCacheFlag, {"-b", "", true}, {"-d", "", false}, {"-r", "", true}};

}  // namespace

const Verb kCommit = {
    "commit",
    "[-f FORMAT] [-q] [-t CACHE] [-b BASE] [-d] [-p] FILE",
    "write what an image has into its backing file",
    R"(  -b BASE  into this image of the chain instead; the images between are invalid then, and FILE is
           not emptied
  -d       do not empty FILE afterwards
)",
    kCommitFlags,
    run_commit};

}  // namespace limen::cli::image
