// The kernel's own hypervisor: modules, device, capabilities, and what the probe guest found.
#pragma once

#include "cli/host/finding.h"
#include "cli/host/host_files.h"
#include "cli/host/processor.h"
#include "kvm/choice.h"

namespace limen::cli::host {

/// `choice`: of the device below the same root.
[[nodiscard]] Findings kvm_findings(const HostFiles& files, const Processor& processor,
                                    const kvm::Choice& choice);

}  // namespace limen::cli::host
