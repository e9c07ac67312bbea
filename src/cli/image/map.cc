#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

struct Line {
  uint64_t start = 0, length = 0;
  block::ChainExtent found;
};

bool continues(const Line& before, const block::ChainExtent& next) {
  const auto& a = before.found.extent;
  const auto& b = next.extent;
  if (a.present != b.present || a.zero != b.zero || a.data != b.data ||
      a.compressed != b.compressed || before.found.depth != next.depth ||
      a.host_offset.has_value() != b.host_offset.has_value())
    return false;
  return !a.host_offset || *a.host_offset + before.length == *b.host_offset;
}

const std::string& file_of(const block::ChainExtent& found) {
  if (const auto* image = dynamic_cast<const block::qcow2::Image*>(found.layer))
    return image->data_path();
  return found.layer->path();
}

Result<> print_human(const Line& line) {
  const auto& extent = line.found.extent;
  if (extent.data && !extent.zero && !extent.host_offset)
    return fail(
        "file contains external, encrypted or compressed clusters: only --output=json shows them");
  if (extent.data && !extent.zero)
    fmt::print("{:<16}{:<16}{:<16}{}\n", fmt::format("{:#x}", line.start),
               fmt::format("{:#x}", line.length), fmt::format("{:#x}", *extent.host_offset),
               file_of(line.found));
  return {};
}

void print_json(const Line& line, bool first) {
  const auto& extent = line.found.extent;
  fmt::print(
      "{}{{ \"start\": {}, \"length\": {}, \"depth\": {}, \"present\": {}, \"zero\": {}, \"data\": "
      "{}",
      first ? "[" : ",\n", line.start, line.length, line.found.depth, extent.present, extent.zero,
      extent.data);
  if (extent.host_offset) fmt::print(", \"offset\": {}", *extent.host_offset);
  fmt::print("}}");
}

Result<int> run_map(const Words& words) {
  LIMEN_TRY(words.expect(1, "FILE"));
  const bool json = LIMEN_TRY(words.json_output());
  const auto layer = LIMEN_TRY(
      open(words.positional()[0], {.format = words.text("-f"), .share = words.has("-U")}));
  const uint64_t start = LIMEN_TRY(words.size("--start-offset", 0));
  const uint64_t most = LIMEN_TRY(words.size("--max-length", UINT64_MAX));
  if (!json) fmt::print("{:<16}{:<16}{:<16}{}\n", "Offset", "Length", "Mapped to", "File");
  const uint64_t size = layer->size();
  const uint64_t end = start >= size ? start : start + std::min(most, size - start);
  Line line;
  line.start = start;
  bool first = true;
  const auto print = [&]() -> Result<> {
    if (line.length == 0) return {};
    if (json)
      print_json(line, std::exchange(first, false));
    else
      LIMEN_TRY(print_human(line));
    return {};
  };
  for (uint64_t at = start; at < end;) {
    const auto found = LIMEN_TRY(block::chain_extent(*layer, nullptr, at, end - at));
    if (line.length != 0 && continues(line, found)) {
      line.length += found.extent.length;
    } else {
      LIMEN_TRY(print());
      line = {at, found.extent.length, found};
    }
    at += found.extent.length;
  }
  LIMEN_TRY(print());
  if (json) fmt::print("{}]\n", first ? "[" : "");
  return 0;
}

constexpr Flag kMapFlags[] = {kHelpFlag,
                              kFormatFlag,
                              kShareFlag,
                              kOutputFlag,
                              {"", "--start-offset", true},
                              {"", "--max-length", true}};

}  // namespace

const Verb kMap = {
    "map",
    "[-f FORMAT] [--start-offset=OFFSET] [--max-length=LENGTH] [--output=human|json] [-U] FILE",
    "show where the parts of a disk are stored",
    R"(  --start-offset=OFFSET, --max-length=LENGTH  only a part of the disk
  --output=json  every part, and in which image of the backing chain it is
)",
    kMapFlags,
    run_map};

}  // namespace limen::cli::image
