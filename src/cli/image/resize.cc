#include <fmt/format.h>

#include <algorithm>

#include "block/image_tool.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

Result<> grow_room(const std::string& path, const std::string& mode, uint64_t from) {
  auto layer = LIMEN_TRY(open(path, {.write = true, .with_backing = false}));
  if (auto* image = dynamic_cast<block::qcow2::Image*>(layer.get()))
    return image->preallocate(from, mode == "falloc", mode == "full");
  auto* file = dynamic_cast<block::FileLayer*>(layer.get());
  const uint64_t length = file->size() - from;
  const int error =
      mode == "falloc" ? file->preallocate(from, length) : file->write_zeroes(from, length, false);
  if (error != 0) return fail_errno(error, fmt::format("preallocating image '{}'", path));
  return {};
}

Result<int> run_resize(const Words& words) {
  if (words.positional().size() != 2) return fail("resize: a file and a size are needed");
  const auto& path = words.positional()[0];
  const std::string_view size = words.positional()[1];
  const auto mode = words.text("--preallocation", "off");
  if (mode != "off" && mode != "metadata" && mode != "falloc" && mode != "full")
    return fail("invalid preallocation mode '{}'; valid choices: off, metadata, falloc, full",
                mode);
  auto layer = LIMEN_TRY(open(path, {.format = words.text("-f"), .write = true}));
  const uint64_t before = layer->size();
  auto* const image = dynamic_cast<block::qcow2::Image*>(layer.get());
  if (image == nullptr) {
    if (mode == "metadata")
      return fail("image '{}' is raw: preallocation=metadata is for qcow2", path);
    layer.reset();
    LIMEN_TRY(block::resize_image(path, size, words.has("--shrink")));
  } else {
    const bool grow = size.starts_with('+'), reduce = size.starts_with('-');
    const uint64_t amount =
        LIMEN_TRY(block::parse_image_size(grow || reduce ? size.substr(1) : size));
    if (reduce && amount >= before)
      return fail("image '{}' of {} bytes cannot shrink by {}: nothing would be left", path, before,
                  amount);
    if (grow && amount > uint64_t{INT64_MAX} - before)
      return fail("image '{}' of {} bytes cannot grow by {}", path, before, amount);
    const uint64_t wanted = grow ? before + amount : reduce ? before - amount : amount;
    if (wanted < before && !words.has("--shrink"))
      return fail(
          "image '{}' would shrink from {} to {} bytes and lose what lies behind: use --shrink",
          path, before, wanted);
    if (mode != "off" && image->backing() != nullptr && !image->header().extended())
      return fail("image '{}' has a backing file: preallocation is not possible", path);
    LIMEN_TRY(image->resize(wanted));
    layer.reset();
  }
  if (mode != "off") LIMEN_TRY(grow_room(path, mode, before));
  if (!words.has("-q")) fmt::print("Image resized.\n");
  return 0;
}

constexpr Flag kResizeFlags[] = {
    kHelpFlag, kFormatFlag, kQuietFlag, {"", "--shrink", false}, {"", "--preallocation", true}};

}  // namespace

const Verb kResize = {"resize",
                      "[-f FORMAT] [-q] [--preallocation=MODE] [--shrink] FILE [+|-]SIZE",
                      "change the size of a disk",
                      R"(  --shrink              allow a smaller size; what lies behind is lost
  --preallocation=MODE  off, metadata, falloc or full: room for what is new
)",
                      kResizeFlags,
                      run_resize};

}  // namespace limen::cli::image
