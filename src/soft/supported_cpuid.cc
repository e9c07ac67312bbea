#include "soft/supported_cpuid.h"

#include <cpuid.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/host_tsc.h"
#include "x86/cpu_features.h"
#include "x86/kvm_paravirtual.h"
#include "x86/registers.h"
#include "x86/tsc.h"

namespace limen::soft {

using x86::CpuidRegister;
using x86::CpuidResult;
using x86::CpuidTable;

namespace {

constexpr uint32_t kMaxBasicLeaf = 0x16;

// Bits that run as the host's own instructions, or that describe the host's behaviour: shown if the
// host has them. What is in neither list is hidden: virtual-8086 mode extensions, VMX, SVM,
// MONITOR, HLE and RTM, PKU, LA57, SMX, CET, AMX, UINTR, ENQCMD, WAITPKG, PCONFIG, SGX, Key Locker,
// TSXLDTRK, PT, PMU, RDT, thermal sensors, LAM, HRESET, architectural LBR, APX and AVX10.
constexpr auto kFromHost = std::to_array<std::string_view>({
    "fpu",
    "de",
    "pse",
    "tsc",
    "msr",
    "pae",
    "mce",
    "cx8",
    "apic",
    "sep",
    "mtrr",
    "pge",
    "mca",
    "cmov",
    "pat",
    "pse36",
    "clflush",
    "mmx",
    "fxsr",
    "sse",
    "sse2",
    "ss",
    "pni",
    "pclmulqdq",
    "ssse3",
    "fma",
    "cx16",
    "sse4.1",
    "sse4.2",
    "movbe",
    "popcnt",
    "aes",
    "xsave",
    "avx",
    "f16c",
    "rdrand",
    "bmi1",
    "avx2",
    "bmi2",
    "erms",
    "avx512f",
    "avx512dq",
    "rdseed",
    "adx",
    "avx512ifma",
    "clflushopt",
    "clwb",
    "avx512pf",
    "avx512er",
    "avx512cd",
    "sha-ni",
    "avx512bw",
    "avx512vl",
    "avx512vbmi",
    "avx512vbmi2",
    "gfni",
    "vaes",
    "vpclmulqdq",
    "avx512vnni",
    "avx512bitalg",
    "avx512-vpopcntdq",
    "cldemote",
    "movdiri",
    "movdir64b",
    "avx512-4vnniw",
    "avx512-4fmaps",
    "fsrm",
    "avx512-vp2intersect",
    "serialize",
    "avx512-fp16",
    "avx-vnni",
    "avx512-bf16",
    "cmpccxadd",
    "fzrm",
    "fsrs",
    "fsrc",
    "avx-ifma",
    "avx-vnni-int8",
    "avx-ne-convert",
    "prefetchiti",
    "xsaveopt",
    "xsavec",
    "xgetbv1",
    "xsaves",
    "syscall",
    "mmxext",
    "lm",
    "3dnowext",
    "3dnow",
    "lahf-lm",
    "abm",
    "sse4a",
    "misalignsse",
    "3dnowprefetch",
    "xop",
    "fma4",
    "tbm",
    "invtsc",
    "clzero",
    "xsaveerptr",
    "wbnoinvd",
});

// What the engine does by itself, whatever the host has.
constexpr auto kFromEngine = std::to_array<std::string_view>({
    "hypervisor",
    "pcid",
    "x2apic",
    "tsc-deadline",
    "arat",
    "fsgsbase",
    "tsc-adjust",
    "smep",
    "invpcid",
    "smap",
    "umip",
    "rdpid",
    "nx",
    "pdpe1gb",
    "rdtscp",
    "spec-ctrl",
    "stibp",
    "ssbd",
    "arch-capabilities",
    "pks",
    "kvmclock",
    "kvm-nopiodelay",
    "kvm-steal-time",
    "kvm-pv-eoi",
    "kvmclock-stable-bit",
});

// Behaviour of the host's instructions for which QEMU has no name.
constexpr uint32_t kFdpExceptionOnly = 1u << 6;   // 7.0 EBX
constexpr uint32_t kFcsFdsDeprecated = 1u << 13;  // 7.0 EBX

CpuidResult host_cpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidResult result;
  __cpuid_count(leaf, subleaf, result.eax, result.ebx, result.ecx, result.edx);
  return result;
}

CpuidTable read_host() {
  CpuidTable host;
  const uint32_t max_basic = host_cpuid(0, 0).eax;
  for (uint32_t leaf = 0; leaf <= max_basic && leaf <= kMaxBasicLeaf; ++leaf) {
    if (leaf == 4) {
      for (uint32_t i = 0; i < 16; ++i) {
        const CpuidResult cache = host_cpuid(leaf, i);
        if ((cache.eax & 0x1F) == 0) break;
        host.set(leaf, i, true, cache);
      }
    } else if (leaf == 7) {
      const uint32_t last = std::min<uint32_t>(host_cpuid(leaf, 0).eax, 2);
      for (uint32_t i = 0; i <= last; ++i) host.set(leaf, i, true, host_cpuid(leaf, i));
    } else if (leaf == 0xD) {
      for (uint32_t i = 0; i < 63; ++i) {
        const CpuidResult state = host_cpuid(leaf, i);
        if (i < 2 || state.eax != 0) host.set(leaf, i, true, state);
      }
    } else {
      host.set(leaf, 0, false, host_cpuid(leaf, 0));
    }
  }
  const uint32_t max_extended = host_cpuid(0x8000'0000, 0).eax;
  for (uint32_t leaf = 0x8000'0000; leaf <= max_extended && leaf <= 0x8000'0021; ++leaf)
    host.set(leaf, 0, false, host_cpuid(leaf, 0));
  return host;
}

const CpuidResult& leaf_of(const CpuidTable& table, uint32_t leaf) {
  static const CpuidResult kZero;
  const auto* found = table.find(leaf, 0);
  return found != nullptr ? *found : kZero;
}

void set_topology(const CpuidTable& host, CpuidTable& table) {
  for (uint32_t i = 0; const auto* cache = host.find(4, i); ++i) {
    CpuidResult own = *cache;
    own.eax &= 0x3FFF;  // one thread uses it, in a package of one core
    table.set(4, i, true, own);
  }
  table.set(0xB, 0, true, {.eax = 0, .ebx = 1, .ecx = 0x100});  // threads of a core
  table.set(0xB, 1, true, {.eax = 0, .ebx = 1, .ecx = 0x201});  // cores of a package
}

void set_extended_state(const CpuidTable& host, CpuidTable& table) {
  constexpr uint64_t kShown =
      x86::xcr0::kX87 | x86::xcr0::kSse | x86::xcr0::kAvx | x86::xcr0::kAvx512;
  const auto* main = host.find(0xD, 0);
  if (main == nullptr) return;
  CpuidResult shown = *main;
  shown.eax &= static_cast<uint32_t>(kShown);
  shown.edx = 0;
  table.set(0xD, 0, true, shown);
  for (uint32_t component = 2; component < 32; ++component)
    if (const auto* layout = host.find(0xD, component);
        layout != nullptr && (shown.eax >> component & 1) != 0)
      table.set(0xD, component, true, *layout);
  // Leaf 0DH.1: the instruction variants are features; IA32_XSS takes no bit.
}

void set_timing(CpuidTable& table, uint64_t tsc_hz) {
  const auto ratio = x86::tsc_ratio(tsc_hz, x86::kCrystalHz);
  table.set(0x15, 0, false,
            {.eax = ratio.denominator,
             .ebx = ratio.numerator,
             .ecx = static_cast<uint32_t>(x86::kCrystalHz)});
  const auto megahertz = static_cast<uint32_t>((tsc_hz + 500'000) / 1'000'000);
  table.set(0x16, 0, false, {.eax = megahertz, .ebx = megahertz, .ecx = 100});
}

// Tells an AMD guest that it needs no mitigation: a software CPU does not speculate in the guest's
// address space (APM Vol. 3 E.4.6, E.4.17; AMD 24594).
void set_amd_security(const CpuidTable& host, CpuidTable& table) {
  CpuidResult sizes = *table.find(0x8000'0008, 0);
  sizes.ebx |= 1u << 12 | 1u << 14 | 1u << 15 | 1u << 24;  // IBPB, IBRS, STIBP, SSBD
  sizes.ebx |= 1u << 26 | 1u << 29;                        // SSB_NO, BTC_NO
  table.set(0x8000'0008, 0, false, sizes);
  const uint32_t from_host = leaf_of(host, 0x8000'0021).eax & (1u << 0 | 1u << 2 | 1u << 6);
  table.set(0x8000'0021, 0, false,
            {.eax = from_host | 1u << 8 | 1u << 29,  // automatic IBRS, SRSO_NO
             .ecx = 1u << 1 | 1u << 2});             // TSA_SQ_NO, TSA_L1_NO
}

}  // namespace

CpuidTable supported_cpuid(const CpuidTable& host, uint64_t tsc_hz) {
  CpuidTable table;
  const bool amd = host.is_amd();

  CpuidResult first = leaf_of(host, 0);
  first.eax = kMaxBasicLeaf;
  table.set(0, 0, false, first);
  const CpuidResult& signature = leaf_of(host, 1);
  table.set(1, 0, false, {.eax = signature.eax, .ebx = (signature.ebx & 0xFF00) | 1u << 16});
  if (!amd) table.set(2, 0, false, leaf_of(host, 2));
  table.set(6, 0, false, {});
  table.set(7, 0, true, {.ebx = leaf_of(host, 7).ebx & (kFdpExceptionOnly | kFcsFdsDeprecated)});
  table.set(0xA, 0, false, {});
  set_topology(host, table);
  set_extended_state(host, table);
  set_timing(table, tsc_hz);

  table.set(x86::kvm::kSignatureLeaf, 0, false, x86::kvm::signature());

  CpuidResult extended = leaf_of(host, 0x8000'0000);
  extended.eax = amd ? 0x8000'0021 : 0x8000'0008;
  table.set(0x8000'0000, 0, false, extended);
  table.set(0x8000'0001, 0, false,
            {.eax = leaf_of(host, 0x8000'0001).eax, .ebx = leaf_of(host, 0x8000'0001).ebx});
  for (uint32_t leaf = 0x8000'0002; leaf <= 0x8000'0006; ++leaf)
    table.set(leaf, 0, false, leaf_of(host, leaf));
  table.set(0x8000'0007, 0, false, {});
  // As QEMU has it where it emulates: firmware makes page tables for all that there could be.
  constexpr uint32_t kMostPhysicalBits = 40;
  const uint32_t physical_bits =
      std::clamp(leaf_of(host, 0x8000'0008).eax & 0xFF, 36u, kMostPhysicalBits);
  table.set(0x8000'0008, 0, false, {.eax = physical_bits | 48u << 8});

  for (const auto name : kFromHost)
    if (x86::has_feature(host, name)) x86::set_feature(table, *x86::find_cpu_feature(name), true);
  for (const auto name : kFromEngine) x86::set_feature(table, *x86::find_cpu_feature(name), true);
  if (amd) set_amd_security(host, table);
  x86::make_consistent(table);
  return table;
}

CpuidTable supported_cpuid() {
  static const CpuidTable table = supported_cpuid(read_host(), host_tsc_hz());
  return table;
}

}  // namespace limen::soft
