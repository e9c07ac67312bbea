#include "soft/interpret/system/cpuid.h"

#include <algorithm>

namespace limen::soft::interpret {

using namespace x86;  // NOLINT(google-build-using-namespace): register bits by the dozen

namespace {

constexpr uint32_t kLegacyAndHeader = 512 + 64;

// Bytes that XSAVE needs for the components of `mask` (SDM Vol. 1 13.4.2, 13.4.3).
uint32_t save_area_size(const CpuidTable& table, uint64_t mask, bool compacted) {
  uint32_t size = kLegacyAndHeader;
  for (uint32_t component = 2; component < 32; ++component) {
    if ((mask >> component & 1) == 0) continue;
    const auto* layout = table.find(0xD, component);
    if (layout == nullptr) continue;
    if (!compacted) {
      size = std::max(size, layout->ebx + layout->eax);
      continue;
    }
    if ((layout->ecx & 2) != 0) size = (size + 63) & ~63u;
    size += layout->eax;
  }
  return size;
}

}  // namespace

CpuidResult cpuid_answer(const Cpu& cpu, uint32_t leaf, uint32_t subleaf) {
  CpuidResult result = cpu.cpuid.answer(leaf, subleaf);
  constexpr uint32_t kOsxsave = 1u << 27;
  constexpr uint32_t kApic = 1u << 9;
  constexpr uint32_t kNx = 1u << 20;
  switch (leaf) {
    case 0:
      if ((cpu.system.misc_enable & misc_enable::kLimitCpuidMaxval) != 0)
        result.eax = std::min(result.eax, 3u);
      break;
    case 1:
    case 0x8000'0001: {
      if (leaf == 1 && (cpu.system.cr4 & cr4::kOsxsave) != 0) result.ecx |= kOsxsave;
      if (leaf == 0x8000'0001 && (cpu.system.misc_enable & misc_enable::kXdDisable) != 0)
        result.edx &= ~kNx;
      if (leaf == 0x8000'0001 && !cpu.cpuid.is_amd()) break;
      uint64_t base = 0;
      constexpr uint64_t kEnabled = 1u << 11;
      if ((result.edx & kApic) != 0 && cpu.interrupts.read_msr(msr::kApicBase, base) &&
          (base & kEnabled) == 0)
        result.edx &= ~kApic;
      break;
    }
    case 0xD:
      if (result.eax == 0 && subleaf < 2) break;
      if (subleaf == 0) result.ebx = save_area_size(cpu.cpuid, cpu.system.xcr0, false);
      if (subleaf == 1 && (result.eax & 0xA) != 0)  // XSAVEC or XSAVES
        result.ebx = save_area_size(cpu.cpuid, cpu.system.xcr0 | cpu.system.xss, true);
      break;
    default:
      break;
  }
  return result;
}

}  // namespace limen::soft::interpret
