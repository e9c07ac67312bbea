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

CpuState state_after_init(const CpuState& state, uint32_t signature, bool bootstrap_processor) {
  CpuState fresh = reset_state(signature);
  SystemState system = state.system;
  system.segments = fresh.system.segments;
  system.ldtr = fresh.system.ldtr;
  system.tr = fresh.system.tr;
  system.gdtr = fresh.system.gdtr;
  system.idtr = fresh.system.idtr;
  constexpr uint64_t kKept = cr0::kCacheDisable | cr0::kNotWriteThrough;
  system.cr0 = (state.system.cr0 & kKept) | cr0::kExtensionType;
  system.cr2 = system.cr3 = system.cr4 = 0;
  system.efer = 0;
  system.dr = fresh.system.dr;
  // A kernel that is started by INIT knows nothing of the pages of the one before.
  system.kvm_wall_clock = system.kvm_system_time = system.kvm_steal_time = 0;
  fresh.system = system;
  fresh.vector = state.vector;
  fresh.other_msrs = state.other_msrs;
  fresh.activity.wait_for_sipi = !bootstrap_processor;
  return fresh;
}

void start_up(CpuState& state, uint8_t vector) {
  if (!state.activity.wait_for_sipi) return;
  Segment& cs = state.system.segments[kCs];
  cs.selector = static_cast<uint16_t>(vector << 8);
  cs.base = uint64_t{vector} << 12;
  state.rip = 0;
  state.activity.wait_for_sipi = false;
  state.activity.halted = false;
}

}  // namespace limen::x86
