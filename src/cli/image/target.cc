// New images: what -o says, and making them.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/nearest.h"
#include "block/image_tool.h"
#include "block/probe.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

constexpr std::array<std::string_view, 4> kPreallocations = {"off", "metadata", "falloc", "full"};
constexpr std::array<std::string_view, 3> kRawPreallocations = {"off", "falloc", "full"};
constexpr std::array<std::string_view, 2> kCompressions = {"zlib", "zstd"};
constexpr std::array<std::string_view, 4> kCompats = {"0.10", "1.1", "v2", "v3"};

struct OptionHelp {
  std::string_view name, text;
};
constexpr std::array<OptionHelp, 12> kQcow2Options = {{
    {"backing_file=<str>", "File name of a base image"},
    {"backing_fmt=<str>", "Image format of the base image"},
    {"cluster_size=<size>", "qcow2 cluster size"},
    {"compat=<str>", "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {"compression_type=<str>", "Compression method used for image cluster compression"},
    {"data_file=<str>", "File name of an external data file"},
    {"data_file_raw=<bool (on/off)>", "The external data file must stay valid as a raw image"},
    {"extended_l2=<bool (on/off)>", "Extended L2 tables"},
    {"lazy_refcounts=<bool (on/off)>", "Postpone refcount updates"},
    {"preallocation=<str>", "Preallocation mode (allowed values: off, metadata, falloc, full)"},
    {"refcount_bits=<num>", "Width of a reference count entry in bits"},
    {"size=<size>", "Virtual disk size"},
}};
constexpr std::array<OptionHelp, 2> kRawOptions = {{
    {"preallocation=<str>", "Preallocation mode (allowed values: off, falloc, full)"},
    {"size=<size>", "Virtual disk size"},
}};

Result<> check_choice(std::string_view key, std::string_view value,
                      std::span<const std::string_view> choices) {
  if (std::ranges::find(choices, value) != choices.end()) return {};
  return fail("invalid value '{}' of option '{}'{}", value, key, choice_hint(value, choices));
}

Result<> apply_qcow2(Target& target, const std::string& key, const std::string& value) {
  auto& options = target.qcow2;
  if (key == "cluster_size") {
    options.cluster_size = LIMEN_TRY(block::parse_byte_size(value));
  } else if (key == "compat") {
    LIMEN_TRY(check_choice(key, value, kCompats));
    options.version = value == "0.10" || value == "v2" ? 2 : 3;
  } else if (key == "compression_type") {
    LIMEN_TRY(check_choice(key, value, kCompressions));
    options.compression =
        value == "zstd" ? block::qcow2::Compression::kZstd : block::qcow2::Compression::kZlib;
  } else if (key == "data_file") {
    options.data_file = value;
  } else if (key == "data_file_raw") {
    options.data_file_raw = LIMEN_TRY(parse_switch(key, value));
  } else if (key == "extended_l2") {
    options.extended_l2 = LIMEN_TRY(parse_switch(key, value));
  } else if (key == "lazy_refcounts") {
    options.lazy_refcounts = LIMEN_TRY(parse_switch(key, value));
  } else if (key == "refcount_bits") {
    const auto [end, error] =
        std::from_chars(value.data(), value.data() + value.size(), options.refcount_bits);
    if (error != std::errc() || end != value.data() + value.size())
      return fail("parameter 'refcount_bits' expects a number, not '{}'", value);
  } else if (key == "backing_file") {
    options.backing_file = value;
  } else if (key == "backing_fmt") {
    options.backing_format = value;
  } else if (key.starts_with("encrypt")) {
    return fail("option '{}': encrypted images are not supported", key);
  } else {
    std::vector<std::string_view> names;
    names.reserve(std::size(kQcow2Options));
    for (const auto& option : kQcow2Options)
      names.push_back(option.name.substr(0, option.name.find('=')));
    return fail("invalid parameter '{}'{}", key, choice_hint(key, names));
  }
  return {};
}

Result<> make_qcow2(const std::string& path, const Target& target) {
  const auto& options = target.qcow2;
  LIMEN_TRY(block::qcow2::check_options(options));
  const bool preallocates = target.preallocation != "off";
  if (preallocates && !options.backing_file.empty() && !options.extended_l2)
    return fail(
        "preallocation={}: backing file and preallocation can only be used at the same time if "
        "extended_l2 is enabled",
        target.preallocation);
  if (!options.data_file.empty()) {
    LIMEN_TRY(block::create_image(options.data_file,
                                  options.data_file_raw || preallocates ? options.size : 0));
  }
  // An empty file first, taken away again when what follows fails.
  const bool existed = ::access(path.c_str(), F_OK) == 0;
  const auto fill = [&]() -> Result<> {
    LIMEN_TRY(block::create_image(path, 0));
    {
      const auto file =
          LIMEN_TRY(block::FileLayer::open(path, {.cache = block::CacheMode::kUnsafe}));
      LIMEN_TRY(block::qcow2::create(*file, options));
    }
    if (!preallocates) return {};
    const auto image = LIMEN_TRY(block::open_qcow2(
        path, {.file = {.cache = block::CacheMode::kUnsafe}, .with_backing = false}));
    return image->preallocate(0, target.preallocation == "falloc", target.preallocation == "full");
  };
  auto filled = fill();
  if (!filled && !existed) ::unlink(path.c_str());
  return filled;
}

Result<> make_raw(const std::string& path, const Target& target) {
  LIMEN_TRY(block::create_image(path, target.qcow2.size));
  if (target.preallocation == "off") return {};
  const auto file = LIMEN_TRY(block::FileLayer::open(path, {}));
  const int error = target.preallocation == "falloc"
                        ? file->preallocate(0, target.qcow2.size)
                        : file->write_zeroes(0, target.qcow2.size, false);
  if (error != 0) return fail_errno(error, fmt::format("preallocating image '{}'", path));
  return {};
}

}  // namespace

Result<Target> parse_target(const std::string& format, const std::vector<std::string>& options) {
  Target target;
  target.format = format;
  LIMEN_TRY(block::check_format_supported(format, "(new)"));
  for (const auto& [key, value] : LIMEN_TRY(parse_options(options))) {
    if (key == "size") {
      target.qcow2.size = LIMEN_TRY(block::parse_image_size(value));
      target.has_size = true;
    } else if (key == "preallocation") {
      LIMEN_TRY(format == "raw" ? check_choice(key, value, kRawPreallocations)
                                : check_choice(key, value, kPreallocations));
      target.preallocation = value;
    } else if (format == "raw") {
      return fail("invalid parameter '{}' for format 'raw'; valid choices: preallocation, size",
                  key);
    } else {
      LIMEN_TRY(apply_qcow2(target, key, value));
    }
  }
  return target;
}

Result<> make_image(const std::string& path, const Target& target) {
  return target.format == "qcow2" ? make_qcow2(path, target) : make_raw(path, target);
}

std::string describe_target(const Target& target) {
  const auto on_off = [](bool on) { return on ? "on" : "off"; };
  const auto& options = target.qcow2;
  if (target.format == "raw") {
    const auto room = target.preallocation == "off" ? "" : " preallocation=" + target.preallocation;
    return fmt::format("fmt=raw size={}{}", options.size, room);
  }
  std::string text = "fmt=qcow2";
  if (options.version < 3) text += " compat=0.10";
  text += fmt::format(" cluster_size={} extended_l2={}", options.cluster_size,
                      on_off(options.extended_l2));
  if (target.preallocation != "off") text += " preallocation=" + target.preallocation;
  text += fmt::format(" compression_type={} size={}",
                      options.compression == block::qcow2::Compression::kZstd ? "zstd" : "zlib",
                      options.size);
  if (!options.backing_file.empty()) text += " backing_file=" + options.backing_file;
  if (!options.backing_format.empty()) text += " backing_fmt=" + options.backing_format;
  if (!options.data_file.empty()) text += " data_file=" + options.data_file;
  if (options.data_file_raw) text += " data_file_raw=on";
  return text + fmt::format(" lazy_refcounts={} refcount_bits={}", on_off(options.lazy_refcounts),
                            options.refcount_bits);
}

std::string describe_options(const std::string& format) {
  std::string text = fmt::format("Supported {} options:\n", format);
  const auto add = [&text](std::span<const OptionHelp> options) {
    for (const auto& option : options)
      text += fmt::format("  {:<22} - {}\n", option.name, option.text);
  };
  if (format == "raw")
    add(kRawOptions);
  else
    add(kQcow2Options);
  return text;
}

}  // namespace limen::cli::image
