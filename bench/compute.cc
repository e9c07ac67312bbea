// Arithmetic in registers and in the first-level cache.
#include <immintrin.h>

#include <array>

#include "measure.h"

namespace bench {

namespace {

constexpr size_t kFloats = 4096;

struct alignas(64) Floats {
  std::array<float, kFloats> values;
};

double integer_loop(const Request& request) {
  return best_whole_time(request, [](uint64_t count) {
    uint64_t state = 88172645463325252, sum = 0;
    for (uint64_t i = 0; i < count; ++i) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      sum += state * 3 + (state & i);
    }
    keep(sum);
  });
}

double scalar_double(const Request& request) {
  return best_whole_time(request, [](uint64_t count) {
    double first = 1.0, second = 0.5;
    for (uint64_t i = 0; i < count; ++i) {
      first = first * 0.999999 + second;
      second = second * 0.5 + 1.0 / (first + 1.0);
    }
    keep(first);
    keep(second);
  });
}

double sse_loop(const Request& request) {
  static Floats a{}, b{};
  for (size_t i = 0; i < kFloats; ++i) {
    a.values[i] = static_cast<float>(i + 1) * 0.25F;
    b.values[i] = 1.0F;
  }
  return best_whole_time(request, [&](uint64_t count) {
    for (uint64_t round = 0; round < count; ++round) {
      const __m128 factor = _mm_set1_ps(0.75F);
      for (size_t i = 0; i < kFloats; i += 4) {
        const __m128 sum =
            _mm_add_ps(_mm_mul_ps(_mm_load_ps(&b.values[i]), factor), _mm_load_ps(&a.values[i]));
        _mm_store_ps(&b.values[i], sum);
      }
      keep(b.values.data());
    }
  });
}

__attribute__((target("avx2,fma"))) void avx2_pass(Floats& b, const Floats& a) {
  const __m256 factor = _mm256_set1_ps(0.75F);
  for (size_t i = 0; i < kFloats; i += 8) {
    const __m256 sum =
        _mm256_fmadd_ps(_mm256_load_ps(&b.values[i]), factor, _mm256_load_ps(&a.values[i]));
    _mm256_store_ps(&b.values[i], sum);
  }
  keep(b.values.data());
}

double avx2_loop(const Request& request) {
  static Floats a{}, b{};
  for (size_t i = 0; i < kFloats; ++i) {
    a.values[i] = static_cast<float>(i + 1) * 0.25F;
    b.values[i] = 1.0F;
  }
  return best_whole_time(request, [&](uint64_t count) {
    for (uint64_t round = 0; round < count; ++round) avx2_pass(b, a);
  });
}

}  // namespace

std::vector<Row> compute_rows() {
  return {{"integer-loop", "iteration", integer_loop},
          {"scalar-double", "iteration", scalar_double},
          {"sse-loop", "pass over 4096 floats", sse_loop},
          {"avx2-loop", "pass over 4096 floats", avx2_loop}};
}

}  // namespace bench
