// The small guests of programs/, as bytes.
#include "kvm/program_bytes.h"

// NOLINTNEXTLINE(cppcoreguidelines-macro-usage)
#define LIMEN_PROGRAM(name)                                                        \
  asm(".pushsection .rodata\n"                                                     \
      "limen_program_" #name ": .incbin \"" LIMEN_TEST_GUESTS "/" #name            \
      ".bin\"\n"                                                                   \
      "limen_program_" #name                                                       \
      "_end:\n"                                                                    \
      ".popsection\n");                                                            \
  extern "C" const std::byte limen_program_##name[], limen_program_##name##_end[]; \
  std::span<const std::byte> limen::kvm::programs::name() {                        \
    return {limen_program_##name, limen_program_##name##_end};                     \
  }

LIMEN_PROGRAM(real)
LIMEN_PROGRAM(long_mode)
LIMEN_PROGRAM(compute)
