#include <fmt/format.h>

#include <cmath>
#include <cstdio>

#include "block/image_tool.h"
#include "block/probe.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {

Result<block::LayerOptions> layer_options(const Opening& opening) {
  block::LayerOptions options;
  options.format = opening.format;
  options.with_backing = opening.with_backing;
  options.file.read_only = !opening.write;
  options.file.lock = !opening.share;
  options.file.cache = LIMEN_TRY(block::parse_cache_mode(opening.cache));
  return options;
}

Result<std::unique_ptr<block::Layer>> open(const std::string& path, const Opening& opening) {
  return block::open_layer(path, LIMEN_TRY(layer_options(opening)));
}

void Progress::show(uint64_t done, uint64_t all) {
  if (!on_) return;
  const int hundredths =
      all == 0 ? 10000 : static_cast<int>(static_cast<double>(done) * 10000.0 / static_cast<double>(all));
  if (hundredths == last_) return;
  last_ = hundredths;
  fmt::print("    ({:.2f}/100%)\r", hundredths / 100.0);
  std::fflush(stdout);
}

void Progress::end() {
  if (!on_) return;
  show(1, 1);
  fmt::print("\n");
}

std::string human_size(uint64_t bytes) { return block::human_size(bytes); }

}  // namespace limen::cli::image
