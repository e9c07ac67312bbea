// Programs of the host's that set up a network: the scripts of a tap device, the helper of a
// bridge.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace limen::net {

/// Runs a program by its path to its end; fails unless its status is 0. `inherited`: a descriptor
/// that it has under the same number, and no other but the standard ones.
Result<> run_host_program(const std::string& what, std::vector<std::string> words,
                          std::optional<int> inherited = std::nullopt);

/// A tap device on bridge `bridge` from `helper`, which has the privilege that this process lacks:
/// it is told the bridge and one end of a socket, and sends the device's descriptor through it
/// (qemu-bridge-helper's protocol). A helper with blanks is a command for the shell.
Result<UniqueFd> ask_bridge_helper(const std::string& helper, const std::string& bridge,
                                   bool header);

}  // namespace limen::net
