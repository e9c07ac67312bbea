// The FXSAVE image in which the guest's x87 state and MXCSR are kept (SDM Vol. 1 10.5.1).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "x86/cpu_state.h"

namespace limen::soft::interpret::native {

inline constexpr unsigned kControlWordAt = 0;
inline constexpr unsigned kStatusWordAt = 2;
inline constexpr unsigned kTagsAt = 4;  ///< One bit for each physical register: not empty.
inline constexpr unsigned kOpcodeAt = 6;
inline constexpr unsigned kInstructionPointerAt = 8;
inline constexpr unsigned kDataPointerAt = 16;
inline constexpr unsigned kMxcsrAt = 24;
inline constexpr unsigned kMxcsrMaskAt = 28;
inline constexpr unsigned kStackAt = 32;  ///< ST0 to ST7, 16 bytes each.
inline constexpr unsigned kXmmAt = 160;

inline constexpr uint32_t kInitialMxcsr = 0x1F80;
inline constexpr uint16_t kInitialControlWord = 0x37F;
inline constexpr uint16_t kExceptionBits = 0x3F;
inline constexpr uint16_t kErrorSummary = 0x80;
inline constexpr uint16_t kBusy = 0x8000;

template <typename T>
[[nodiscard]] T image_field(const x86::VectorState& state, unsigned offset) {
  T value;
  std::memcpy(&value, state.fxsave.data() + offset, sizeof value);
  return value;
}

template <typename T>
void set_image_field(x86::VectorState& state, unsigned offset, T value) {
  std::memcpy(state.fxsave.data() + offset, &value, sizeof value);
}

[[nodiscard]] inline unsigned x87_top(const x86::VectorState& state) {
  return (image_field<uint16_t>(state, kStatusWordAt) >> 11) & 7;
}

/// Sets TOP. The physical registers stay where they are, so the image, which has them from the top
/// of the stack, is turned.
inline void set_x87_top(x86::VectorState& state, unsigned top) {
  const unsigned by = (top - x87_top(state)) & 7;
  const auto stack = state.fxsave.begin() + kStackAt;
  std::rotate(stack, stack + 16 * static_cast<int>(by), stack + 128);
  const auto status = image_field<uint16_t>(state, kStatusWordAt);
  set_image_field(state, kStatusWordAt, static_cast<uint16_t>((status & ~0x3800) | top << 11));
}

/// The state after FNINIT; the physical registers are left as they are.
inline void initialize_x87(x86::VectorState& state) {
  set_x87_top(state, 0);
  std::memset(state.fxsave.data(), 0, kMxcsrAt);
  set_image_field(state, kControlWordAt, kInitialControlWord);
}

/// An unmasked exception is noted: the next waiting instruction raises #MF.
[[nodiscard]] inline bool x87_exception_pending(const x86::VectorState& state) {
  const auto control = image_field<uint16_t>(state, kControlWordAt);
  const auto status = image_field<uint16_t>(state, kStatusWordAt);
  return (status & ~control & kExceptionBits) != 0;
}

/// Sets or clears ES and B to agree with the exceptions noted and their masks.
inline void update_error_summary(x86::VectorState& state) {
  auto status = image_field<uint16_t>(state, kStatusWordAt);
  status = static_cast<uint16_t>(status & ~(kErrorSummary | kBusy));
  if (x87_exception_pending(state)) status |= kErrorSummary | kBusy;
  set_image_field(state, kStatusWordAt, status);
}

}  // namespace limen::soft::interpret::native
