#include <fmt/format.h>

#include "block/image_tool.h"
#include "block/probe.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

/// The format that a file shows, for the hint of an error.
Result<std::string> detect(const std::string& path) {
  const auto layer = LIMEN_TRY(open(path, {.share = true, .with_backing = false}));
  return layer->format();
}

Result<> use_backing(const std::string& path, Target& target, bool unsafe) {
  auto& options = target.qcow2;
  if (options.backing_file.empty()) {
    if (!options.backing_format.empty())
      return fail("{}: backing format '{}' was given without a backing file", path,
                  options.backing_format);
    return {};
  }
  const auto backing = LIMEN_TRY(block::backing_path(path, options.backing_file));
  if (options.backing_format.empty()) {
    const auto detected = detect(backing);
    if (!detected) return std::unexpected(detected.error());
    return fail(
        "{}: backing file specified without backing format (detected format of {}): use -F {}",
        path, *detected, *detected);
  }
  LIMEN_TRY(block::check_format_supported(options.backing_format, backing));
  if (backing == path)
    return fail("{}: trying to create an image with the same filename as the backing file", path);
  if (unsafe) return {};
  auto opened = open(backing, {.format = options.backing_format});
  if (!opened) return fail("{}: could not open backing image: {}", path, opened.error().message);
  if (!target.has_size) {
    options.size = (*opened)->size();
    target.has_size = true;
  }
  return {};
}

Result<int> run_create(const Words& words) {
  const auto format = words.text("-f", "raw");
  if (words.text("-o") == "help" || words.text("-o") == "?") {
    fmt::print("{}", describe_options(format));
    return 0;
  }
  if (words.positional().empty()) return fail("create: a file and a size are needed");
  if (words.positional().size() > 2) LIMEN_TRY(words.expect(2, "FILE [SIZE]"));
  const auto& path = words.positional()[0];
  auto target = LIMEN_TRY(parse_target(format, words.all("-o")));
  if (words.has("-b")) target.qcow2.backing_file = words.text("-b");
  if (words.has("-F")) target.qcow2.backing_format = words.text("-F");
  if (format == "raw" && !(target.qcow2.backing_file + target.qcow2.backing_format).empty())
    return fail("{}: backing file not supported for file format 'raw'", path);
  if (words.positional().size() == 2) {
    target.qcow2.size = LIMEN_TRY(block::parse_image_size(words.positional()[1]));
    target.has_size = true;
  }
  LIMEN_TRY(use_backing(path, target, words.has("-u")));
  if (!target.has_size)
    return fail("create: a file and a size are needed: image '{}' needs a size", path);
  const auto what = describe_target(target);
  LIMEN_TRY(make_image(path, target));
  if (!words.has("-q")) fmt::print("Formatting '{}', {}\n", path, what);
  return 0;
}

constexpr Flag kCreateFlags[] = {kHelpFlag,         kFormatFlag,           kQuietFlag,
                                 {"-o", "", true},  {"-b", "", true},      {"-F", "", true},
                                 {"-u", "", false}, {"", "--object", true}};

}  // namespace

const Verb kCreate = {"create",
                      "[-q] [-f raw|qcow2] [-b BACKING -F FORMAT] [-u] [-o OPTIONS] FILE [SIZE]",
                      "make an empty image",
                      R"(  -f FORMAT   raw (the default) or qcow2
  -b BACKING  the new image shows what BACKING has until it is written; needs -F
  -F FORMAT   the format of BACKING
  -u          do not look at BACKING; SIZE is needed then
  -o OPTIONS  key=value,...; `-o help` lists them
  -q          print nothing
SIZE is a number with b, k, M, G, T, P or E behind it (powers of 1024); without one, bytes.
)",
                      kCreateFlags,
                      run_create};

}  // namespace limen::cli::image
