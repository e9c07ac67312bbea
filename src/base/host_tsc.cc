#include "base/host_tsc.h"

#include <cpuid.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <time.h>
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

/// As a virtual machine of the kernel's is told (KVM_GET_TSC_KHZ of a VM, Linux 5.18): what the
/// kernel itself counts with. 0 where there is no KVM.
uint64_t frequency_from_kernel() {
  const UniqueFd device(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!device.valid()) return 0;
  const UniqueFd machine(::ioctl(device.get(), KVM_CREATE_VM, 0));
  if (!machine.valid()) return 0;
  const int kilohertz = ::ioctl(machine.get(), KVM_GET_TSC_KHZ, 0);
  return kilohertz > 0 ? static_cast<uint64_t>(kilohertz) * 1000 : 0;
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
