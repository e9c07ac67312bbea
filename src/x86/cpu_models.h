// The processor models that -cpu names.
#pragma once

#include <span>
#include <string_view>

#include "x86/cpuid.h"

namespace limen::x86 {

struct CpuModel {
  std::string_view name;
  /// `supported` as for cpu_model().
  CpuidTable (*make)(const CpuidTable& supported);
};

[[nodiscard]] std::span<const CpuModel> cpu_models();

}  // namespace limen::x86
