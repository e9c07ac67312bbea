#include "measure.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace bench {

namespace {
constexpr int kRepetitions = 5;
constexpr double kNanoseconds = 1e9;
}  // namespace

uint64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

double best_time(const Request& request, const std::function<uint64_t(uint64_t)>& work) {
  const double wanted = request.seconds * kNanoseconds / kRepetitions;
  uint64_t count = 1;
  auto best = static_cast<double>(work(count));
  for (;;) {
    // Once more before it is believed that this is enough: another process may have had the
    // processor.
    if (best >= wanted / 2) best = std::min(best, static_cast<double>(work(count)));
    if (best >= wanted / 2) break;
    // At most tenfold each time: the first runs touch cold memory and mislead.
    const double factor = best > 0 ? std::clamp(wanted / best, 1.5, 10.0) : 10;
    count = static_cast<uint64_t>(static_cast<double>(count) * factor) + 1;
    best = static_cast<double>(work(count));
  }
  for (int repetition = 2; repetition < kRepetitions; ++repetition) {
    best = std::min(best, static_cast<double>(work(count)));
  }
  return best / static_cast<double>(count);
}

double best_whole_time(const Request& request, const std::function<void(uint64_t)>& work) {
  return best_time(request, [&](uint64_t count) {
    const uint64_t begin = now();
    work(count);
    return now() - begin;
  });
}

long checked(long result, std::string_view what) {
  if (result < 0) {
    std::fprintf(stderr, "limen-bench: error: %.*s failed: %s\n", static_cast<int>(what.size()),
                 what.data(), std::strerror(errno));
    std::exit(1);
  }
  return result;
}

uint64_t Random::next() {
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return state_ * 0x2545F4914F6CDD1D;
}

std::vector<Row> all_rows() {
  std::vector<Row> rows;
  for (const auto& part : {compute_rows(), control_rows(), memory_rows(), kernel_rows(),
                           process_rows(), thread_rows(), block_rows()}) {
    rows.insert(rows.end(), part.begin(), part.end());
  }
  return rows;
}

}  // namespace bench
