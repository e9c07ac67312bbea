// The disks of a machine as monitors show them: what the board has now.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace limen::machine {
class Machine;
struct Drive;
}  // namespace limen::machine

namespace limen::monitor {

/// Drives and nodes that are not a part of another node.
[[nodiscard]] std::vector<machine::Drive*> drives_of(machine::Machine& machine);
/// Whether a drive is more than a node: a -drive, or a device's.
[[nodiscard]] bool is_backend(const machine::Drive& drive);
/// "" for a drive that is a node's.
[[nodiscard]] std::string backend_name(const machine::Drive& drive);

/// An element of query-block.
[[nodiscard]] nlohmann::json backend_info(const machine::Drive& drive);
/// Elements of query-named-block-nodes: the drive's node, and those below it that have a name.
/// `flat`: without the images that lie behind.
void add_node_infos(const machine::Drive& drive, bool flat, nlohmann::json& all);

}  // namespace limen::monitor
