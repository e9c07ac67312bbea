#include "x86/kvm_paravirtual.h"

namespace limen::x86::kvm {

uint64_t ClockScale::nanoseconds(uint64_t count) const {
  const uint64_t shifted = shift < 0 ? count >> -shift : count << shift;
  return static_cast<uint64_t>((static_cast<unsigned __int128>(shifted) * multiplier) >> 32);
}

ClockScale clock_scale(uint64_t hz) {
  constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;
  // The multiplier's highest bit is to be set: 2^31 <= 10^9 * 2^32 / (hz * 2^shift) < 2^32.
  const auto multiplier = [hz](int shift) {
    const auto numerator = static_cast<unsigned __int128>(kNanosecondsPerSecond) << 64;
    return numerator / hz >> (32 + shift);
  };
  int shift = -31;
  while (multiplier(shift) >> 32 != 0) ++shift;
  return {static_cast<uint32_t>(multiplier(shift)), static_cast<int8_t>(shift)};
}

CpuidResult signature() {
  return {.eax = kFeatureLeaf, .ebx = 0x4B4D'564B, .ecx = 0x564B'4D56, .edx = 0x4D};
}

void hide(CpuidTable& table) {
  table.remove(kFeatureLeaf, 0);
  if (table.find(kSignatureLeaf, 0) == nullptr) return;
  table.set(kSignatureLeaf, 0, false,  // "LimenLimenLi"
            {.eax = kSignatureLeaf, .ebx = 0x656D'694C, .ecx = 0x6D69'4C6E, .edx = 0x694C'6E65});
}

}  // namespace limen::x86::kvm
