// CPUID as data: a table of leaves, and the processor models that a person can name with -cpu.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limen::x86 {

struct CpuidResult {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// What one processor answers to CPUID.
class CpuidTable {
 public:
  struct Entry {
    uint32_t leaf = 0;
    uint32_t subleaf = 0;
    bool indexed = false;  ///< The answer depends on ECX.
    CpuidResult result;
  };

  [[nodiscard]] const CpuidResult* find(uint32_t leaf, uint32_t subleaf) const;
  /// Adds or replaces.
  void set(uint32_t leaf, uint32_t subleaf, bool indexed, CpuidResult result);
  void remove(uint32_t leaf, uint32_t subleaf);
  /// Removes sub-leaf `first` and all behind it.
  void remove_from(uint32_t leaf, uint32_t first);
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }

  /// The answer as the instruction gives it: an unknown leaf answers as the highest basic leaf
  /// (Intel) and an unknown sub-leaf with zeros (SDM Vol. 2A CPUID).
  [[nodiscard]] CpuidResult answer(uint32_t leaf, uint32_t subleaf) const;

  /// Vendor "AuthenticAMD".
  [[nodiscard]] bool is_amd() const;

 private:
  std::vector<Entry> entries_;
};

/// `specification` as QEMU spells it: a model of cpu_models.h, optionally with ",+feature,-feature,
/// feature=on|off,vendor=TEXT,phys-bits=N,host-phys-bits=on|off" behind. `supported` is what the
/// accelerator can run; features beyond it are left out, with a warning when they were asked for by
/// name, or with an error if "enforce" is given, too. Errors name the unknown model or feature and
/// the nearest valid one.
Result<CpuidTable> cpu_model(std::string_view specification, const CpuidTable& supported);

}  // namespace limen::x86
