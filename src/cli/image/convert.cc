#include <fmt/format.h>

#include <algorithm>

#include "block/image_tool.h"
#include "block/probe.h"
#include "cli/image/copy.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

Result<std::vector<std::unique_ptr<block::Layer>>> open_sources(const Words& words) {
  std::vector<std::unique_ptr<block::Layer>> sources;
  const auto& names = words.positional();
  for (size_t i = 0; i + 1 < names.size(); ++i)
    sources.push_back(LIMEN_TRY(open(names[i], {.format = words.text("-f"),
                                                .share = words.has("-U"),
                                                .cache = words.text("-T", "writeback")})));
  if (!words.has("-l")) return sources;
  auto snapshot = words.text("-l");
  for (const std::string_view prefix : {"snapshot.name=", "snapshot.id="})
    if (snapshot.starts_with(prefix)) snapshot.erase(0, prefix.size());
  if (sources.size() > 1) return fail("convert: -l is possible with one input only");
  auto* image = dynamic_cast<block::qcow2::Image*>(sources[0].get());
  if (image == nullptr) return fail("image '{}' is raw: it has no snapshots", names[0]);
  LIMEN_TRY(image->show_snapshot(snapshot));
  return sources;
}

Result<Target> target_of(const Words& words, uint64_t size) {
  const auto format = words.text("-O", "raw");
  auto target = LIMEN_TRY(parse_target(format, words.all("-o")));
  if (words.has("-B")) target.qcow2.backing_file = words.text("-B");
  if (words.has("-F")) target.qcow2.backing_format = words.text("-F");
  auto& options = target.qcow2;
  if (!options.backing_file.empty() && format == "raw")
    return fail("convert: backing file not supported for file format 'raw'");
  if (!options.backing_file.empty() && options.backing_format.empty())
    return fail("convert: backing file specified without backing format: use -F");
  if (!target.has_size) options.size = size;
  if (options.size < size)
    return fail("convert: size={} is smaller than the input's {} bytes", options.size, size);
  return target;
}

Result<int> run_convert(const Words& words) {
  if (words.text("-o") == "help" || words.text("-o") == "?") {
    fmt::print("{}", describe_options(words.text("-O", "raw")));
    return 0;
  }
  if (words.positional().size() < 2) return fail("convert: an input and an output file are needed");
  const auto& output = words.positional().back();
  CopyOptions options;
  options.sparse = LIMEN_TRY(words.size("-S", 4096));
  if (options.sparse % 512 != 0)
    return fail("convert: -S {} is not a multiple of 512", options.sparse);
  options.compress = words.has("-c");
  options.out_of_order = words.has("-W");
  const uint64_t threads = LIMEN_TRY(words.number("-m", 8));
  if (threads < 1 || threads > 16)
    return fail("convert: -m {}: allowed number of coroutines is between 1 and 16", threads);
  options.threads = static_cast<unsigned>(threads);
  if (options.compress && options.out_of_order)
    return fail("convert: out of order write and compress are mutually exclusive");

  const auto sources = LIMEN_TRY(open_sources(words));
  uint64_t size = 0;
  for (const auto& source : sources) size += source->size();
  const bool existing = words.has("-n");
  auto target = LIMEN_TRY(target_of(words, size));
  if (options.compress && target.format != "qcow2")
    return fail("convert: compression not supported for file format '{}'", target.format);
  if (options.compress && !target.qcow2.data_file.empty())
    return fail("convert: compression is not possible with an external data file");
  if (options.compress && target.preallocation != "off")
    return fail("convert: compression and preallocation not supported at the same time");
  if (!existing) LIMEN_TRY(make_image(output, target));
  options.target_has_backing = !target.qcow2.backing_file.empty();
  options.target_is_zero = !existing || words.has("--target-is-zero");
  auto written = LIMEN_TRY(
      open(output, {.format = target.format, .write = true, .cache = words.text("-t", "unsafe")}));
  if (written->size() < size)
    return fail("output file '{}' is smaller than input file: {} and {} bytes", output,
                written->size(), size);
  Progress progress(words.has("-p"));
  LIMEN_TRY(copy(sources, *written, options, progress));
  if (const int error = written->flush(); error != 0)
    return fail_errno(error, fmt::format("flushing '{}'", output));
  progress.end();
  return 0;
}

constexpr Flag kConvertFlags[] = {
    kHelpFlag,         kFormatFlag,       kQuietFlag,       kShareFlag,
    kProgressFlag,     kCacheFlag,        kSourceCacheFlag, {"-O", "", true},
    {"-c", "", false}, {"-o", "", true},  {"-S", "", true}, {"-n", "", false},
    {"-B", "", true},  {"-F", "", true},  {"-l", "", true}, {"-m", "", true},
    {"-W", "", false}, {"-C", "", false}, {"-r", "", true}, {"", "--target-is-zero", false}};

}  // namespace

const Verb kConvert = {"convert",
                       "[-f FORMAT] [-O FORMAT] [-c] [-p] [-n] [-o OPTIONS] [-B BACKING -F FORMAT] "
                       "[-l SNAPSHOT] [-S SIZE] "
                       "[-m COUNT] [-W] [-U] [-t CACHE] [-T CACHE] FILE... OUTPUT",
                       "copy images into a new one, in any format",
                       R"(  -f FORMAT    of the inputs (guessed otherwise)
  -O FORMAT    of the output: raw (the default) or qcow2
  -o OPTIONS   of the output, as for create
  -c           compress the clusters of a qcow2 output
  -p           show progress
  -n           the output exists: do not make it
  -B BACKING   the output has this backing file; only what the input's own file has is copied
  -l SNAPSHOT  what the input had at this snapshot
  -S SIZE      runs of so many zero bytes are left out (4k); 0: everything is written
  -m COUNT     work on so many pieces at once (8)
  -W           write them in any order
  -t CACHE     of the output (unsafe); -T CACHE of the inputs (writeback)
  --target-is-zero  with -n: the output reads as zeroes already
Several inputs stand one behind the other in the output.
)",
                       kConvertFlags,
                       run_convert};

}  // namespace limen::cli::image
