// The guest's x87 state while it stands in the host's registers, where translated code works on it.
#pragma once

#include <array>
#include <cstdint>

namespace limen::soft::translate {

/// It is loaded when a block needs it, and stored whenever code comes back to the translator:
/// compiled code finds an x87 unit that is as FNINIT leaves it.
struct X87State {
  /// For XRSTOR and XSAVE of the x87 state alone (SDM Vol. 1 13.4).
  struct alignas(64) Area {
    uint64_t words = 0;  ///< Control, status, tags, FOP.
    uint64_t instruction = 0;
    uint64_t data = 0;
    uint64_t mxcsr = 0;
    std::array<uint64_t, 16> stack{};
    std::array<uint64_t, 44> unused{};
    std::array<uint64_t, 8> header{};
  };
  static_assert(sizeof(Area) == 576);

  Area area;
  uint8_t away = 1;  ///< It is in Cpu::vector, not in the host's registers.
  // What the host notes of its own code and addresses, as the guest is to see it.
  uint32_t site = 0;  ///< Of the instruction that FIP and FOP tell of; 0: none since it was loaded.
  uint64_t data = 0;  ///< FDP.
};

}  // namespace limen::soft::translate
