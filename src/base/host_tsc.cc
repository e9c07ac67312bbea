#include "base/host_tsc.h"

#include <cpuid.h>
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/unique_fd.h"

namespace limen {
namespace {

struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(uint32_t leaf) {
  Leaf result;
  __cpuid_count(leaf, 0, result.eax, result.ebx, result.ecx, result.edx);
  return result;
}

/// 0 when it does not say.
uint64_t frequency_from_cpuid() {
  constexpr uint32_t kTscLeaf = 0x15, kHypervisorLeaf = 0x4000'0000, kTimingLeaf = 0x4000'0010;
  constexpr uint32_t kHypervisorPresent = 1u << 31;
  if (cpuid(0).eax >= kTscLeaf) {
    const Leaf tsc = cpuid(kTscLeaf);
    if (tsc.eax != 0 && tsc.ebx != 0 && tsc.ecx != 0) return uint64_t{tsc.ecx} * tsc.ebx / tsc.eax;
  }
  if ((cpuid(1).ecx & kHypervisorPresent) != 0) {
    const uint32_t highest = cpuid(kHypervisorLeaf).eax;
    if (highest >= kTimingLeaf && highest < kHypervisorLeaf + 0x100)
      return uint64_t{cpuid(kTimingLeaf).eax} * 1000;
  }
  return 0;
}

/// What the kernel computes its own clock with, shown to those who count events (perf_event_open(2),
/// time_mult): nanoseconds are ticks * time_mult >> time_shift. 0 where that is forbidden, as by
/// kernel.perf_event_paranoid or in containers.
uint64_t frequency_from_kernel() {
  perf_event_attr event{};
  event.size = sizeof event;
  event.type = PERF_TYPE_SOFTWARE;
  event.config = PERF_COUNT_SW_DUMMY;
  event.exclude_kernel = event.exclude_hv = 1;
  const UniqueFd fd(static_cast<int>(
      ::syscall(SYS_perf_event_open, &event, 0, -1, -1, static_cast<unsigned long>(PERF_FLAG_FD_CLOEXEC))));
  if (!fd.valid()) return 0;
  const auto size = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  void* const memory = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return 0;
  const auto& page = *static_cast<const perf_event_mmap_page*>(memory);
  uint64_t frequency = 0;
  if (page.cap_user_time != 0 && page.time_mult != 0 && page.time_shift < 64)
    frequency = static_cast<uint64_t>((static_cast<unsigned __int128>(1'000'000'000) << page.time_shift) /
                                      page.time_mult);
  ::munmap(memory, size);
  return frequency;
}

struct Instant {
  int64_t nanoseconds = 0;
  uint64_t tsc = 0;
};

/// Both clocks read together: the pair out of a few with the least time between.
Instant now() {
  Instant best;
  uint64_t best_gap = UINT64_MAX;
  for (int i = 0; i < 16; ++i) {
    const uint64_t before = __rdtsc();
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    const uint64_t after = __rdtsc();
    if (after - before >= best_gap) continue;
    best_gap = after - before;
    best = {int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec, before + best_gap / 2};
  }
  return best;
}

uint64_t measure() {
  if (const uint64_t stated = frequency_from_cpuid(); stated != 0) return stated;
  if (const uint64_t known = frequency_from_kernel(); known != 0) return known;
  const Instant start = now();
  timespec pause{.tv_sec = 0, .tv_nsec = 20'000'000};
  ::nanosleep(&pause, nullptr);
  const Instant end = now();
  const double seconds = static_cast<double>(end.nanoseconds - start.nanoseconds) / 1e9;
  return static_cast<uint64_t>(static_cast<double>(end.tsc - start.tsc) / seconds);
}

}  // namespace

uint64_t host_tsc_hz() {
  static const uint64_t frequency = measure();
  return frequency;
}

}  // namespace limen
