#include "cli/host/processor.h"

#include <cpuid.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <sstream>
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

std::string bytes_of(std::initializer_list<uint32_t> registers) {
  std::string bytes;
  for (const uint32_t part : registers)
    bytes.append(reinterpret_cast<const char*>(&part), sizeof part);
  return bytes;
}

std::string brand() {
  constexpr uint32_t kFirst = 0x8000'0002, kLast = 0x8000'0004;
  std::string bytes;
  for (uint32_t leaf = kFirst; leaf <= kLast; ++leaf) {
    const Answer part = cpuid(leaf);
    bytes += bytes_of({part[kEax], part[kEbx], part[kEcx], part[kEdx]});
  }
  return brand_of(bytes);
}

std::string signature_in(uint32_t leaf) {
  Answer answer{};
  __cpuid(leaf, answer[kEax], answer[kEbx], answer[kEcx], answer[kEdx]);
  return bytes_of({answer[kEbx], answer[kEcx], answer[kEdx]});
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

const Hypervisor* find_hypervisor(std::string_view signature) {
  const auto* known = std::ranges::find(kHypervisors, signature, &Hypervisor::signature);
  return known == kHypervisors.end() ? nullptr : known;
}

std::string hypervisor_name(const std::string& signature) {
  if (const auto* known = find_hypervisor(signature)) return std::string(known->name);
  return signature.empty() ? "an unknown hypervisor" : signature;
}

std::string_view without_zeros(std::string_view bytes) {
  return bytes.substr(0, bytes.find_last_not_of('\0') + 1);
}

/// The flag's name, as in /proc/cpuinfo; empty: it has neither.
std::string_view virtualization_flag(const Processor& processor) {
  if (processor.vmx) return kVmx.name;
  return processor.svm ? kSvm.name : std::string_view();
}

Finding virtualization(const HostFiles& files, const Processor& processor) {
  Finding finding{.key = "virtualization", .name = "virtualization", .value = nullptr, .text = {}};
  const auto flag = virtualization_flag(processor);
  const bool off = switched_off(files, processor);
  if (!flag.empty() && !off) {
    finding.value = flag;
    finding.text = processor.vmx ? "vmx (VT-x)" : "svm (AMD-V)";
    return finding;
  }
  finding.text =
      off ? fmt::format("{}, but the firmware has it switched off", flag) : "neither vmx nor svm";
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

std::string brand_of(std::string_view bytes) {
  std::string name(bytes.substr(0, bytes.find('\0')));
  name.erase(0, name.find_first_not_of(' '));
  name.erase(name.find_last_not_of(' ') + 1);
  return name;
}

std::string hypervisor_signature(std::string_view first, std::string_view second) {
  first = without_zeros(first);
  second = without_zeros(second);
  constexpr auto kPrintable = [](char byte) { return byte >= ' ' && byte <= '~'; };
  if (!std::ranges::all_of(first, kPrintable)) return {};
  // Others offer Hyper-V's interface in front of their own.
  const bool behind = first == "Microsoft Hv" && find_hypervisor(second) != nullptr;
  return std::string(behind ? second : first);
}

bool switched_off(const HostFiles& files, const Processor& processor) {
  const auto flag = virtualization_flag(processor);
  if (flag.empty()) return false;
  std::istringstream lines(files.read("proc/cpuinfo").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;)
      if (word == flag) return false;
    return true;
  }
  return false;
}

Processor read_processor() {
  Processor processor;
  processor.name = brand();
  const Answer first = cpuid(0);
  processor.vendor = without_zeros(bytes_of({first[kEbx], first[kEdx], first[kEcx]}));
  for (const auto& feature : kFeatures)
    if (has(feature)) processor.features.emplace_back(feature.name);
  processor.vmx = has(kVmx);
  processor.svm = has(kSvm);
  processor.virtual_machine = has(kHypervisor);
  if (processor.virtual_machine)
    processor.hypervisor_signature =
        hypervisor_signature(signature_in(0x4000'0000), signature_in(0x4000'0100));
  processor.invariant_tsc = has(kInvariantTsc);
  processor.tsc_hz = host_tsc_hz();
  processor.memory = machine::host_memory();
  return processor;
}

Findings processor_findings(const HostFiles& files, const Processor& processor) {
  return {
      {.key = "processor", .name = "name", .value = processor.name, .text = processor.name},
      {.key = "features",
       .name = "features",
       .value = processor.features,
       .text = fmt::format("{}", fmt::join(processor.features, " "))},
      virtualization(files, processor),
      virtual_machine(processor),
      time_stamps(processor),
      {.key = "memory",
       .name = "memory",
       .value = processor.memory,
       .text = machine::describe_size(processor.memory)},
  };
}

}  // namespace limen::cli::host
