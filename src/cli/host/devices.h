// What the host has for guests' devices: IOMMU, tap interfaces, vhost-net.
#pragma once

#include "cli/host/finding.h"
#include "cli/host/host_files.h"
#include "cli/host/processor.h"

namespace limen::cli::host {

[[nodiscard]] Findings device_findings(const HostFiles& files, const Processor& processor);

}  // namespace limen::cli::host
