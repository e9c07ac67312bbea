// The features that CPUID reports, under the names that people type behind -cpu.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "x86/cpuid.h"

namespace limen::x86 {

enum class CpuidRegister : uint8_t { kEax, kEbx, kEcx, kEdx };

/// One bit of CPUID. A feature that stands in two leaves (AMD repeats leaf 1 in 80000001H) is
/// listed for the first.
struct CpuFeature {
  std::string_view name;  ///< As QEMU spells it.
  uint32_t leaf = 0;
  uint32_t subleaf = 0;
  CpuidRegister reg = CpuidRegister::kEax;
  uint8_t bit = 0;
};

[[nodiscard]] std::span<const CpuFeature> cpu_features();
/// By name; underscores count as hyphens, and the other names that QEMU knows are understood.
/// nullptr: unknown.
[[nodiscard]] const CpuFeature* find_cpu_feature(std::string_view name);

[[nodiscard]] uint32_t& register_of(CpuidResult& result, CpuidRegister reg);
[[nodiscard]] bool has_feature(const CpuidTable& table, const CpuFeature& feature);
/// As above by name, which must be one of cpu_features().
[[nodiscard]] bool has_feature(const CpuidTable& table, std::string_view name);
void set_feature(CpuidTable& table, const CpuFeature& feature, bool on);

/// Takes out what cannot be without a feature that is absent (AVX without XSAVE, AVX2 without AVX,
/// ...) and makes leaf 0DH agree with what is left.
void make_consistent(CpuidTable& table);

}  // namespace limen::x86
