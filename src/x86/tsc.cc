#include "x86/tsc.h"

#include <cpuid.h>
#include <time.h>
#include <x86intrin.h>

#include <cmath>

namespace limen::x86 {

namespace {

struct Sample {
  uint64_t tsc = 0;
  uint64_t nanoseconds = 0;
};

uint64_t monotonic_nanoseconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// The clock between two readings of the TSC that lie close together: the closest pair of several,
// as an interrupt may fall between them.
Sample sample() {
  Sample best;
  uint64_t best_width = ~uint64_t{0};
  for (int i = 0; i < 16; ++i) {
    const uint64_t before = __rdtsc();
    const uint64_t clock = monotonic_nanoseconds();
    const uint64_t width = __rdtsc() - before;
    if (width >= best_width) continue;
    best_width = width;
    best = {before + width / 2, clock};
  }
  return best;
}

uint64_t enumerated_hz() {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(0x15, 0, &eax, &ebx, &ecx, &edx) != 0 && eax != 0 && ebx != 0 && ecx != 0)
    return static_cast<uint64_t>(ecx) * ebx / eax;
  __cpuid(1, eax, ebx, ecx, edx);
  if ((ecx >> 31 & 1) == 0) return 0;
  __cpuid(0x4000'0000, eax, ebx, ecx, edx);
  if (eax < 0x4000'0010 || eax > 0x4000'FFFF) return 0;
  __cpuid(0x4000'0010, eax, ebx, ecx, edx);  // kHz, on hypervisors that have this leaf
  return static_cast<uint64_t>(eax) * 1000;
}

uint64_t measured_hz() {
  const Sample start = sample();
  const timespec pause{.tv_sec = 0, .tv_nsec = 20'000'000};
  ::nanosleep(&pause, nullptr);
  const Sample end = sample();
  const auto cycles = static_cast<unsigned __int128>(end.tsc - start.tsc);
  return static_cast<uint64_t>(cycles * 1'000'000'000 / (end.nanoseconds - start.nanoseconds));
}

}  // namespace

uint64_t host_tsc_hz() {
  static const uint64_t hz = [] {
    const uint64_t said = enumerated_hz();
    return said != 0 ? said : measured_hz();
  }();
  return hz;
}

TscRatio tsc_ratio(uint64_t tsc_hz, uint64_t crystal_hz) {
  const uint64_t limit = ~uint32_t{0} / (crystal_hz / 1000);
  TscRatio best;
  double best_error = 0;
  for (uint64_t denominator = 1; denominator <= limit; ++denominator) {
    const uint64_t numerator = (tsc_hz * denominator + crystal_hz / 2) / crystal_hz;
    if (numerator > limit) break;
    const double error =
        std::abs(static_cast<double>(numerator) / static_cast<double>(denominator) -
                 static_cast<double>(tsc_hz) / static_cast<double>(crystal_hz));
    if (numerator == 0 || (best.denominator != 0 && error >= best_error)) continue;
    best = {static_cast<uint32_t>(numerator), static_cast<uint32_t>(denominator)};
    best_error = error;
  }
  return best;
}

}  // namespace limen::x86
