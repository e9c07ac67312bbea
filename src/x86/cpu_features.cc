#include "x86/cpu_features.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "x86/kvm_paravirtual.h"
#include "x86/registers.h"

namespace limen::x86 {

namespace {

using enum CpuidRegister;

// SDM Vol. 2A CPUID, tables 3-8 to 3-11; APM Vol. 3 appendix E.
constexpr auto kFeatures = std::to_array<CpuFeature>({
    {"fpu", 1, 0, kEdx, 0},
    {"vme", 1, 0, kEdx, 1},
    {"de", 1, 0, kEdx, 2},
    {"pse", 1, 0, kEdx, 3},
    {"tsc", 1, 0, kEdx, 4},
    {"msr", 1, 0, kEdx, 5},
    {"pae", 1, 0, kEdx, 6},
    {"mce", 1, 0, kEdx, 7},
    {"cx8", 1, 0, kEdx, 8},
    {"apic", 1, 0, kEdx, 9},
    {"sep", 1, 0, kEdx, 11},
    {"mtrr", 1, 0, kEdx, 12},
    {"pge", 1, 0, kEdx, 13},
    {"mca", 1, 0, kEdx, 14},
    {"cmov", 1, 0, kEdx, 15},
    {"pat", 1, 0, kEdx, 16},
    {"pse36", 1, 0, kEdx, 17},
    {"pn", 1, 0, kEdx, 18},
    {"clflush", 1, 0, kEdx, 19},
    {"ds", 1, 0, kEdx, 21},
    {"acpi", 1, 0, kEdx, 22},
    {"mmx", 1, 0, kEdx, 23},
    {"fxsr", 1, 0, kEdx, 24},
    {"sse", 1, 0, kEdx, 25},
    {"sse2", 1, 0, kEdx, 26},
    {"ss", 1, 0, kEdx, 27},
    {"ht", 1, 0, kEdx, 28},
    {"tm", 1, 0, kEdx, 29},
    {"ia64", 1, 0, kEdx, 30},
    {"pbe", 1, 0, kEdx, 31},
    {"pni", 1, 0, kEcx, 0},
    {"pclmulqdq", 1, 0, kEcx, 1},
    {"dtes64", 1, 0, kEcx, 2},
    {"monitor", 1, 0, kEcx, 3},
    {"ds-cpl", 1, 0, kEcx, 4},
    {"vmx", 1, 0, kEcx, 5},
    {"smx", 1, 0, kEcx, 6},
    {"est", 1, 0, kEcx, 7},
    {"tm2", 1, 0, kEcx, 8},
    {"ssse3", 1, 0, kEcx, 9},
    {"cid", 1, 0, kEcx, 10},
    {"fma", 1, 0, kEcx, 12},
    {"cx16", 1, 0, kEcx, 13},
    {"xtpr", 1, 0, kEcx, 14},
    {"pdcm", 1, 0, kEcx, 15},
    {"pcid", 1, 0, kEcx, 17},
    {"dca", 1, 0, kEcx, 18},
    {"sse4.1", 1, 0, kEcx, 19},
    {"sse4.2", 1, 0, kEcx, 20},
    {"x2apic", 1, 0, kEcx, 21},
    {"movbe", 1, 0, kEcx, 22},
    {"popcnt", 1, 0, kEcx, 23},
    {"tsc-deadline", 1, 0, kEcx, 24},
    {"aes", 1, 0, kEcx, 25},
    {"xsave", 1, 0, kEcx, 26},
    {"avx", 1, 0, kEcx, 28},
    {"f16c", 1, 0, kEcx, 29},
    {"rdrand", 1, 0, kEcx, 30},
    {"hypervisor", 1, 0, kEcx, 31},
    {"arat", 6, 0, kEax, 2},
    {"fsgsbase", 7, 0, kEbx, 0},
    {"tsc-adjust", 7, 0, kEbx, 1},
    {"sgx", 7, 0, kEbx, 2},
    {"bmi1", 7, 0, kEbx, 3},
    {"hle", 7, 0, kEbx, 4},
    {"avx2", 7, 0, kEbx, 5},
    {"smep", 7, 0, kEbx, 7},
    {"bmi2", 7, 0, kEbx, 8},
    {"erms", 7, 0, kEbx, 9},
    {"invpcid", 7, 0, kEbx, 10},
    {"rtm", 7, 0, kEbx, 11},
    {"mpx", 7, 0, kEbx, 14},
    {"avx512f", 7, 0, kEbx, 16},
    {"avx512dq", 7, 0, kEbx, 17},
    {"rdseed", 7, 0, kEbx, 18},
    {"adx", 7, 0, kEbx, 19},
    {"smap", 7, 0, kEbx, 20},
    {"avx512ifma", 7, 0, kEbx, 21},
    {"pcommit", 7, 0, kEbx, 22},
    {"clflushopt", 7, 0, kEbx, 23},
    {"clwb", 7, 0, kEbx, 24},
    {"intel-pt", 7, 0, kEbx, 25},
    {"avx512pf", 7, 0, kEbx, 26},
    {"avx512er", 7, 0, kEbx, 27},
    {"avx512cd", 7, 0, kEbx, 28},
    {"sha-ni", 7, 0, kEbx, 29},
    {"avx512bw", 7, 0, kEbx, 30},
    {"avx512vl", 7, 0, kEbx, 31},
    {"avx512vbmi", 7, 0, kEcx, 1},
    {"umip", 7, 0, kEcx, 2},
    {"pku", 7, 0, kEcx, 3},
    {"waitpkg", 7, 0, kEcx, 5},
    {"avx512vbmi2", 7, 0, kEcx, 6},
    {"shstk", 7, 0, kEcx, 7},
    {"gfni", 7, 0, kEcx, 8},
    {"vaes", 7, 0, kEcx, 9},
    {"vpclmulqdq", 7, 0, kEcx, 10},
    {"avx512vnni", 7, 0, kEcx, 11},
    {"avx512bitalg", 7, 0, kEcx, 12},
    {"avx512-vpopcntdq", 7, 0, kEcx, 14},
    {"la57", 7, 0, kEcx, 16},
    {"rdpid", 7, 0, kEcx, 22},
    {"bus-lock-detect", 7, 0, kEcx, 24},
    {"cldemote", 7, 0, kEcx, 25},
    {"movdiri", 7, 0, kEcx, 27},
    {"movdir64b", 7, 0, kEcx, 28},
    {"sgxlc", 7, 0, kEcx, 30},
    {"pks", 7, 0, kEcx, 31},
    {"avx512-4vnniw", 7, 0, kEdx, 2},
    {"avx512-4fmaps", 7, 0, kEdx, 3},
    {"fsrm", 7, 0, kEdx, 4},
    {"avx512-vp2intersect", 7, 0, kEdx, 8},
    {"md-clear", 7, 0, kEdx, 10},
    {"serialize", 7, 0, kEdx, 14},
    {"tsx-ldtrk", 7, 0, kEdx, 16},
    {"arch-lbr", 7, 0, kEdx, 19},
    {"ibt", 7, 0, kEdx, 20},
    {"amx-bf16", 7, 0, kEdx, 22},
    {"avx512-fp16", 7, 0, kEdx, 23},
    {"amx-tile", 7, 0, kEdx, 24},
    {"amx-int8", 7, 0, kEdx, 25},
    {"spec-ctrl", 7, 0, kEdx, 26},
    {"stibp", 7, 0, kEdx, 27},
    {"flush-l1d", 7, 0, kEdx, 28},
    {"arch-capabilities", 7, 0, kEdx, 29},
    {"core-capability", 7, 0, kEdx, 30},
    {"ssbd", 7, 0, kEdx, 31},
    {"avx-vnni", 7, 1, kEax, 4},
    {"avx512-bf16", 7, 1, kEax, 5},
    {"cmpccxadd", 7, 1, kEax, 7},
    {"fzrm", 7, 1, kEax, 10},
    {"fsrs", 7, 1, kEax, 11},
    {"fsrc", 7, 1, kEax, 12},
    {"amx-fp16", 7, 1, kEax, 21},
    {"avx-ifma", 7, 1, kEax, 23},
    {"avx-vnni-int8", 7, 1, kEdx, 4},
    {"avx-ne-convert", 7, 1, kEdx, 5},
    {"prefetchiti", 7, 1, kEdx, 14},
    {"xsaveopt", 0xD, 1, kEax, 0},
    {"xsavec", 0xD, 1, kEax, 1},
    {"xgetbv1", 0xD, 1, kEax, 2},
    {"xsaves", 0xD, 1, kEax, 3},
    {"xfd", 0xD, 1, kEax, 4},
    {"syscall", 0x80000001, 0, kEdx, 11},
    {"mp", 0x80000001, 0, kEdx, 19},
    {"nx", 0x80000001, 0, kEdx, 20},
    {"mmxext", 0x80000001, 0, kEdx, 22},
    {"fxsr-opt", 0x80000001, 0, kEdx, 25},
    {"pdpe1gb", 0x80000001, 0, kEdx, 26},
    {"rdtscp", 0x80000001, 0, kEdx, 27},
    {"lm", 0x80000001, 0, kEdx, 29},
    {"3dnowext", 0x80000001, 0, kEdx, 30},
    {"3dnow", 0x80000001, 0, kEdx, 31},
    {"lahf-lm", 0x80000001, 0, kEcx, 0},
    {"cmp-legacy", 0x80000001, 0, kEcx, 1},
    {"svm", 0x80000001, 0, kEcx, 2},
    {"extapic", 0x80000001, 0, kEcx, 3},
    {"cr8legacy", 0x80000001, 0, kEcx, 4},
    {"abm", 0x80000001, 0, kEcx, 5},
    {"sse4a", 0x80000001, 0, kEcx, 6},
    {"misalignsse", 0x80000001, 0, kEcx, 7},
    {"3dnowprefetch", 0x80000001, 0, kEcx, 8},
    {"osvw", 0x80000001, 0, kEcx, 9},
    {"ibs", 0x80000001, 0, kEcx, 10},
    {"xop", 0x80000001, 0, kEcx, 11},
    {"skinit", 0x80000001, 0, kEcx, 12},
    {"wdt", 0x80000001, 0, kEcx, 13},
    {"lwp", 0x80000001, 0, kEcx, 15},
    {"fma4", 0x80000001, 0, kEcx, 16},
    {"tce", 0x80000001, 0, kEcx, 17},
    {"nodeid-msr", 0x80000001, 0, kEcx, 19},
    {"tbm", 0x80000001, 0, kEcx, 21},
    {"topoext", 0x80000001, 0, kEcx, 22},
    {"perfctr-core", 0x80000001, 0, kEcx, 23},
    {"perfctr-nb", 0x80000001, 0, kEcx, 24},
    {"invtsc", 0x80000007, 0, kEdx, 8},
    {"clzero", 0x80000008, 0, kEbx, 0},
    {"xsaveerptr", 0x80000008, 0, kEbx, 2},
    {"wbnoinvd", 0x80000008, 0, kEbx, 9},
    {"ibpb", 0x80000008, 0, kEbx, 12},
    {"ibrs", 0x80000008, 0, kEbx, 14},
    {"amd-stibp", 0x80000008, 0, kEbx, 15},
    {"amd-ssbd", 0x80000008, 0, kEbx, 24},
    {"virt-ssbd", 0x80000008, 0, kEbx, 25},
    {"amd-no-ssb", 0x80000008, 0, kEbx, 26},
    // KVM's paravirtual interface (x86/kvm_paravirtual.h). "kvmclock" means bit 3, too.
    {"kvmclock", kvm::kFeatureLeaf, 0, kEax, 0},
    {"kvm-nopiodelay", kvm::kFeatureLeaf, 0, kEax, 1},
    {"kvm-steal-time", kvm::kFeatureLeaf, 0, kEax, 5},
    {"kvm-pv-eoi", kvm::kFeatureLeaf, 0, kEax, 6},
    {"kvmclock-stable-bit", kvm::kFeatureLeaf, 0, kEax, 24},
});

constexpr auto kAliases = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"sse3", "pni"},
    {"pclmuldq", "pclmulqdq"},
    {"sse4-1", "sse4.1"},
    {"sse4-2", "sse4.2"},
    {"xd", "nx"},
    {"ffxsr", "fxsr-opt"},
    {"i64", "lm"},
    {"tsc-deadline-timer", "tsc-deadline"},
    {"lzcnt", "abm"},
});

// `needs` must be there for `feature` to work.
struct Dependency {
  std::string_view feature;
  std::string_view needs;
};
constexpr auto kDependencies = std::to_array<Dependency>({
    {"xsaveopt", "xsave"},
    {"xsavec", "xsave"},
    {"xgetbv1", "xsave"},
    {"xsaves", "xsave"},
    {"avx", "xsave"},
    {"sse", "fxsr"},
    {"sse2", "sse"},
    {"pni", "sse2"},
    {"ssse3", "pni"},
    {"sse4.1", "ssse3"},
    {"sse4.2", "sse4.1"},
    {"sse4a", "pni"},
    {"aes", "sse2"},
    {"pclmulqdq", "sse2"},
    {"sha-ni", "sse2"},
    {"gfni", "sse2"},
    {"avx", "sse4.2"},
    {"avx2", "avx"},
    {"fma", "avx"},
    {"f16c", "avx"},
    {"xop", "avx"},
    {"fma4", "avx"},
    {"vaes", "avx"},
    {"vpclmulqdq", "avx"},
    {"avx-vnni", "avx2"},
    {"avx-ifma", "avx2"},
    {"avx-vnni-int8", "avx2"},
    {"avx-ne-convert", "avx2"},
    {"avx512f", "avx2"},
    {"avx512dq", "avx512f"},
    {"avx512ifma", "avx512f"},
    {"avx512pf", "avx512f"},
    {"avx512er", "avx512f"},
    {"avx512cd", "avx512f"},
    {"avx512bw", "avx512f"},
    {"avx512vl", "avx512f"},
    {"avx512vbmi", "avx512f"},
    {"avx512vbmi2", "avx512f"},
    {"avx512vnni", "avx512f"},
    {"avx512bitalg", "avx512f"},
    {"avx512-vpopcntdq", "avx512f"},
    {"avx512-4vnniw", "avx512f"},
    {"avx512-4fmaps", "avx512f"},
    {"avx512-vp2intersect", "avx512f"},
    {"avx512-bf16", "avx512bw"},
    {"avx512-fp16", "avx512bw"},
    {"nx", "pae"},
    {"lm", "pae"},
    {"pcid", "lm"},
    {"pdpe1gb", "lm"},
    {"lahf-lm", "lm"},
    {"invpcid", "pcid"},
    {"x2apic", "apic"},
    {"tsc-deadline", "apic"},
    {"kvm-pv-eoi", "apic"},
    {"kvmclock-stable-bit", "kvmclock"},
});

void set(CpuidTable& table, std::string_view name, bool on) {
  set_feature(table, *find_cpu_feature(name), on);
}

// Leaf 0DH, which enumerates the state that XSAVE manages (SDM Vol. 1 13.2).
void fit_extended_state(CpuidTable& table) {
  const auto* main = table.find(0xD, 0);
  if (main == nullptr) return;
  if (!has_feature(table, "xsave")) {
    for (uint32_t subleaf = 0; subleaf < 64; ++subleaf) table.remove(0xD, subleaf);
    return;
  }
  uint64_t allowed = xcr0::kX87 | xcr0::kSse;
  if (has_feature(table, "avx")) allowed |= xcr0::kAvx;
  if (has_feature(table, "avx512f")) allowed |= xcr0::kAvx512;
  if (has_feature(table, "pku")) allowed |= xcr0::kProtectionKeys & main->eax;
  // What has state of its own is of no use where XSAVE does not manage that.
  if ((allowed & xcr0::kProtectionKeys) == 0) set(table, "pku", false);
  for (const std::string_view name :
       {"mpx", "amx-tile", "amx-int8", "amx-bf16", "amx-fp16", "shstk", "ibt"})
    set(table, name, false);
  if (const auto* more = table.find(0xD, 1)) {
    CpuidResult no_supervisor_state = *more;
    no_supervisor_state.ecx = no_supervisor_state.edx = 0;
    table.set(0xD, 1, true, no_supervisor_state);
  }
  CpuidResult fitted{.eax = main->eax & static_cast<uint32_t>(allowed), .ecx = 576};
  for (uint32_t component = 2; component < 64; ++component) {
    const auto* entry = table.find(0xD, component);
    if (entry == nullptr) continue;
    if (component < 32 && (fitted.eax >> component & 1) != 0)
      fitted.ecx = std::max(fitted.ecx, entry->ebx + entry->eax);
    else
      table.remove(0xD, component);
  }
  fitted.ebx = 576;  // XCR0 is 1 after reset
  table.set(0xD, 0, true, fitted);
}

/// Both pairs of clock MSRs are one feature by QEMU's name.
void fit_clock_sources(CpuidTable& table) {
  const auto* features = table.find(kvm::kFeatureLeaf, 0);
  if (features == nullptr) return;
  CpuidResult fitted = *features;
  fitted.eax &= ~kvm::kClockSource2;
  if ((fitted.eax & kvm::kClockSource) != 0) fitted.eax |= kvm::kClockSource2;
  table.set(kvm::kFeatureLeaf, 0, false, fitted);
}

}  // namespace

std::span<const CpuFeature> cpu_features() { return kFeatures; }

const CpuFeature* find_cpu_feature(std::string_view name) {
  std::string wanted(name);
  std::ranges::replace(wanted, '_', '-');
  for (const auto& [alias, canonical] : kAliases)
    if (wanted == alias) wanted = canonical;
  const auto found = std::ranges::find(kFeatures, wanted, &CpuFeature::name);
  return found == kFeatures.end() ? nullptr : &*found;
}

uint32_t& register_of(CpuidResult& result, CpuidRegister reg) {
  switch (reg) {
    case kEax:
      return result.eax;
    case kEbx:
      return result.ebx;
    case kEcx:
      return result.ecx;
    case kEdx:
      break;
  }
  return result.edx;
}

bool has_feature(const CpuidTable& table, const CpuFeature& feature) {
  const auto* found = table.find(feature.leaf, feature.subleaf);
  if (found == nullptr) return false;
  CpuidResult result = *found;
  return (register_of(result, feature.reg) >> feature.bit & 1) != 0;
}

bool has_feature(const CpuidTable& table, std::string_view name) {
  const auto found = std::ranges::find(kFeatures, name, &CpuFeature::name);
  return found != kFeatures.end() && has_feature(table, *found);
}

void set_feature(CpuidTable& table, const CpuFeature& feature, bool on) {
  const auto* found = table.find(feature.leaf, feature.subleaf);
  if (found == nullptr && !on) return;
  CpuidResult result = found != nullptr ? *found : CpuidResult{};
  uint32_t& word = register_of(result, feature.reg);
  word = on ? word | uint32_t{1} << feature.bit : word & ~(uint32_t{1} << feature.bit);
  const bool indexed = feature.leaf == 7 || feature.leaf == 0xD;
  table.set(feature.leaf, feature.subleaf, indexed, result);
}

void make_consistent(CpuidTable& table) {
  // Chains are short, and each round removes a link.
  for (bool changed = true; changed;) {
    changed = false;
    for (const auto& [name, needs] : kDependencies) {
      if (!has_feature(table, name) || has_feature(table, needs)) continue;
      set_feature(table, *find_cpu_feature(name), false);
      changed = true;
    }
  }
  fit_extended_state(table);
  fit_clock_sources(table);
  if (const auto* first = table.find(7, 0); first != nullptr && table.find(7, 1) != nullptr) {
    CpuidResult result = *first;
    result.eax = 1;
    table.set(7, 0, true, result);
  }
}

}  // namespace limen::x86
