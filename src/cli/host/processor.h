// The processor, as CPUID describes it, and what stands beside it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cli/host/finding.h"
#include "cli/host/host_files.h"

namespace limen::cli::host {

struct Processor {
  std::string name = {};
  std::string vendor = {};  ///< "GenuineIntel", "AuthenticAMD".
  std::vector<std::string> features = {};
  bool vmx = false;
  bool svm = false;
  bool virtual_machine = false;           ///< CPUID.1:ECX[31].
  std::string hypervisor_signature = {};  ///< As hypervisor_signature() has it.
  bool invariant_tsc = false;
  uint64_t tsc_hz = 0;
  uint64_t memory = 0;  ///< Bytes.

  [[nodiscard]] bool is_amd() const { return vendor == "AuthenticAMD" || vendor == "HygonGenuine"; }
};

/// Of this host.
[[nodiscard]] Processor read_processor();

/// The name in CPUID.80000002H to 80000004H, all their bytes in order.
[[nodiscard]] std::string brand_of(std::string_view bytes);
/// Of the EBX, ECX and EDX of CPUID.40000000H and of CPUID.40000100H. Empty: no hypervisor's; not
/// every hypervisor has the leaves, and the processor then answers with those of another.
[[nodiscard]] std::string hypervisor_signature(std::string_view first, std::string_view second);

/// The processor has VT-x or AMD-V, and the firmware has it switched off: Linux then takes the flag
/// out of /proc/cpuinfo, which CPUID keeps.
[[nodiscard]] bool switched_off(const HostFiles& files, const Processor& processor);

[[nodiscard]] Findings processor_findings(const HostFiles& files, const Processor& processor);

}  // namespace limen::cli::host
