// The processor, as CPUID describes it, and what stands beside it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/host/finding.h"

namespace limen::cli::host {

struct Processor {
  std::string name = {};
  std::string vendor = {};  ///< "GenuineIntel", "AuthenticAMD".
  std::vector<std::string> features = {};
  bool vmx = false;
  bool svm = false;
  bool virtual_machine = false;           ///< CPUID.1:ECX[31].
  std::string hypervisor_signature = {};  ///< CPUID.40000000H:EBX,ECX,EDX.
  bool invariant_tsc = false;
  uint64_t tsc_hz = 0;
  uint64_t memory = 0;  ///< Bytes.

  [[nodiscard]] bool is_amd() const { return vendor == "AuthenticAMD" || vendor == "HygonGenuine"; }
};

/// Of this host.
[[nodiscard]] Processor read_processor();

[[nodiscard]] Findings processor_findings(const Processor& processor);

}  // namespace limen::cli::host
