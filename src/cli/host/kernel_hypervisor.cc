#include "cli/host/kernel_hypervisor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <string_view>

#include "kvm/kernel.h"

namespace limen::cli::host {
namespace {

constexpr std::string_view kDevice = "dev/kvm";
constexpr std::string_view kRemake = "modprobe kvm_intel or kvm_amd, or mknod /dev/kvm c 10 232";

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

/// The module that runs guests, as kvm_intel; empty: none, and kvm alone runs nothing.
std::string back_end(const HostFiles& files) {
  for (const auto& name : modules_of(files))
    if (name.starts_with("kvm_")) return name;
  return {};
}

/// The kernel's list of devices has it, whether or not this process has a file for it.
bool kernel_has_device(const HostFiles& files) {
  std::istringstream lines(files.read("proc/misc").value_or(""));
  unsigned minor = 0;
  for (std::string name; lines >> minor >> name;)
    if (name == "kvm") return true;
  return false;
}

std::string how_to_load(const HostFiles& files, const Processor& processor) {
  if (!processor.vmx && !processor.svm) return "of no use without vmx or svm";
  if (switched_off(files, processor))
    return fmt::format("of no use until {} is switched on", processor.vmx ? "vmx" : "svm");
  return fmt::format("sudo modprobe {}", processor.is_amd() ? "kvm_amd" : "kvm_intel");
}

Finding modules(const HostFiles& files, const Processor& processor, const kvm::Choice& choice) {
  const auto names = modules_of(files);
  Finding finding{.key = "kvm-modules",
                  .name = "modules",
                  .value = names,
                  .text = fmt::format("{}", fmt::join(names, " "))};
  if (names.empty()) finding.text = "none";
  const bool hidden = !files.exists("sys/module");
  if (hidden) finding = unknown(finding, "sys/module");
  if (choice.device != nullptr || kernel_has_device(files)) {
    finding.verdict = Verdict::kOk;
  } else if (names.empty() && !hidden) {
    finding.verdict = Verdict::kMissing;
    finding.advice = how_to_load(files, processor);
  } else if (!hidden && back_end(files).empty() && !files.access(kDevice).there()) {
    finding.verdict = Verdict::kWarning;
    finding.advice = "kvm alone runs nothing: " + how_to_load(files, processor);
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

std::string why_refused(const Access& access) {
  const auto* const error = std::strerror(access.error);
  if (access.error == EPERM)
    return fmt::format("/dev/kvm may not be opened by this container: {}", error);
  if (access.error != EACCES) return fmt::format("/dev/kvm cannot be used: {}", error);
  return fmt::format("/dev/kvm may not be opened by this user: {} (group {})", error, access.group);
}

/// Of a device that is not there, or has no driver.
std::string advice_on_absence(const HostFiles& files, const Processor& processor,
                              const Access& access) {
  const bool no_file = access.error == ENOENT;
  if (kernel_has_device(files))
    return no_file ? "the kernel has it: a container wants --device /dev/kvm"
                   : fmt::format("the kernel has it: remove this one; then {}", kRemake);
  if (const auto module = back_end(files); !module.empty())
    return fmt::format("{} is there, but did not start: `dmesg | grep kvm` says why", module);
  return no_file ? "it comes with kvm_intel or kvm_amd" : how_to_load(files, processor);
}

Finding device(const HostFiles& files, const Processor& processor, const kvm::Choice& choice) {
  Finding finding{.key = "kvm-device", .name = "device", .value = "/dev/kvm", .text = "/dev/kvm"};
  const auto access = files.access(kDevice);
  if (!access.there()) {
    finding.value = nullptr;
    finding.text = absence_of(access, "/dev/kvm");
    finding.verdict = Verdict::kMissing;
    finding.advice = advice_on_absence(files, processor, access);
  } else if (!access.granted()) {
    finding.value = nullptr;
    finding.text = why_refused(access);
    finding.verdict = Verdict::kMissing;
    finding.advice = advice_on(access, "/dev/kvm", kRemake);
  } else if (choice.device == nullptr) {
    finding.value = nullptr;
    finding.text = choice.why_not;
    finding.verdict = Verdict::kMissing;
    finding.advice = fmt::format("remove it; then {}", kRemake);
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
  Findings findings{modules(files, processor, choice)};
  for (auto& finding : nesting(files)) findings.push_back(std::move(finding));
  findings.push_back(device(files, processor, choice));
  if (choice.device != nullptr) {
    findings.push_back(api(*choice.device));
    findings.push_back(capabilities(*choice.device));
  }
  if (choice.probe) findings.push_back(probe(*choice.probe));
  return findings;
}

}  // namespace limen::cli::host
