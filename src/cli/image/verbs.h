// The verbs of limen-img, one file each.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "block/open_image.h"
#include "block/qcow2/create.h"
#include "cli/image/words.h"

namespace limen::cli::image {

struct Verb {
  std::string_view name;
  std::string_view usage;    ///< Behind the name.
  std::string_view summary;  ///< One line.
  std::string_view details;  ///< What --help of the verb says about its options.
  std::span<const Flag> flags;
  Result<int> (*run)(const Words& words);  ///< The exit status.
};

extern const Verb kCreate, kInfo, kCheck, kConvert, kResize, kRebase, kCommit, kCompare, kSnapshot,
    kMap, kMeasure, kBench, kDd, kSeed;

// What several verbs share.

inline constexpr Flag kHelpFlag = {"-h", "--help", false};
inline constexpr Flag kFormatFlag = {"-f", "--format", true};
inline constexpr Flag kQuietFlag = {"-q", "--quiet", false};
inline constexpr Flag kShareFlag = {"-U", "--force-share", false};
inline constexpr Flag kOutputFlag = {"", "--output", true};
inline constexpr Flag kCacheFlag = {"-t", "", true};
inline constexpr Flag kSourceCacheFlag = {"-T", "", true};
inline constexpr Flag kProgressFlag = {"-p", "", false};

/// Opens an image to read it, or to write it, as -f, -U and the cache option say. A format that was
/// not given is what the file says of itself.
struct Opening {
  std::string format = {};
  bool write = false;
  bool share = false;
  std::string cache = "writeback";
  bool with_backing = true;
};
Result<std::unique_ptr<block::Layer>> open(const std::string& path, const Opening& opening);
Result<block::LayerOptions> layer_options(const Opening& opening);

/// What -o of create and convert says about a new image.
struct Target {
  std::string format = "raw";
  block::qcow2::CreateOptions qcow2 = {};
  std::string preallocation = "off";  ///< off, metadata, falloc, full.
  bool has_size = false;
};
Result<Target> parse_target(const std::string& format, const std::vector<std::string>& options);
/// Makes the image (an existing file is emptied). The backing file is not looked at.
Result<> make_image(const std::string& path, const Target& target);
/// "fmt=qcow2 cluster_size=65536 ..." as qemu-img create prints it.
std::string describe_target(const Target& target);
/// What `-o help` prints.
std::string describe_options(const std::string& format);

/// Prints "    (12.34/100%)" over itself when `on`.
class Progress {
 public:
  explicit Progress(bool on) : on_(on) {}
  void show(uint64_t done, uint64_t all);
  void end();

 private:
  bool on_;
  int last_ = -1;
};

/// As qemu-img prints numbers of bytes: "1.5 GiB".
std::string human_size(uint64_t bytes);

}  // namespace limen::cli::image
