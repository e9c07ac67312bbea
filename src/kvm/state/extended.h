// x87, SSE, AVX and AVX-512 registers in an XSAVE area.
#pragma once

#include <cstdint>
#include <span>

#include "x86/cpu_state.h"
#include "x86/cpuid.h"

namespace limen::kvm {

/// Where an XSAVE area of the standard format has each component: leaf 0DH of the host, as the
/// kernel's area is the host's (SDM Vol. 1 13.4).
class ExtendedLayout {
 public:
  /// `host`: leaf 0DH, with all that the processor has. Without one, x87 and SSE alone.
  explicit ExtendedLayout(const x86::CpuidTable& host);

  /// Bytes of an area with all that CpuState can hold.
  [[nodiscard]] size_t size() const { return size_; }
  /// Fills `area`, zeroed and at least size() long, with those of `components` (as XCR0 counts
  /// them) that the host has: some kernels refuse what a guest's leaf 0DH does not show.
  void fill(const x86::VectorState& state, uint64_t components, std::span<uint8_t> area) const;
  void take(std::span<const uint8_t> area, x86::VectorState& state) const;

 private:
  /// 0: not there.
  struct Offsets {
    uint32_t avx = 0, opmask = 0, zmm_high = 0, high_zmm = 0, pkru = 0;
  };
  uint64_t components_ = 0;  ///< As XCR0 counts them.
  Offsets offsets_;
  size_t size_ = 0;
};

}  // namespace limen::kvm
