#include "base/host_tsc.h"

#include <gtest/gtest.h>
#include <x86intrin.h>

#include <chrono>
#include <thread>

namespace limen {
namespace {

TEST(HostTsc, FrequencyAgreesWithTheSystemClock) {
  using namespace std::chrono;
  const auto hz = static_cast<double>(host_tsc_hz());
  const auto start = steady_clock::now();
  const uint64_t start_tsc = __rdtsc();
  std::this_thread::sleep_for(milliseconds(20));
  const double seconds = duration<double>(steady_clock::now() - start).count();
  const auto ticks = static_cast<double>(__rdtsc() - start_tsc);
  EXPECT_NEAR(ticks / hz / seconds, 1.0, 0.02);
}

}  // namespace
}  // namespace limen
