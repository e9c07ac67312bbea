// What the host's kernel gives processes that hold guests' memory: huge pages, locked memory,
// mappings, userfaultfd.
#pragma once

#include <functional>

#include "cli/host/finding.h"
#include "cli/host/host_files.h"

namespace limen::cli::host {

/// userfaultfd(2) with these flags: 0, or its errno.
using TryUserfaultfd = std::function<int(int flags)>;
/// On this host.
[[nodiscard]] int try_userfaultfd(int flags);

[[nodiscard]] Findings memory_findings(const HostFiles& files, const TryUserfaultfd& userfaultfd);

}  // namespace limen::cli::host
