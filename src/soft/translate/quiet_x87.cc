#include "soft/cpu.h"
#include "soft/interpret/native/image.h"
#include "soft/translate/quiet.h"

namespace limen::soft::translate {

using namespace interpret::native;  // NOLINT(google-build-using-namespace): offsets in the image

Continuation on_load_x87(Cpu* cpu, uint64_t, const CallSite* site) noexcept {
  X87State& x87 = cpu->generated.x87;
  constexpr uint64_t kWithoutOpcode = (uint64_t{1} << (8 * kOpcodeAt)) - 1;
  const uint8_t* from = cpu->vector.fxsave.data() + kStackAt;
  uint64_t* to = x87.area.stack.data();
  uint64_t count = x87.area.stack.size();
  asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  x87.area.words = image_field<uint64_t>(cpu->vector, kControlWordAt) & kWithoutOpcode;
  // With them zero, what is there later is known to be the host's.
  x87.area.instruction = x87.area.data = 0;
  x87.area.header[0] = x86::xcr0::kX87;
  asm volatile("xrstor64 %0" : : "m"(x87.area), "a"(x86::xcr0::kX87), "d"(0));
  x87.site = 0;
  x87.data = image_field<uint64_t>(cpu->vector, kDataPointerAt);
  x87.away = 0;
  return {0, cpu->generated.code + site->resume};
}

}  // namespace limen::soft::translate
