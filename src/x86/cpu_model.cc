// What -cpu says: a model, and changes to it.
#include <charconv>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/nearest.h"
#include "x86/cpu_features.h"
#include "x86/cpu_models.h"
#include "x86/cpuid.h"
#include "x86/kvm_paravirtual.h"

namespace limen::x86 {

namespace {

constexpr uint32_t kSizesLeaf = 0x8000'0008;

// AMD repeats leaf 1 EDX in 80000001H EDX (APM Vol. 3 E.4.2); to Intel these bits are reserved.
void copy_amd_aliases(CpuidTable& table) {
  constexpr uint32_t kAliases = 0x0183'F3FF;
  const auto* basic = table.find(1, 0);
  const auto* extended = table.find(0x8000'0001, 0);
  if (basic == nullptr || extended == nullptr) return;
  CpuidResult result = *extended;
  result.edx = (result.edx & ~kAliases) | (table.is_amd() ? basic->edx & kAliases : 0);
  table.set(0x8000'0001, 0, false, result);
}

// The twelve letters stand in EBX, EDX and ECX of both leaves that count leaves.
Result<> set_vendor(CpuidTable& table, std::string_view vendor) {
  constexpr size_t kLetters = 12;
  if (vendor.size() != kLetters)
    return fail("CPU property 'vendor' is '{}': twelve letters are expected, as in GenuineIntel",
                vendor);
  for (const uint32_t leaf : {0u, 0x8000'0000u}) {
    const auto* found = table.find(leaf, 0);
    if (found == nullptr) continue;
    CpuidResult result = *found;
    std::memcpy(&result.ebx, vendor.data(), 4);
    std::memcpy(&result.edx, vendor.data() + 4, 4);
    std::memcpy(&result.ecx, vendor.data() + 8, 4);
    table.set(leaf, 0, false, result);
  }
  return {};
}

void set_physical_bits(CpuidTable& table, uint32_t bits) {
  const auto* found = table.find(kSizesLeaf, 0);
  if (found == nullptr) return;
  CpuidResult sizes = *found;
  sizes.eax = (sizes.eax & ~0xFFu) | bits;
  table.set(kSizesLeaf, 0, false, sizes);
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
  bool host_physical_bits = false;
  std::optional<uint32_t> physical_bits = {};
  std::optional<std::string_view> vendor = {};
  bool kvm = true;  ///< Show KVM's paravirtual interface.
};

Result<uint32_t> parse_physical_bits(std::string_view value) {
  constexpr uint32_t kFewest = 36, kMost = 52;  // PSE-36; the page tables' format
  uint32_t bits = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), bits);
  if (error != std::errc{} || end != value.data() + value.size() || bits < kFewest || bits > kMost)
    return fail("CPU property 'phys-bits' is '{}'; a number from {} to {} is expected", value,
                kFewest, kMost);
  return bits;
}

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
  if (name == "vendor") {
    changes.vendor = value;
    return {};
  }
  if (name == "phys-bits") {
    changes.physical_bits = LIMEN_TRY(parse_physical_bits(value));
    return {};
  }
  const bool is_switch = name == "check" || name == "migratable" || name == "enforce" ||
                         name == "host-phys-bits" || name == "kvm";
  const CpuFeature* feature = is_switch ? nullptr : LIMEN_TRY(feature_named(name));
  const bool on = value == "on" || value == "yes" || value == "true" || value == "y";
  if (!on && value != "off" && value != "no" && value != "false" && value != "n")
    return fail("CPU property '{}' is '{}'; valid choices: on, off", name, value);
  // What the other switches of QEMU's ask for is how models behave here in any case.
  if (name == "enforce") changes.enforce = on;
  if (name == "host-phys-bits") changes.host_physical_bits = on;
  if (name == "kvm") changes.kvm = on;
  if (feature != nullptr) changes.features.push_back({feature, on});
  return {};
}

}  // namespace

Result<CpuidTable> cpu_model(std::string_view specification, const CpuidTable& supported) {
  const size_t comma = specification.find(',');
  const auto name = specification.substr(0, comma);
  const CpuModel* model = nullptr;
  std::string valid;
  for (const auto& candidate : cpu_models()) {
    fmt::format_to(std::back_inserter(valid), " {}", candidate.name);
    if (candidate.name == name) model = &candidate;
  }
  if (model == nullptr) return fail("unable to find CPU model '{}'; valid models:{}", name, valid);

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
  if (changes.vendor) LIMEN_TRY(set_vendor(table, *changes.vendor));
  if (const auto* host = supported.find(kSizesLeaf, 0);
      changes.host_physical_bits && host != nullptr)
    set_physical_bits(table, host->eax & 0xFF);
  else if (changes.physical_bits)
    set_physical_bits(table, *changes.physical_bits);
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
