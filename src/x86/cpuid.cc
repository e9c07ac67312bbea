#include "x86/cpuid.h"

namespace limen::x86 {

const CpuidResult* CpuidTable::find(uint32_t leaf, uint32_t subleaf) const {
  for (const auto& entry : entries_)
    if (entry.leaf == leaf && (!entry.indexed || entry.subleaf == subleaf)) return &entry.result;
  return nullptr;
}

void CpuidTable::set(uint32_t leaf, uint32_t subleaf, bool indexed, CpuidResult result) {
  for (auto& entry : entries_)
    if (entry.leaf == leaf && (!indexed || entry.subleaf == subleaf)) {
      entry.indexed = indexed;
      entry.result = result;
      return;
    }
  entries_.push_back({leaf, subleaf, indexed, result});
}

void CpuidTable::remove(uint32_t leaf, uint32_t subleaf) {
  std::erase_if(entries_, [&](const Entry& entry) {
    return entry.leaf == leaf && (!entry.indexed || entry.subleaf == subleaf);
  });
}

void CpuidTable::remove_from(uint32_t leaf, uint32_t first) {
  std::erase_if(entries_,
                [&](const Entry& entry) { return entry.leaf == leaf && entry.subleaf >= first; });
}

bool CpuidTable::is_amd() const {
  const auto* vendor = find(0, 0);
  return vendor != nullptr && vendor->ebx == 0x6874'7541;  // "Auth"enticAMD
}

CpuidResult CpuidTable::answer(uint32_t leaf, uint32_t subleaf) const {
  if (const auto* result = find(leaf, subleaf)) return *result;
  const bool hypervisor_range = leaf >= 0x4000'0000 && leaf < 0x8000'0000;
  const auto* range = find(leaf & 0x8000'0000, 0);
  const bool beyond = range == nullptr || leaf > range->eax;
  const auto* basic = find(0, 0);
  if (beyond && !hypervisor_range && basic != nullptr && !is_amd()) {
    const auto* last = find(basic->eax, subleaf);
    return last != nullptr ? *last : CpuidResult{};
  }
  // Levels that do not exist repeat ECX[7:0] and the x2APIC ID (SDM Vol. 2A CPUID, leaf 0BH).
  if ((leaf == 0xB || leaf == 0x1F) && find(leaf, 0) != nullptr)
    return {.ecx = subleaf & 0xFF, .edx = find(leaf, 0)->edx};
  return {};
}

}  // namespace limen::x86
