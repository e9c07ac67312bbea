#include "kvm/probe.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "kvm/probe_guest.h"

namespace limen::kvm {
namespace {

using Seconds = std::chrono::duration<double>;
using Program = ProbeGuest::Program;

/// All programs together; what is left of 300 milliseconds is for making and ending the machine.
constexpr std::chrono::milliseconds kWholeLimit{240};
/// A loop; the other ring must have its turn.
constexpr std::chrono::milliseconds kLoopLimit{80};
constexpr std::chrono::milliseconds kStepLimit{30};

constexpr uint64_t kFirstRounds = 500;
constexpr uint64_t kMostRounds = 4'000'000;
/// How long a loop is to be measured; one that took as long for kFirstRounds is slow enough.
constexpr Seconds kMeasured{0.002};
constexpr int kTries = 3;

double rate(uint64_t rounds, Seconds time) {
  return time.count() > 0 ? static_cast<double>(rounds * kProbeLoopInstructions) / time.count() : 0;
}

uint64_t rounds_for(double instructions_per_second) {
  const double rounds =
      instructions_per_second * kMeasured.count() / static_cast<double>(kProbeLoopInstructions);
  return static_cast<uint64_t>(
      std::clamp(rounds, static_cast<double>(kFirstRounds), static_cast<double>(kMostRounds)));
}

/// The loop in this process.
class NativeLoop {
 public:
  NativeLoop() {
    constexpr uint8_t kReturn = 0xC3;
    code_ = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code_ == MAP_FAILED) return;
    auto* to = static_cast<uint8_t*>(code_);
    std::ranges::copy(kProbeLoop, to);
    to[kProbeLoop.size()] = kReturn;
    ready_ = ::mprotect(code_, kSize, PROT_READ | PROT_EXEC) == 0;
  }
  ~NativeLoop() {
    if (code_ != MAP_FAILED) ::munmap(code_, kSize);
  }
  NativeLoop(const NativeLoop&) = delete;
  NativeLoop& operator=(const NativeLoop&) = delete;

  /// Instructions a second; 0: this process may not make code.
  double measure() {
    if (!ready_) return 0;
    double best = time(kFirstRounds);
    const uint64_t rounds = rounds_for(best);
    for (int i = 0; i < kTries; ++i) best = std::max(best, time(rounds));
    return best;
  }

 private:
  static constexpr size_t kSize = 4096;

  double time(uint64_t rounds) {
    // The loop's registers are those of the calling convention: RSI, RDX, RCX.
    using Function = void (*)(uint64_t, uint64_t*, uint64_t, uint64_t);
    uint64_t data = 0;
    timespec from{}, to{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    reinterpret_cast<Function>(code_)(0, &data, 0, rounds);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    const Seconds took = std::chrono::seconds(to.tv_sec - from.tv_sec) +
                         std::chrono::nanoseconds(to.tv_nsec - from.tv_nsec);
    return rate(rounds, took);
  }

  void* code_ = MAP_FAILED;
  bool ready_ = false;
};

class Probe {
 public:
  explicit Probe(const Device& device) : device_(device) {}

  ProbeResult result() {
    auto guest = ProbeGuest::create(device_);
    if (!guest) {
      note("making a machine", guest.error().message);
      return std::move(result_);
    }
    guest_ = std::move(*guest);
    result_.native_rate = NativeLoop().measure();
    if (result_.native_rate == 0) note("the native loop", "this process may not make code");
    result_.kernel_rate = measure(Program::kKernelLoop, "ring 0");
    result_.user_rate = measure(Program::kUserLoop, "ring 3");
    result_.runs = result_.kernel_rate > 0 && result_.user_rate > 0;
    result_.breakpoint = step(Program::kBreakpoint, "INT3 in ring 0");
    result_.system_call = step(Program::kSystemCall, "SYSCALL in ring 3");
    return std::move(result_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  void note(std::string_view where, std::string_view what) {
    result_.trouble += fmt::format("{}{}: {}", result_.trouble.empty() ? "" : "; ", where, what);
  }

  /// What is left for the next program, at most `limit`.
  [[nodiscard]] std::chrono::nanoseconds left(std::chrono::nanoseconds limit) const {
    constexpr std::chrono::nanoseconds kLeast{1'000'000};
    return std::max(std::min<std::chrono::nanoseconds>(end_ - Clock::now(), limit), kLeast);
  }

  /// Instructions a second of one of the loops; 0 and a note where it cannot be told.
  double measure(Program program, std::string_view where) {
    const auto end = Clock::now() + kLoopLimit;
    double best = 0;
    uint64_t rounds = kFirstRounds;
    // The first run pays for what is touched first. Then there are more rounds until it takes long
    // enough, or until it takes long with the fewest.
    for (int measured = -1; measured < kTries;) {
      const auto outcome = guest_->run(program, rounds, left(end - Clock::now()));
      if (!outcome) {
        note(where, outcome.error().message);
        return 0;
      }
      if (outcome->timed_out) {
        // A back end that emulates is known by how far it got.
        if (best == 0 && outcome->rounds_left < rounds)
          best = rate(rounds - outcome->rounds_left, outcome->processor_time);
        if (best == 0) note(where, outcome->trouble);
        return best;
      }
      if (!outcome->trouble.empty()) {
        note(where, outcome->trouble);
        return 0;
      }
      if (measured < 0) {
        measured = 0;
        continue;
      }
      best = std::max(best, rate(rounds, outcome->processor_time));
      const bool long_enough = outcome->processor_time >= kMeasured / 2 || rounds == kMostRounds;
      if (long_enough) ++measured;
      if (long_enough && rounds == kFirstRounds && measured == 2) return best;
      if (!long_enough) rounds = std::min(std::max(rounds_for(best), rounds * 2), kMostRounds);
    }
    return best;
  }

  bool step(Program program, std::string_view where) {
    const auto outcome = guest_->run(program, 0, left(kStepLimit));
    if (!outcome)
      note(where, outcome.error().message);
    else if (!outcome->trouble.empty())
      note(where, outcome->trouble);
    return outcome && outcome->trouble.empty();
  }

  const Device& device_;
  std::unique_ptr<ProbeGuest> guest_;
  Clock::time_point end_ = Clock::now() + kWholeLimit;
  ProbeResult result_;
};

}  // namespace

ProbeResult probe(const Device& device) { return Probe(device).result(); }

}  // namespace limen::kvm
