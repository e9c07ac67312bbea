#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "block/probe.h"
#include "cli/image/snapshot_list.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

using nlohmann::ordered_json;

struct Facts {
  std::string path;
  const block::Layer* layer;
  const block::qcow2::Image* qcow2;
  uint64_t actual_size;
};

Facts facts_of(const std::string& path, block::Layer& layer) {
  Facts facts{path, &layer, dynamic_cast<block::qcow2::Image*>(&layer), 0};
  auto* file = dynamic_cast<block::FileLayer*>(&layer);
  if (auto* image = dynamic_cast<block::qcow2::Image*>(&layer)) file = &image->file();
  facts.actual_size = file->allocated_bytes();
  return facts;
}

std::string_view compression_name(const block::qcow2::Header& header) {
  return header.compression == block::qcow2::Compression::kZstd ? "zstd" : "zlib";
}

void print_qcow2(const Facts& facts) {
  const auto& header = facts.qcow2->header();
  if (!header.backing_file.empty()) {
    const auto full = block::backing_path(facts.path, header.backing_file);
    fmt::print("backing file: {}", header.backing_file);
    if (full && *full != header.backing_file) fmt::print(" (actual path: {})", *full);
    fmt::print("\n");
    if (!header.backing_format.empty())
      fmt::print("backing file format: {}\n", header.backing_format);
  }
  if (!facts.qcow2->snapshots().empty()) fmt::print("{}", list_snapshots(*facts.qcow2));
  fmt::print("Format specific information:\n    compat: {}\n    compression type: {}\n",
             header.version < 3 ? "0.10" : "1.1", compression_name(header));
  if (header.version >= 3) fmt::print("    lazy refcounts: {}\n", header.lazy_refcounts());
  fmt::print("    refcount bits: {}\n", header.refcount_bits());
  if (header.version < 3) return;
  if (header.has_data_file())
    fmt::print("    data file: {}\n    data file raw: {}\n", header.data_file,
               header.raw_data_file());
  fmt::print("    corrupt: {}\n    extended l2: {}\n", facts.qcow2->corrupt(), header.extended());
}

void print_human(const Facts& facts) {
  const uint64_t size = facts.layer->size();
  fmt::print("image: {}\nfile format: {}\nvirtual size: {} ({} bytes)\ndisk size: {}\n", facts.path,
             facts.layer->format(), human_size(size), size, human_size(facts.actual_size));
  if (facts.qcow2 == nullptr) return;
  const auto& header = facts.qcow2->header();
  fmt::print("cluster_size: {}\n", header.cluster_size());
  if (facts.qcow2->dirty()) fmt::print("cleanly shut down: no\n");
  print_qcow2(facts);
}

ordered_json json_of(const Facts& facts) {
  ordered_json json;
  if (facts.qcow2 != nullptr) {
    const auto& header = facts.qcow2->header();
    if (!facts.qcow2->snapshots().empty()) {
      auto& list = json["snapshots"] = ordered_json::array();
      for (const auto& snapshot : facts.qcow2->snapshots())
        list.push_back(describe_snapshot(snapshot));
    }
    if (!header.backing_format.empty()) json["backing-filename-format"] = header.backing_format;
  }
  json["virtual-size"] = facts.layer->size();
  json["filename"] = facts.path;
  if (facts.qcow2 != nullptr) json["cluster-size"] = facts.qcow2->header().cluster_size();
  json["format"] = facts.layer->format();
  json["actual-size"] = facts.actual_size;
  if (facts.qcow2 != nullptr) {
    const auto& header = facts.qcow2->header();
    ordered_json data;
    data["compat"] = header.version < 3 ? "0.10" : "1.1";
    data["compression-type"] = compression_name(header);
    if (header.version >= 3) data["lazy-refcounts"] = header.lazy_refcounts();
    data["refcount-bits"] = header.refcount_bits();
    if (header.has_data_file()) {
      data["data-file"] = header.data_file;
      data["data-file-raw"] = header.raw_data_file();
    }
    if (header.version >= 3) {
      data["corrupt"] = facts.qcow2->corrupt();
      data["extended-l2"] = header.extended();
    }
    json["format-specific"] = {{"type", "qcow2"}, {"data", data}};
    if (!header.backing_file.empty()) {
      if (const auto full = block::backing_path(facts.path, header.backing_file); full)
        json["full-backing-filename"] = *full;
      json["backing-filename"] = header.backing_file;
    }
  }
  json["dirty-flag"] = facts.qcow2 != nullptr && facts.qcow2->dirty();
  return json;
}

Result<int> run_info(const Words& words) {
  LIMEN_TRY(words.expect(1, "FILE"));
  const bool json = words.has("--json") || LIMEN_TRY(words.json_output());
  const bool chain = words.has("--backing-chain");
  // A raw image's size is there to be looked at; a qcow2 image that a machine writes may look odd.
  auto format = words.text("-f");
  const bool force = words.has("-U") || words.has("--force");
  if (format.empty()) {
    const auto file = LIMEN_TRY(
        block::FileLayer::open(words.positional()[0], {.read_only = true, .lock = false}));
    format = LIMEN_TRY(block::probe_format(*file));
  }
  const auto top = LIMEN_TRY(block::open_layer(
      words.positional()[0], {.file = {.read_only = true, .lock = !force && format != "raw"},
                              .format = format,
                              .with_backing = chain,
                              .check_only = true}));
  auto list = ordered_json::array();
  std::string path = words.positional()[0];
  bool first = true;
  for (block::Layer* layer = top.get(); layer != nullptr; layer = layer->backing()) {
    if (!first) path = layer->path();
    const auto facts = facts_of(path, *layer);
    if (json) {
      list.push_back(json_of(facts));
    } else {
      if (!first) fmt::print("\n");
      print_human(facts);
    }
    first = false;
  }
  // A path need not be UTF-8.
  if (json)
    fmt::print("{}\n",
               (chain ? list : list[0]).dump(4, ' ', true, ordered_json::error_handler_t::replace));
  return 0;
}

constexpr Flag kInfoFlags[] = {kHelpFlag,
                               kFormatFlag,
                               kShareFlag,
                               kOutputFlag,
                               {"", "--backing-chain", false},
                               {"", "--json", false},
                               {"", "--force", false}};

}  // namespace

const Verb kInfo = {"info",
                    "[-f FORMAT] [-U] [--output=human|json] [--backing-chain] FILE",
                    "say what an image is",
                    R"(  -f FORMAT        do not guess the format
  -U               look although a machine has the image open
  --output=json    for programs
  --backing-chain  the image's backing images too
)",
                    kInfoFlags,
                    run_info};

}  // namespace limen::cli::image
