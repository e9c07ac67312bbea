#include "x86/cpu_models.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>

#include "x86/cpu_features.h"
#include "x86/kvm_paravirtual.h"

namespace limen::x86 {
namespace {

using Features = std::initializer_list<std::string_view>;

CpuidTable host_model(const CpuidTable& supported) { return supported; }

void set_text(CpuidTable& table, uint32_t first_leaf, std::string_view text) {
  std::array<char, 48> padded{};
  std::memcpy(padded.data(), text.data(), std::min(text.size(), padded.size()));
  for (uint32_t i = 0; i < 3; ++i) {
    CpuidResult part;
    std::memcpy(&part, padded.data() + i * sizeof part, sizeof part);
    table.set(first_leaf + i, 0, false, part);
  }
}

constexpr CpuidResult kAmd{.ebx = 0x6874'7541, .ecx = 0x444D'4163, .edx = 0x6974'6E65};
constexpr CpuidResult kIntel{.ebx = 0x756E'6547, .ecx = 0x6C65'746E, .edx = 0x4965'6E69};

struct Identity {
  CpuidResult vendor;
  uint32_t highest_basic;
  uint32_t highest_extended;
  uint32_t signature;  ///< Leaf 1 EAX.
  std::string_view text;
};

/// A processor of its own, with those of `features` that are supported.
CpuidTable named_model(const CpuidTable& supported, const Identity& identity, Features features) {
  CpuidTable table;
  CpuidResult first = identity.vendor;
  first.eax = identity.highest_basic;
  table.set(0, 0, false, first);
  table.set(1, 0, false, {.eax = identity.signature, .ebx = 0x0001'0800});
  first.eax = identity.highest_extended;
  table.set(0x8000'0000, 0, false, first);
  table.set(0x8000'0001, 0, false, {.eax = identity.signature});
  set_text(table, 0x8000'0002, identity.text);
  // L1 and L2 as a K8 has them: 64 KiB, 512 KiB (APM Vol. 3 E.4.4).
  table.set(0x8000'0005, 0, false, {0x01FF'01FF, 0x01FF'01FF, 0x4002'0140, 0x4002'0140});
  table.set(0x8000'0006, 0, false, {0, 0x4200'4200, 0x0200'8140, 0});
  table.set(0x8000'0008, 0, false, {.eax = 0x3028});  // 48 linear, 40 physical bits
  for (const auto name : features) {
    const auto* feature = find_cpu_feature(name);
    if (has_feature(supported, *feature)) set_feature(table, *feature, true);
  }
  for (const uint32_t leaf : {kvm::kSignatureLeaf, kvm::kFeatureLeaf})
    if (const auto* hypervisor = supported.find(leaf, 0)) table.set(leaf, 0, false, *hypervisor);
  return table;
}

// QEMU's qemu64, as it has been since QEMU 2.5: an AMD K8 with few additions.
CpuidTable qemu64_model(const CpuidTable& supported) {
  return named_model(
      supported, {kAmd, 0xD, 0x8000'000A, 0x0006'0FB1, "QEMU Virtual CPU version 2.5+"},
      {"fpu",   "de",   "pse",  "tsc",     "msr", "pae", "mce",     "cx8",  "apic",      "sep",
       "pge",   "cmov", "pat",  "fxsr",    "mmx", "sse", "sse2",    "mtrr", "mca",       "clflush",
       "pse36", "pni",  "cx16", "syscall", "nx",  "lm",  "lahf-lm", "svm",  "hypervisor"});
}

// The first 64-bit Opteron.
CpuidTable opteron_g1_model(const CpuidTable& supported) {
  return named_model(
      supported, {kAmd, 0x5, 0x8000'0008, 0x0000'0F61, "AMD Opteron 240 (Gen 1 Class Opteron)"},
      {"vme",     "fpu",  "de",   "pse",  "tsc", "msr", "pae",  "mce",     "cx8",
       "apic",    "sep",  "mtrr", "pge",  "mca", "pat", "cmov", "pse36",   "mmx",
       "clflush", "fxsr", "sse",  "sse2", "pni", "lm",  "nx",   "syscall", "hypervisor"});
}

// Intel's third generation of Core, of 2012.
CpuidTable ivy_bridge_model(const CpuidTable& supported) {
  return named_model(
      supported, {kIntel, 0xD, 0x8000'0008, 0x0003'06A9, "Intel Xeon E3-12xx v2 (Ivy Bridge)"},
      {"vme",   "fpu",     "de",     "pse",    "tsc",      "msr",     "pae",          "mce",
       "cx8",   "apic",    "sep",    "mtrr",   "pge",      "mca",     "cmov",         "pat",
       "pse36", "clflush", "mmx",    "fxsr",   "sse",      "sse2",    "pni",          "pclmulqdq",
       "ssse3", "cx16",    "sse4.1", "sse4.2", "x2apic",   "popcnt",  "tsc-deadline", "aes",
       "xsave", "avx",     "f16c",   "rdrand", "fsgsbase", "smep",    "erms",         "xsaveopt",
       "arat",  "lahf-lm", "lm",     "rdtscp", "nx",       "syscall", "hypervisor"});
}

constexpr auto kModels = std::to_array<CpuModel>({{"host", host_model},
                                                  {"max", host_model},
                                                  {"qemu64", qemu64_model},
                                                  {"IvyBridge", ivy_bridge_model},
                                                  {"Opteron_G1", opteron_g1_model}});

}  // namespace

std::span<const CpuModel> cpu_models() { return kModels; }

}  // namespace limen::x86
