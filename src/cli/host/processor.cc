#include "cli/host/processor.h"

#include <cpuid.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/host_tsc.h"
#include "machine/host_limits.h"

namespace limen::cli::host {
namespace {

enum Register : uint8_t { kEax, kEbx, kEcx, kEdx };

struct Feature {
  std::string_view name;
  uint32_t leaf;
  Register in;
  unsigned bit;
};
/// SDM Vol. 2A, CPUID; APM Vol. 3 appendix E.
constexpr std::array kFeatures = {
    Feature{"sse4_2", 1, kEcx, 20},
    Feature{"aes", 1, kEcx, 25},
    Feature{"avx", 1, kEcx, 28},
    Feature{"avx2", 7, kEbx, 5},
    Feature{"bmi2", 7, kEbx, 8},
    Feature{"sha", 7, kEbx, 29},
    Feature{"avx512f", 7, kEbx, 16},
    Feature{"avx512bw", 7, kEbx, 30},
    Feature{"avx512_vnni", 7, kEcx, 11},
    Feature{"fsgsbase", 7, kEbx, 0},
    Feature{"rdrand", 1, kEcx, 30},
    Feature{"rdseed", 7, kEbx, 18},
    Feature{"pdpe1gb", 0x8000'0001, kEdx, 26},
};
constexpr Feature kVmx{"vmx", 1, kEcx, 5};
constexpr Feature kSvm{"svm", 0x8000'0001, kEcx, 2};
constexpr Feature kHypervisor{"hypervisor", 1, kEcx, 31};
constexpr Feature kInvariantTsc{"nonstop_tsc", 0x8000'0007, kEdx, 8};

using Answer = std::array<uint32_t, 4>;

Answer cpuid(uint32_t leaf) {
  Answer answer{};
  if (__get_cpuid_max(leaf & 0x8000'0000, nullptr) < leaf) return answer;
  __cpuid_count(leaf, 0, answer[kEax], answer[kEbx], answer[kEcx], answer[kEdx]);
  return answer;
}

bool has(const Feature& feature) {
  return (cpuid(feature.leaf).at(feature.in) >> feature.bit & 1) != 0;
}

std::string text_of(std::initializer_list<uint32_t> registers) {
  std::string text;
  for (const uint32_t part : registers)
    text.append(reinterpret_cast<const char*>(&part), sizeof part);
  return text.c_str();
}

std::string brand() {
  constexpr uint32_t kFirst = 0x8000'0002, kLast = 0x8000'0004;
  std::string name;
  for (uint32_t leaf = kFirst; leaf <= kLast; ++leaf) {
    const Answer part = cpuid(leaf);
    name += text_of({part[kEax], part[kEbx], part[kEcx], part[kEdx]});
  }
  name.erase(0, name.find_first_not_of(' '));
  return name;
}

struct Hypervisor {
  std::string_view signature;
  std::string_view name;
};
constexpr std::array kHypervisors = {
    Hypervisor{"KVMKVMKVM", "KVM"},           Hypervisor{"Linux KVM Hv", "KVM"},
    Hypervisor{"TCGTCGTCGTCG", "QEMU's TCG"}, Hypervisor{"Microsoft Hv", "Hyper-V"},
    Hypervisor{"VMwareVMware", "VMware"},     Hypervisor{"XenVMMXenVMM", "Xen"},
    Hypervisor{"VBoxVBoxVBox", "VirtualBox"}, Hypervisor{"bhyve bhyve ", "bhyve"},
    Hypervisor{"ACRNACRNACRN", "ACRN"},
};

std::string hypervisor_name(const std::string& signature) {
  const auto* known = std::ranges::find(kHypervisors, signature, &Hypervisor::signature);
  if (known != kHypervisors.end()) return std::string(known->name);
  return signature.empty() ? "an unknown hypervisor" : signature;
}

Finding virtualization(const Processor& processor) {
  Finding finding{.key = "virtualization", .name = "virtualization", .value = nullptr, .text = {}};
  if (processor.vmx || processor.svm) {
    finding.value = processor.vmx ? "vmx" : "svm";
    finding.text = processor.vmx ? "vmx (VT-x)" : "svm (AMD-V)";
    return finding;
  }
  finding.text = "neither vmx nor svm";
  finding.verdict = Verdict::kMissing;
  finding.advice =
      processor.virtual_machine
          ? "have the hypervisor around this machine offer nested virtualization (KVM: nested=1 of "
            "kvm_intel or kvm_amd, and -cpu host), or take an instance type that has it"
          : fmt::format("switch on {} in the firmware's set-up",
                        processor.is_amd() ? "AMD-V (SVM)" : "VT-x");
  return finding;
}

Finding virtual_machine(const Processor& processor) {
  Finding finding{
      .key = "virtual-machine", .name = "virtual machine", .value = nullptr, .text = "no"};
  if (!processor.virtual_machine) return finding;
  const auto name = hypervisor_name(processor.hypervisor_signature);
  finding.value = name;
  finding.text = fmt::format("yes, of {}", name);
  return finding;
}

Finding time_stamps(const Processor& processor) {
  Finding finding{.key = "tsc",
                  .name = "time stamps",
                  .value = {{"hz", processor.tsc_hz}, {"invariant", processor.invariant_tsc}},
                  .text = fmt::format("{:.3f} GHz{}", static_cast<double>(processor.tsc_hz) / 1e9,
                                      processor.invariant_tsc ? ", invariant" : ", not invariant")};
  if (!processor.invariant_tsc) {
    finding.verdict = Verdict::kWarning;
    finding.advice = "guests' clocks may drift where the host changes its frequency or sleeps";
  }
  return finding;
}

}  // namespace

Processor read_processor() {
  Processor processor;
  processor.name = brand();
  const Answer first = cpuid(0);
  processor.vendor = text_of({first[kEbx], first[kEdx], first[kEcx]});
  for (const auto& feature : kFeatures)
    if (has(feature)) processor.features.emplace_back(feature.name);
  processor.vmx = has(kVmx);
  processor.svm = has(kSvm);
  processor.virtual_machine = has(kHypervisor);
  if (processor.virtual_machine) {
    Answer leaf{};
    __cpuid(0x4000'0000, leaf[kEax], leaf[kEbx], leaf[kEcx], leaf[kEdx]);
    processor.hypervisor_signature = text_of({leaf[kEbx], leaf[kEcx], leaf[kEdx]});
  }
  processor.invariant_tsc = has(kInvariantTsc);
  processor.tsc_hz = host_tsc_hz();
  processor.memory = machine::host_memory();
  return processor;
}

Findings processor_findings(const Processor& processor) {
  return {
      {.key = "processor", .name = "name", .value = processor.name, .text = processor.name},
      {.key = "features",
       .name = "features",
       .value = processor.features,
       .text = fmt::format("{}", fmt::join(processor.features, " "))},
      virtualization(processor),
      virtual_machine(processor),
      time_stamps(processor),
      {.key = "memory",
       .name = "memory",
       .value = processor.memory,
       .text = machine::describe_size(processor.memory)},
  };
}

}  // namespace limen::cli::host
