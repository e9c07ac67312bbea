// GCC's edge instrumentation in the form that libFuzzer reads.
//
// libFuzzer is a library: it takes any compiler's coverage that arrives as a table of 8-bit
// counters. GCC calls __sanitizer_cov_trace_pc() on every edge (-fsanitize-coverage=trace-pc) and
// names its comparison hooks as Clang does, so the counters are all that is missing. Compiled
// without instrumentation of its own.
#include <array>
#include <cstddef>
#include <cstdint>

namespace {

// Edges share counters by hash; far fewer than this are met in one target.
constexpr size_t kCounters = size_t{1} << 16;
std::array<uint8_t, kCounters> g_counters;
std::array<std::array<uintptr_t, 2>, kCounters> g_sites;  // address and flags of each counter

}  // namespace

extern "C" {

void __sanitizer_cov_8bit_counters_init(uint8_t* start, uint8_t* stop);
void __sanitizer_cov_pcs_init(const uintptr_t* start, const uintptr_t* stop);

void __wrap___sanitizer_cov_trace_pc() {
  const auto site = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  const size_t index = (site * 0x9E3779B97F4A7C15u) >> (64 - 16);
  g_sites[index][0] = site;
  uint8_t& counter = g_counters[index];
  if (counter != UINT8_MAX) ++counter;
}

// GCC reports comparisons of floating-point numbers too; libFuzzer has no use for them.
void __sanitizer_cov_trace_cmpf(float, float) {}
void __sanitizer_cov_trace_cmpd(double, double) {}

}  // extern "C"

namespace {

[[gnu::constructor]] void register_counters() {
  __sanitizer_cov_8bit_counters_init(g_counters.data(), g_counters.data() + kCounters);
  __sanitizer_cov_pcs_init(g_sites.data()->data(), g_sites.data()->data() + 2 * kCounters);
}

}  // namespace
