#include "x86/cpu_state.h"

#include <cstring>

namespace limen::x86 {

CpuState reset_state(uint32_t signature) {
  CpuState state;
  state.gpr[kRdx] = signature;
  state.rip = 0xFFF0;
  for (auto& segment : state.system.segments)
    segment = {.attributes = Segment::kPresent | Segment::kNotSystem | Segment::kWritable |
                             Segment::kAccessed,
               .limit = 0xFFFF};
  auto& cs = state.system.segments[kCs];
  cs.selector = 0xF000;
  cs.base = 0xFFFF0000;
  cs.attributes |= Segment::kCode;
  state.system.ldtr = {.attributes = Segment::kPresent | 2, .limit = 0xFFFF};
  state.system.tr = {.attributes = Segment::kPresent | 11, .limit = 0xFFFF};
  state.system.cr0 = cr0::kCacheDisable | cr0::kNotWriteThrough | cr0::kExtensionType;
  state.system.dr[6] = 0xFFFF0FF0;
  state.system.dr[7] = 0x400;
  const uint16_t control_word = 0x0040;
  const uint32_t mxcsr = 0x1F80;
  std::memcpy(state.vector.fxsave.data(), &control_word, sizeof control_word);
  state.vector.fxsave[4] = 0xFF;  // abridged tag word: all valid (tag word 5555H)
  std::memcpy(state.vector.fxsave.data() + 24, &mxcsr, sizeof mxcsr);
  return state;
}

}  // namespace limen::x86
