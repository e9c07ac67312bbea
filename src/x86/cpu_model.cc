// The processor models of -cpu.
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/nearest.h"
#include "x86/cpu_features.h"
#include "x86/cpuid.h"
#include "x86/kvm_paravirtual.h"

namespace limen::x86 {

namespace {

void set_text(CpuidTable& table, uint32_t first_leaf, std::string_view text) {
  std::array<char, 48> padded{};
  std::memcpy(padded.data(), text.data(), std::min(text.size(), padded.size()));
  for (uint32_t i = 0; i < 3; ++i) {
    CpuidResult part;
    std::memcpy(&part, padded.data() + i * sizeof part, sizeof part);
    table.set(first_leaf + i, 0, false, part);
  }
}

CpuidTable host_model(const CpuidTable& supported) { return supported; }

// QEMU's qemu64, as it has been since QEMU 2.5: an AMD K8 with few additions.
CpuidTable qemu64_model(const CpuidTable& supported) {
  constexpr auto kFeatures = std::to_array<std::string_view>(
      {"fpu",   "de",   "pse",  "tsc",     "msr", "pae", "mce",     "cx8",  "apic",      "sep",
       "pge",   "cmov", "pat",  "fxsr",    "mmx", "sse", "sse2",    "mtrr", "mca",       "clflush",
       "pse36", "pni",  "cx16", "syscall", "nx",  "lm",  "lahf-lm", "svm",  "hypervisor"});
  CpuidTable table;
  table.set(0, 0, false, {0xD, 0x6874'7541, 0x444D'4163, 0x6974'6E65});  // AuthenticAMD
  table.set(1, 0, false, {.eax = 0x0006'0FB1, .ebx = 0x0001'0800});      // family 15, model 107
  table.set(0x8000'0000, 0, false, {0x8000'000A, 0x6874'7541, 0x444D'4163, 0x6974'6E65});
  table.set(0x8000'0001, 0, false, {.eax = 0x0006'0FB1});
  set_text(table, 0x8000'0002, "QEMU Virtual CPU version 2.5+");
  // L1 and L2 as a K8 has them: 64 KiB, 512 KiB (APM Vol. 3 E.4.4).
  table.set(0x8000'0005, 0, false, {0x01FF'01FF, 0x01FF'01FF, 0x4002'0140, 0x4002'0140});
  table.set(0x8000'0006, 0, false, {0, 0x4200'4200, 0x0200'8140, 0});
  table.set(0x8000'0008, 0, false, {.eax = 0x3028});  // 48 linear, 40 physical bits
  for (const auto name : kFeatures) {
    const auto* feature = find_cpu_feature(name);
    if (has_feature(supported, *feature)) set_feature(table, *feature, true);
  }
  for (const uint32_t leaf : {kvm::kSignatureLeaf, kvm::kFeatureLeaf})
    if (const auto* hypervisor = supported.find(leaf, 0)) table.set(leaf, 0, false, *hypervisor);
  return table;
}

struct Model {
  std::string_view name;
  CpuidTable (*make)(const CpuidTable& supported);
};
constexpr std::array<Model, 3> kModels = {
    {{"host", host_model}, {"max", host_model}, {"qemu64", qemu64_model}}};

// AMD repeats leaf 1 EDX in 80000001H EDX (APM Vol. 3 E.4.2).
void copy_amd_aliases(CpuidTable& table) {
  constexpr uint32_t kAliases = 0x0183'F3FF;
  const auto* basic = table.find(1, 0);
  const auto* extended = table.find(0x8000'0001, 0);
  if (!table.is_amd() || basic == nullptr || extended == nullptr) return;
  CpuidResult result = *extended;
  result.edx = (result.edx & ~kAliases) | (basic->edx & kAliases);
  table.set(0x8000'0001, 0, false, result);
}

Result<const CpuFeature*> feature_named(std::string_view name) {
  if (const auto* feature = find_cpu_feature(name)) return feature;
  std::vector<std::string_view> names;
  for (const auto& feature : cpu_features()) names.push_back(feature.name);
  return fail("unknown CPU feature '{}'{}", name, choice_hint(name, names));
}

struct Change {
  const CpuFeature* feature = nullptr;
  bool on = false;
};

struct Changes {
  std::vector<Change> features;
  bool enforce = false;
  bool kvm = true;  ///< Show KVM's paravirtual interface.
};

Result<> parse_item(std::string_view item, Changes& changes) {
  if (item.empty()) return fail("empty CPU feature: '+name', '-name' or 'name=on|off' is expected");
  if (item[0] == '+' || item[0] == '-') {
    const auto feature = LIMEN_TRY(feature_named(item.substr(1)));
    changes.features.push_back({feature, item[0] == '+'});
    return {};
  }
  const size_t equals = item.find('=');
  const auto name = item.substr(0, equals);
  const auto value = equals == std::string_view::npos ? "on" : item.substr(equals + 1);
  const bool is_switch =
      name == "check" || name == "migratable" || name == "enforce" || name == "kvm";
  const CpuFeature* feature = is_switch ? nullptr : LIMEN_TRY(feature_named(name));
  const bool on = value == "on" || value == "yes" || value == "true" || value == "y";
  if (!on && value != "off" && value != "no" && value != "false" && value != "n")
    return fail("CPU property '{}' is '{}'; valid choices: on, off", name, value);
  // What the other switches of QEMU's ask for is how models behave here in any case.
  if (name == "enforce") changes.enforce = on;
  if (name == "kvm") changes.kvm = on;
  if (feature != nullptr) changes.features.push_back({feature, on});
  return {};
}

}  // namespace

Result<CpuidTable> cpu_model(std::string_view specification, const CpuidTable& supported) {
  const size_t comma = specification.find(',');
  const auto name = specification.substr(0, comma);
  const Model* model = nullptr;
  std::vector<std::string_view> names;
  for (const auto& candidate : kModels) {
    names.push_back(candidate.name);
    if (candidate.name == name) model = &candidate;
  }
  if (model == nullptr) {
    std::string valid;
    for (const auto candidate : names) fmt::format_to(std::back_inserter(valid), " {}", candidate);
    return fail("unknown CPU model '{}'; valid models:{}", name, valid);
  }

  Changes changes;
  if (comma != std::string_view::npos) {
    auto rest = specification.substr(comma + 1);
    for (;;) {
      const size_t end = rest.find(',');
      LIMEN_TRY(parse_item(rest.substr(0, end), changes));
      if (end == std::string_view::npos) break;
      rest = rest.substr(end + 1);
    }
  }

  CpuidTable table = model->make(supported);
  for (const auto& [feature, on] : changes.features) {
    if (on && !has_feature(supported, *feature)) {
      if (changes.enforce)
        return fail("CPU feature '{}' is not supported by this host and accelerator",
                    feature->name);
      log::warning("CPU feature '{}' is not supported by this host and accelerator: left out",
                   feature->name);
      continue;
    }
    set_feature(table, *feature, on);
  }
  // XSAVE added to a model without it brings the layout of the state along.
  if (has_feature(table, "xsave") && table.find(0xD, 0) == nullptr)
    for (uint32_t component = 0; component < 64; ++component)
      if (const auto* layout = supported.find(0xD, component); layout != nullptr && component != 1)
        table.set(0xD, component, true, *layout);
  copy_amd_aliases(table);
  if (!changes.kvm) kvm::hide(table);
  make_consistent(table);
  return table;
}

}  // namespace limen::x86
