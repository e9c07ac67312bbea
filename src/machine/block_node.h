// Block nodes as -blockdev and QMP's blockdev-add describe them.
//
// A node that stands before another (a format before a file, a filter before a format) takes over
// what that one says: the chain becomes one DriveDescription, which is opened as a whole.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "machine/description.h"

namespace limen::machine {

/// What is there already.
struct NodeSurroundings {
  /// The drive or node with that id or name, whatever has it; null: there is none.
  std::function<const DriveDescription*(const std::string& name)> find;
  std::function<bool(const std::string& id)> has_throttle_group;
};

struct ParsedNode {
  DriveDescription description = {};
  /// Nodes that are there already and that this one has from now on.
  std::vector<std::string> children = {};
};

/// `options`: an object as blockdev-add takes it; booleans and numbers may be given as text. Errors
/// are worded as QEMU's.
Result<ParsedNode> parse_node(const nlohmann::json& options, const NodeSurroundings& surroundings);

/// key=value pairs with dotted keys as the object that means the same.
Result<nlohmann::json> nested_options(
    const std::vector<std::pair<std::string, std::string>>& pairs);

/// Where an image is, without "file:"; fails for other protocols.
Result<std::string> plain_image_path(const std::string& file);

}  // namespace limen::machine
