// What `limen image seed` and `limen run` take for images that cloud-init sets up.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace limen::cli {

struct SeedWords {
  std::string user_data, meta_data, network_config, vendor_data;  ///< Paths; empty: not given.
  std::string host_name;

  [[nodiscard]] bool given() const;
};

void add_seed_options(CLI::App& command, SeedWords& words);

/// The seed that the files make, as an image.
Result<std::vector<uint8_t>> make_seed(const SeedWords& words);
/// Writes it to a new file, or over an existing one.
Result<> write_seed(const SeedWords& words, const std::string& path);
/// Keeps it in memory.
Result<UniqueFd> seed_in_memory(const SeedWords& words);

/// What a kernel should take for its root with this disk as /dev/vda: "/dev/vda", or, if it has a
/// partition table, "PARTUUID=" and the root partition's.
Result<std::string> root_on(const std::string& disk);

}  // namespace limen::cli
