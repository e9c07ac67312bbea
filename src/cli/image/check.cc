#include "block/qcow2/check.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

using block::qcow2::CheckResult;
using block::qcow2::Fix;

constexpr int kFailed = 1, kCorruptions = 2, kLeaks = 3, kNotSupported = 63;

void print_human(const CheckResult& result) {
  if (result.corruptions_fixed != 0 || result.leaks_fixed != 0) {
    fmt::print("The following inconsistencies were found and repaired:\n\n");
    fmt::print("    {} leaked clusters\n    {} corruptions\n\n", result.leaks_fixed,
               result.corruptions_fixed);
    fmt::print("Double checking the fixed image now...\n");
  }
  if (result.corruptions == 0 && result.leaks == 0 && result.check_errors == 0) {
    fmt::print("No errors were found on the image.\n");
  } else {
    if (result.corruptions != 0)
      fmt::print(
          "\n{} errors were found on the image.\nData may be corrupted, or further writes to the "
          "image may corrupt it.\n",
          result.corruptions);
    if (result.leaks != 0)
      fmt::print(
          "\n{} leaked clusters were found on the image.\nThis means waste of disk space, but no "
          "harm to data.\n",
          result.leaks);
    if (result.check_errors != 0)
      fmt::print("\n{} internal errors have occurred during the check.\n", result.check_errors);
  }
  if (result.total_clusters != 0 && result.allocated_clusters != 0) {
    const auto percent = [](uint64_t part, uint64_t all) {
      return static_cast<double>(part) * 100.0 / static_cast<double>(all);
    };
    fmt::print("{}/{} = {:.2f}% allocated, {:.2f}% fragmented, {:.2f}% compressed clusters\n",
               result.allocated_clusters, result.total_clusters,
               percent(result.allocated_clusters, result.total_clusters),
               percent(result.fragmented_clusters, result.allocated_clusters),
               percent(result.compressed_clusters, result.allocated_clusters));
  }
  if (result.image_end_offset != 0) fmt::print("Image end offset: {}\n", result.image_end_offset);
}

void print_json(const std::string& path, const CheckResult& result) {
  nlohmann::ordered_json json;
  const auto add = [&json](const char* name, uint64_t value) {
    if (value != 0) json[name] = value;
  };
  json["image-end-offset"] = result.image_end_offset;
  json["total-clusters"] = result.total_clusters;
  json["check-errors"] = result.check_errors;
  add("corruptions", result.corruptions);
  add("corruptions-fixed", result.corruptions_fixed);
  add("leaks", result.leaks);
  add("leaks-fixed", result.leaks_fixed);
  add("allocated-clusters", result.allocated_clusters);
  add("fragmented-clusters", result.fragmented_clusters);
  add("compressed-clusters", result.compressed_clusters);
  json["filename"] = path;
  json["format"] = "qcow2";
  fmt::print("{}\n", json.dump(4, ' ', true, nlohmann::ordered_json::error_handler_t::replace));
}

/// One look, with the image opened for it.
Result<CheckResult> look(const std::string& path, const Words& words, Fix fix, bool quiet) {
  const auto image = LIMEN_TRY(block::open_qcow2(
      path, {.file = {.read_only = fix == Fix::kNothing, .lock = !words.has("-U")},
             .with_backing = false,
             .check_only = true}));
  return block::qcow2::check(*image, fix, [quiet](const std::string& line) {
    if (!quiet) fmt::print(stderr, "{}\n", line);
  });
}

Result<int> run_check(const Words& words) {
  LIMEN_TRY(words.expect(1, "FILE"));
  const bool json = LIMEN_TRY(words.json_output());
  const auto& path = words.positional()[0];
  auto fix = Fix::kNothing;
  if (const auto repair = words.text("-r"); repair == "leaks")
    fix = Fix::kLeaks;
  else if (repair == "all")
    fix = Fix::kAll;
  else if (words.has("-r"))
    return fail("check: option -r expects 'leaks' or 'all', not '{}'", repair);
  auto format = words.text("-f");
  if (format.empty())
    format =
        LIMEN_TRY(block::open_layer(path, {.file = {.read_only = true, .lock = !words.has("-U")},
                                           .with_backing = false,
                                           .check_only = true}))
            ->format();
  if (format != "qcow2") {
    fmt::print(stderr, "limen-img: this image format ({}) does not support checks\n", format);
    return kNotSupported;
  }
  const bool quiet = words.has("-q");
  auto result = LIMEN_TRY(look(path, words, fix, quiet));
  if (result.corruptions_fixed != 0 || result.leaks_fixed != 0) {
    const auto fixed = result;
    result = LIMEN_TRY(look(path, words, Fix::kNothing, quiet));
    result.corruptions_fixed = fixed.corruptions_fixed;
    result.leaks_fixed = fixed.leaks_fixed;
  }
  if (json)
    print_json(path, result);
  else if (!quiet)
    print_human(result);
  if (result.check_errors != 0) return kFailed;
  if (result.corruptions != 0) return kCorruptions;
  return result.leaks != 0 ? kLeaks : 0;
}

constexpr Flag kCheckFlags[] = {kHelpFlag,       kFormatFlag, kQuietFlag,
                                kShareFlag,      kOutputFlag, {"-r", "--repair", true},
                                kSourceCacheFlag};

}  // namespace

const Verb kCheck = {"check",
                     "[-f FORMAT] [-q] [-U] [--output=human|json] [-r leaks|all] FILE",
                     "look for errors in a qcow2 image, and repair them",
                     R"(  -r leaks  give back clusters that nothing uses
  -r all    repair everything that can be
  -U        look although a machine has the image open
Exit status: 0 no errors; 1 the check failed; 2 the image is corrupt; 3 clusters are lost (leaks);
63 the format has no check.
)",
                     kCheckFlags,
                     run_check};

}  // namespace limen::cli::image
