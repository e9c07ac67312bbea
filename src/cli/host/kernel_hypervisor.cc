#include "cli/host/kernel_hypervisor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "kvm/kernel.h"

namespace limen::cli::host {
namespace {

constexpr std::string_view kDevice = "dev/kvm";

struct Capability {
  unsigned long number;
  std::string_view name;
};
/// What makes machines faster or more whole; all but the first have another way.
constexpr std::array kCapabilities = {
    Capability{KVM_CAP_IMMEDIATE_EXIT, "immediate_exit"},
    Capability{KVM_CAP_IRQCHIP, "irqchip"},
    Capability{KVM_CAP_SPLIT_IRQCHIP, "split_irqchip"},
    Capability{KVM_CAP_PIT2, "pit2"},
    Capability{KVM_CAP_IRQFD, "irqfd"},
    Capability{KVM_CAP_IRQFD_RESAMPLE, "irqfd_resample"},
    Capability{KVM_CAP_IOEVENTFD, "ioeventfd"},
    Capability{KVM_CAP_SIGNAL_MSI, "signal_msi"},
    Capability{KVM_CAP_READONLY_MEM, "readonly_mem"},
    Capability{KVM_CAP_COALESCED_MMIO, "coalesced_mmio"},
    Capability{KVM_CAP_TSC_DEADLINE_TIMER, "tsc_deadline_timer"},
    Capability{KVM_CAP_X2APIC_API, "x2apic_api"},
    Capability{KVM_CAP_XSAVE2, "xsave2"},
    Capability{KVM_CAP_DIRTY_LOG_RING, "dirty_log_ring"},
    Capability{KVM_CAP_NESTED_STATE, "nested_state"},
    Capability{KVM_CAP_X86_SMM, "x86_smm"},
    Capability{KVM_CAP_SET_GUEST_DEBUG, "set_guest_debug"},
    Capability{KVM_CAP_HALT_POLL, "halt_poll"},
};

std::vector<std::string> modules_of(const HostFiles& files) {
  auto modules = files.list("sys/module");
  std::erase_if(modules, [](const auto& name) { return !name.starts_with("kvm"); });
  return modules;
}

Finding modules(const HostFiles& files, const Processor& processor) {
  const auto names = modules_of(files);
  Finding finding{.key = "kvm-modules",
                  .name = "modules",
                  .value = names,
                  .text = fmt::format("{}", fmt::join(names, " "))};
  if (names.empty()) {
    const bool amd = processor.is_amd();
    finding.text = "none";
    finding.verdict = Verdict::kMissing;
    finding.advice = processor.vmx || processor.svm
                         ? fmt::format("sudo modprobe {}", amd ? "kvm_amd" : "kvm_intel")
                         : "of no use without vmx or svm";
  } else if (names.size() == 1 && !files.exists(kDevice)) {
    finding.verdict = Verdict::kWarning;
    finding.advice = fmt::format("kvm alone runs nothing: sudo modprobe {}",
                                 processor.is_amd() ? "kvm_amd" : "kvm_intel");
  }
  return finding;
}

/// One for each module that can nest.
Findings nesting(const HostFiles& files) {
  Findings findings;
  for (const auto& module : modules_of(files)) {
    const auto text = files.read("sys/module/" + module + "/parameters/nested");
    if (!text) continue;
    const bool on = *text == "Y" || *text == "1";
    Finding finding{.key = "nested-" + module,
                    .name = "nesting of " + module,
                    .value = on,
                    .text = on ? "on" : "off"};
    if (!on) {
      finding.verdict = Verdict::kWarning;
      finding.advice = fmt::format(
          "only guests that run machines themselves need it: options {} nested=1 in "
          "/etc/modprobe.d, then load the module again",
          module);
    }
    findings.push_back(std::move(finding));
  }
  return findings;
}

Finding device(const HostFiles& files, const kvm::Choice& choice) {
  Finding finding{.key = "kvm-device", .name = "device", .value = "/dev/kvm", .text = "/dev/kvm"};
  const auto access = files.access(kDevice);
  if (!access.there()) {
    finding.value = nullptr;
    finding.text = "/dev/kvm is not there";
    finding.verdict = Verdict::kMissing;
    finding.advice = modules_of(files).size() > 1
                         ? "the kernel has it: a container wants --device /dev/kvm"
                         : "it comes with kvm_intel or kvm_amd";
  } else if (!access.granted()) {
    finding.value = nullptr;
    finding.text = fmt::format("/dev/kvm may not be opened by this user: {} (group {})",
                               std::strerror(access.error), access.group);
    finding.verdict = Verdict::kMissing;
    finding.advice = advice_on(access, "/dev/kvm");
  } else if (choice.device == nullptr) {
    finding.value = nullptr;
    finding.text = choice.why_not;
    finding.verdict = Verdict::kMissing;
    finding.advice = "it is not what kvm.ko makes, or another hypervisor holds the processor";
  } else {
    finding.text = fmt::format("/dev/kvm, which this user may open (group {})", access.group);
  }
  return finding;
}

Finding api(const kvm::Device&) {
  // Another does not get as far as a device.
  return {.key = "kvm-api-version",
          .name = "API version",
          .value = kvm::Device::kApiVersion,
          .text = std::to_string(kvm::Device::kApiVersion)};
}

Finding capabilities(const kvm::Device& kvm) {
  Finding finding{.key = "kvm-capabilities",
                  .name = "capabilities",
                  .value = nlohmann::ordered_json::object(),
                  .text = {}};
  std::vector<std::string_view> absent;
  for (const auto& capability : kCapabilities) {
    const int extension = kvm.extension(capability.number);
    finding.value[std::string(capability.name)] = extension;
    if (extension == 0) absent.push_back(capability.name);
  }
  finding.text =
      fmt::format("{} of {}", kCapabilities.size() - absent.size(), kCapabilities.size());
  if (absent.empty()) return finding;
  finding.text += fmt::format("; not there: {}", fmt::join(absent, " "));
  finding.verdict = Verdict::kWarning;
  finding.advice = "machines do without these; a newer kernel or another module may have them";
  return finding;
}

Finding probe(const kvm::ProbeResult& result) {
  Finding finding{.key = "kvm-probe",
                  .name = "probe guest",
                  .value = {{"runs", result.runs},
                            {"usable", result.usable()},
                            {"kernel-rate", result.kernel_rate},
                            {"user-rate", result.user_rate},
                            {"native-rate", result.native_rate},
                            {"breakpoint", result.breakpoint},
                            {"system-call", result.system_call}},
                  .text = fmt::format("ring 0: {} instructions a second, ring 3: {}, native: {}",
                                      kvm::describe_rate(result.kernel_rate),
                                      kvm::describe_rate(result.user_rate),
                                      kvm::describe_rate(result.native_rate))};
  if (!result.trouble.empty()) {
    finding.value["trouble"] = result.trouble;
    finding.text += "; " + result.trouble;
  }
  if (result.usable()) return finding;
  finding.verdict = result.runs ? Verdict::kWarning : Verdict::kMissing;
  finding.advice = result.runs ? "what is behind /dev/kvm runs user programs, not an unmodified "
                                 "kernel; -accel soft does"
                               : "no guest runs on it; -accel soft does";
  return finding;
}

}  // namespace

Findings kvm_findings(const HostFiles& files, const Processor& processor,
                      const kvm::Choice& choice) {
  Findings findings{modules(files, processor)};
  for (auto& finding : nesting(files)) findings.push_back(std::move(finding));
  findings.push_back(device(files, choice));
  if (choice.device != nullptr) {
    findings.push_back(api(*choice.device));
    findings.push_back(capabilities(*choice.device));
  }
  if (choice.probe) findings.push_back(probe(*choice.probe));
  return findings;
}

}  // namespace limen::cli::host
