// How internal snapshots are printed, by info and by snapshot -l.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "block/qcow2/image.h"

namespace limen::cli::image {

std::string list_snapshots(const block::qcow2::Image& image);
nlohmann::ordered_json describe_snapshot(const block::qcow2::Snapshot& snapshot);

}  // namespace limen::cli::image
