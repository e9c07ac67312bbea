#include <fmt/format.h>

#include <algorithm>

#include "block/image_tool.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

constexpr uint64_t up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

/// Bytes of a qcow2 image's own tables when `used` guest bytes in it have a place.
uint64_t metadata_bytes(const block::qcow2::CreateOptions& options, uint64_t size, uint64_t used) {
  const uint64_t cluster = options.cluster_size;
  const uint64_t entry = options.extended_l2 ? 16 : 8;
  const uint64_t l2_bytes = up(up(size, cluster) / cluster * entry, cluster);
  const uint64_t l1_bytes = up(l2_bytes / cluster * 8, cluster);
  const uint64_t clusters = (used + cluster + l2_bytes + l1_bytes) / cluster;
  const uint64_t per_block = cluster * 8 / options.refcount_bits;
  uint64_t blocks = 0, table = 0;
  while (true) {
    const uint64_t more = (clusters + blocks + table + per_block - 1) / per_block;
    const uint64_t more_table = up(more * 8, cluster) / cluster;
    if (more == blocks && more_table == table) break;
    blocks = more;
    table = more_table;
  }
  return cluster + l2_bytes + std::max(l1_bytes, cluster) + (blocks + table) * cluster;
}

/// Guest bytes that have data, in whole clusters of the new image.
Result<uint64_t> data_bytes(block::Layer& layer, uint64_t unit) {
  uint64_t bytes = 0, counted = 0;
  for (uint64_t at = 0; at < layer.size();) {
    const auto found = LIMEN_TRY(block::chain_extent(layer, nullptr, at, layer.size() - at));
    const uint64_t end = at + found.extent.length;
    if (found.extent.data && !found.extent.zero) {
      const uint64_t from = std::max(counted, at / unit * unit);
      counted = std::max(counted, up(end, unit));
      bytes += counted > from ? counted - from : 0;
    }
    at = end;
  }
  return bytes;
}

Result<int> run_measure(const Words& words) {
  const bool json = LIMEN_TRY(words.json_output());
  const auto target = LIMEN_TRY(parse_target(words.text("-O", "raw"), words.all("-o")));
  const bool by_size = words.has("--size");
  if (by_size == !words.positional().empty())
    return fail("measure: either --size or one file is needed");
  if (!by_size) LIMEN_TRY(words.expect(1, "FILE"));
  std::unique_ptr<block::Layer> layer;
  uint64_t size = 0, data = 0;
  const uint64_t unit = target.format == "qcow2" ? target.qcow2.cluster_size : 512;
  bool snapshots = false;
  if (by_size) {
    size = LIMEN_TRY(block::parse_image_size(words.text("--size")));
  } else {
    layer = LIMEN_TRY(
        open(words.positional()[0], {.format = words.text("-f"), .share = words.has("-U")}));
    if (words.has("-l")) {
      auto* image = dynamic_cast<block::qcow2::Image*>(layer.get());
      if (image == nullptr)
        return fail("image '{}' is raw: it has no snapshots", words.positional()[0]);
      LIMEN_TRY(image->show_snapshot(words.text("-l")));
    }
    size = layer->size();
    data = LIMEN_TRY(data_bytes(*layer, unit));
    snapshots = layer->format() == "qcow2" && target.format == "qcow2";
  }
  uint64_t required = size, full = size;
  if (target.format == "qcow2") {
    LIMEN_TRY(block::qcow2::check_options(target.qcow2));
    const uint64_t whole = up(size, unit);
    // The refcounts are counted for all of the disk.
    const uint64_t tables = metadata_bytes(target.qcow2, size, whole);
    full = tables + whole;
    required =
        target.preallocation == "falloc" || target.preallocation == "full" ? full : tables + data;
  }
  if (json) {
    fmt::print("{{\n");
    if (snapshots) fmt::print("    \"bitmaps\": 0,\n");
    fmt::print("    \"required\": {},\n    \"fully-allocated\": {}\n}}\n", required, full);
  } else {
    fmt::print("required size: {}\nfully allocated size: {}\n", required, full);
    if (snapshots) fmt::print("bitmaps size: 0\n");
  }
  return 0;
}

constexpr Flag kMeasureFlags[] = {kHelpFlag,        kFormatFlag,         kShareFlag,
                                  kOutputFlag,      {"-O", "", true},    {"-o", "", true},
                                  {"-l", "", true}, {"", "--size", true}};

}  // namespace

const Verb kMeasure = {
    "measure",
    "[--output=human|json] [-O FORMAT] [-o OPTIONS] [--size SIZE | [-f FORMAT] [-l SNAPSHOT] FILE]",
    "say how much room an image would take",
    R"(  -O FORMAT, -o OPTIONS  of the new image
  --size SIZE            for an empty disk of this size, else for a copy of FILE
)",
    kMeasureFlags,
    run_measure};

}  // namespace limen::cli::image
