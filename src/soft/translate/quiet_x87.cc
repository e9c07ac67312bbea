#include "soft/cpu.h"
#include "soft/interpret/native/image.h"
#include "soft/translate/quiet.h"

namespace limen::soft::translate {

using namespace interpret::native;  // NOLINT(google-build-using-namespace): offsets in the image

Continuation on_load_x87(Cpu* cpu, uint64_t, const CallSite* site) noexcept {
  X87State& x87 = cpu->generated.x87;
  const uint8_t* from = cpu->vector.fxsave.data();
  uint8_t* to = x87.area.legacy.data();
  // The pointers stay zero: what the host notes instead is known to be its own.
  uint64_t words = 0;
  __builtin_memcpy(&words, from, kOpcodeAt);
  __builtin_memcpy(to, &words, sizeof words);
  __builtin_memset(to + kInstructionPointerAt, 0, kMxcsrAt - kInstructionPointerAt);
  from += kStackAt;
  to += kStackAt;
  uint64_t count = 128 / sizeof(uint64_t);
  asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  x87.area.header[0] = x86::xcr0::kX87;
  asm volatile("xrstor64 %0" : : "m"(x87.area), "a"(x86::xcr0::kX87), "d"(0));
  x87.site = 0;
  x87.data = image_field<uint64_t>(cpu->vector, kDataPointerAt);
  x87.away = 0;
  return {0, cpu->generated.code + site->resume};
}

}  // namespace limen::soft::translate
