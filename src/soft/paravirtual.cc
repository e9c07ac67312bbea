#include "soft/paravirtual.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstring>
#include <string_view>

#include "base/host_tsc.h"
#include "soft/cpu.h"

namespace limen::soft {

using namespace x86::kvm;  // NOLINT(google-build-using-namespace): this file is about those names

namespace {

constexpr unsigned kLooksPerSecond = 250;
constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr uint64_t kStealTimeReserved = 0x3E;

uint32_t features(const Cpu& cpu) {
  const auto* leaf = cpu.cpuid.find(kFeatureLeaf, 0);
  return leaf != nullptr ? leaf->eax : 0;
}

uint32_t feature_of(uint32_t index) {
  switch (index) {
    case msr::kOldWallClock:
    case msr::kOldSystemTime:
      return kClockSource;
    case msr::kWallClock:
    case msr::kSystemTime:
      return kClockSource2;
    case msr::kStealTime:
      return kStealTimeFeature;
    default:
      return 0;
  }
}

/// Writes a structure of which `version` is the version, odd while the rest is written. False:
/// there is no RAM at `address`.
template <typename T>
bool publish(Cpu& cpu, uint64_t address, uint32_t T::*version, const T& value) {
  const auto bytes = cpu.ram.span({address}, sizeof(T));
  if (bytes.size() != sizeof(T)) return false;
  T image = value;
  const auto offset =
      reinterpret_cast<std::byte*>(&(image.*version)) - reinterpret_cast<std::byte*>(&image);
  // Every address that a register takes is a multiple of four.
  std::atomic_ref counter(*reinterpret_cast<uint32_t*>(bytes.data() + offset));
  const uint32_t odd = (counter.load(std::memory_order_relaxed) + 1) | 1;
  counter.store(odd, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  image.*version = odd;
  std::memcpy(bytes.data(), &image, sizeof image);
  counter.store(odd + 1, std::memory_order_release);
  cpu.ram.note_written({address}, sizeof image);
  return true;
}

template <typename T>
std::optional<T> fetch(const Cpu& cpu, uint64_t address) {
  const auto bytes = cpu.ram.span({address}, sizeof(T));
  if (bytes.size() != sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

const ClockScale& host_clock_scale() {
  static const ClockScale scale = clock_scale(host_tsc_hz());
  return scale;
}

/// What the guest's TSC was at power-on, when system time was 0. Every processor's clock is the
/// same function of the host's TSC, so that their times can be compared to the nanosecond: only
/// what the guest itself did to a TSC stands between them.
uint64_t tsc_at_power_on(const Cpu& cpu) { return cpu.system.tsc_adjust; }

bool write_wall_clock(Cpu& cpu, uint64_t address) {
  if (address % 4 != 0) return false;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const uint64_t up = host_clock_scale().nanoseconds(cpu.guest_tsc() - tsc_at_power_on(cpu));
  const uint64_t since_epoch = static_cast<uint64_t>(now.tv_sec) * kNanosecondsPerSecond +
                               static_cast<uint64_t>(now.tv_nsec);
  const uint64_t start = since_epoch - up;
  return publish<WallClock>(cpu, address, &WallClock::version,
                            {.seconds = static_cast<uint32_t>(start / kNanosecondsPerSecond),
                             .nanoseconds = static_cast<uint32_t>(start % kNanosecondsPerSecond)});
}

}  // namespace

uint64_t RunDelay::operator()() {
  if (!file_.valid()) file_ = UniqueFd(::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC));
  std::array<char, 96> text{};
  const ssize_t size = file_.valid() ? ::pread(file_.get(), text.data(), text.size(), 0) : 0;
  if (size <= 0) return 0;
  // Time on a processor, time of waiting for one, number of turns (Linux sched-stats.rst).
  std::string_view rest(text.data(), static_cast<size_t>(size));
  rest.remove_prefix(std::min(rest.find(' ') + 1, rest.size()));
  uint64_t waited = 0;
  std::from_chars(rest.data(), rest.data() + rest.size(), waited);
  return waited;
}

Paravirtual::Paravirtual(std::move_only_function<uint64_t()> run_delay)
    : run_delay_(std::move(run_delay)) {}

bool Paravirtual::is_register(uint32_t index) { return feature_of(index) != 0; }

bool Paravirtual::read(const Cpu& cpu, uint32_t index, uint64_t& value) const {
  if ((features(cpu) & feature_of(index)) == 0) return false;
  const auto& system = cpu.system;
  if (index == msr::kStealTime)
    value = system.kvm_steal_time;
  else if (index == msr::kSystemTime || index == msr::kOldSystemTime)
    value = system.kvm_system_time;
  else
    value = system.kvm_wall_clock;
  return true;
}

bool Paravirtual::write(Cpu& cpu, uint32_t index, uint64_t value) {
  if ((features(cpu) & feature_of(index)) == 0) return false;
  auto& system = cpu.system;
  const bool enable = (value & msr::kEnable) != 0;
  switch (index) {
    case msr::kWallClock:
    case msr::kOldWallClock:
      // The time is written once, when it is asked for.
      if (!write_wall_clock(cpu, value)) return false;
      system.kvm_wall_clock = value;
      return true;
    case msr::kSystemTime:
    case msr::kOldSystemTime:
      if (enable && ((value & 2) != 0 || !fetch<SystemTime>(cpu, value & ~msr::kEnable)))
        return false;
      // What stood there before is no flag of ours.
      if (enable)
        publish<SystemTime>(cpu, value & ~msr::kEnable, &SystemTime::version, SystemTime{});
      system.kvm_system_time = value;
      write_system_time(cpu, false);
      return true;
    default:
      if ((value & kStealTimeReserved) != 0 ||
          (enable && !fetch<StealTime>(cpu, value & ~msr::kEnable)))
        return false;
      system.kvm_steal_time = value;
      registers_changed(cpu);
      update_steal_time(cpu, __builtin_ia32_rdtsc());
      return true;
  }
}

void Paravirtual::registers_changed(Cpu& cpu) {
  const bool on = (cpu.system.kvm_steal_time & msr::kEnable) != 0;
  baseline_wanted_ = on;
  next_look_ = on ? 0 : UINT64_MAX;
}

void Paravirtual::write_system_time(Cpu& cpu, bool stopped) {
  const uint64_t value = cpu.system.kvm_system_time;
  if ((value & msr::kEnable) == 0) return;
  const uint64_t address = value & ~msr::kEnable;
  const auto before = fetch<SystemTime>(cpu, address);
  if (!before) return;
  const ClockScale& scale = host_clock_scale();
  uint8_t flags = stopped ? SystemTime::kGuestStopped : before->flags & SystemTime::kGuestStopped;
  if ((features(cpu) & kClockSourceStable) != 0) flags |= SystemTime::kTscStable;
  publish<SystemTime>(cpu, address, &SystemTime::version,
                      {.tsc_timestamp = tsc_at_power_on(cpu),
                       .system_time = 0,
                       .tsc_to_system_mul = scale.multiplier,
                       .tsc_shift = scale.shift,
                       .flags = flags});
}

void Paravirtual::update_steal_time(Cpu& cpu, uint64_t host_tsc) {
  static const uint64_t interval = host_tsc_hz() / kLooksPerSecond;
  next_look_ = UINT64_MAX;
  if ((cpu.system.kvm_steal_time & msr::kEnable) == 0) return;
  next_look_ = host_tsc + interval;
  const uint64_t delay = run_delay_();
  if (baseline_wanted_) run_delay_seen_ = delay;
  const bool first = std::exchange(baseline_wanted_, false);
  if (delay == run_delay_seen_ && !first) return;
  const uint64_t address = cpu.system.kvm_steal_time & ~msr::kEnable;
  auto value = fetch<StealTime>(cpu, address);
  if (!value) return;
  value->steal += delay - run_delay_seen_;
  value->flags = 0;
  value->preempted = 0;
  publish<StealTime>(cpu, address, &StealTime::version, *value);
  run_delay_seen_ = delay;
}

}  // namespace limen::soft
