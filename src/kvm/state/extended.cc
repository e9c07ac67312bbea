#include "kvm/state/extended.h"

#include <algorithm>
#include <cstring>

#include "x86/registers.h"

namespace limen::kvm {
namespace {

namespace xcr0 = x86::xcr0;

constexpr uint32_t kLeaf = 0xD;
constexpr uint64_t kPkru = x86::xcr0::kProtectionKeys;
// The legacy region and the header (SDM Vol. 1 13.4.1, 13.4.2).
constexpr size_t kMxcsr = 24, kSt0 = 32, kXmm = 160, kXmmSize = 16, kHeader = 512, kHeaderSize = 64;
constexpr size_t kLowRegisters = 16;

}  // namespace

ExtendedLayout::ExtendedLayout(const x86::CpuidTable& host) {
  const auto* all = host.find(kLeaf, 0);
  components_ = xcr0::kX87 | xcr0::kSse;
  size_ = kHeader + kHeaderSize;
  if (all == nullptr) return;
  struct Component {
    unsigned number;
    uint32_t Offsets::*offset;
  };
  for (const auto& component : {Component{2, &Offsets::avx}, Component{5, &Offsets::opmask},
                                Component{6, &Offsets::zmm_high}, Component{7, &Offsets::high_zmm},
                                Component{9, &Offsets::pkru}}) {
    const auto* place = host.find(kLeaf, component.number);
    if ((all->eax >> component.number & 1) == 0 || place == nullptr) continue;
    components_ |= uint64_t{1} << component.number;
    offsets_.*component.offset = place->ebx;
    size_ = std::max(size_, size_t{place->ebx} + place->eax);
  }
}

void ExtendedLayout::fill(const x86::VectorState& state, uint64_t components,
                          std::span<uint8_t> area) const {
  std::copy(state.fxsave.begin(), state.fxsave.end(), area.begin());
  for (size_t i = 0; i < kLowRegisters; ++i) {
    std::memcpy(&area[kXmm + i * kXmmSize], state.zmm[i].data(), kXmmSize);
    if (offsets_.avx != 0) std::memcpy(&area[offsets_.avx + i * 16], state.zmm[i].data() + 16, 16);
    if (offsets_.zmm_high != 0)
      std::memcpy(&area[offsets_.zmm_high + i * 32], state.zmm[i].data() + 32, 32);
    if (offsets_.high_zmm != 0)
      std::memcpy(&area[offsets_.high_zmm + i * 64], state.zmm[kLowRegisters + i].data(), 64);
  }
  if (offsets_.opmask != 0)
    std::memcpy(&area[offsets_.opmask], state.opmask.data(), sizeof state.opmask);
  if (offsets_.pkru != 0) std::memcpy(&area[offsets_.pkru], &state.pkru, sizeof state.pkru);
  components &= components_;
  std::memcpy(&area[kHeader], &components, sizeof components);  // XSTATE_BV
}

void ExtendedLayout::take(std::span<const uint8_t> area, x86::VectorState& state) const {
  uint64_t present = 0;  // what XSTATE_BV leaves out is in its initial state
  std::memcpy(&present, &area[kHeader], sizeof present);
  std::copy_n(area.begin(), state.fxsave.size(), state.fxsave.begin());
  if ((present & xcr0::kX87) == 0) {
    // Kernels before 5.16 leave there what was.
    std::fill_n(state.fxsave.begin(), kMxcsr, 0);
    std::fill(state.fxsave.begin() + kSt0, state.fxsave.end(), 0);
    constexpr uint16_t kInitialControl = 0x37F;
    std::memcpy(state.fxsave.data(), &kInitialControl, sizeof kInitialControl);
  }
  state.zmm = {};
  state.opmask = {};
  state.pkru = 0;
  const auto has = [present](uint64_t component, uint32_t offset) {
    return offset != 0 && (present & component) != 0;
  };
  for (size_t i = 0; i < kLowRegisters; ++i) {
    if ((present & xcr0::kSse) != 0)
      std::memcpy(state.zmm[i].data(), &area[kXmm + i * kXmmSize], kXmmSize);
    if (has(xcr0::kAvx, offsets_.avx))
      std::memcpy(state.zmm[i].data() + 16, &area[offsets_.avx + i * 16], 16);
    if (has(xcr0::kZmmHi256, offsets_.zmm_high))
      std::memcpy(state.zmm[i].data() + 32, &area[offsets_.zmm_high + i * 32], 32);
    if (has(xcr0::kHi16Zmm, offsets_.high_zmm))
      std::memcpy(state.zmm[kLowRegisters + i].data(), &area[offsets_.high_zmm + i * 64], 64);
  }
  if (has(xcr0::kOpmask, offsets_.opmask))
    std::memcpy(state.opmask.data(), &area[offsets_.opmask], sizeof state.opmask);
  if (has(kPkru, offsets_.pkru)) std::memcpy(&state.pkru, &area[offsets_.pkru], sizeof state.pkru);
}

}  // namespace limen::kvm
