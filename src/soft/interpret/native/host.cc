#include "soft/interpret/native/host.h"

#include <cpuid.h>

#include <array>
#include <cstring>

namespace limen::soft::interpret::native {
namespace {

uint64_t read_xcr0() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

HostFeatures detect() {
  HostFeatures features;
  uint32_t eax, ebx, ecx, edx;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_OSXSAVE)) {
    features.xsave = true;
    const uint64_t xcr0 = read_xcr0();
    features.avx = (ecx & bit_AVX) && (xcr0 & 6) == 6;
    if ((xcr0 & 0xE6) == 0xE6 && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
      features.avx512f = (ebx & bit_AVX512F) != 0;
      features.avx512bw = (ebx & bit_AVX512BW) != 0;
    }
  }
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) features.bmi2 = (ebx & bit_BMI2) != 0;
  alignas(16) std::array<uint8_t, 512> image{};
  asm volatile("fninit\n fldz\n fxsave64 %0\n fninit" : "=m"(image) : : "st");
  uint64_t instruction_pointer;
  std::memcpy(&instruction_pointer, image.data() + 8, sizeof instruction_pointer);
  features.saves_x87_pointers = instruction_pointer != 0;
  std::array<uint32_t, 7> environment{};
  asm volatile("fninit\n flds %1\n fnstenv %0\n fninit"
               : "=m"(environment)
               : "m"(environment[0])
               : "st");
  features.notes_x87_opcode = environment[4] >> 16 != 0;
  features.notes_x87_data = environment[5] != 0;
  uint32_t mask;
  std::memcpy(&mask, image.data() + 28, sizeof mask);
  if (mask) features.mxcsr_mask = mask;
  return features;
}

}  // namespace

const HostFeatures& host_features() {
  static const HostFeatures features = detect();
  return features;
}

}  // namespace limen::soft::interpret::native
