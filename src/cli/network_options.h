// What `limen run` takes for the guest's network.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "machine/description.h"

namespace limen::cli {

struct NetworkWords {
  std::string network = "user";        ///< "none", or as QEMU's -netdev has it without an id.
  std::vector<std::string> published;  ///< [ADDRESS:]PORT:GUEST_PORT[/udp].
};

void add_network_options(CLI::App& command, NetworkWords& words);

/// Adds a virtio network card and what stands behind it.
Result<> describe_network(const NetworkWords& words, machine::MachineDescription& description);

}  // namespace limen::cli
