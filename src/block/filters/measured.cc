#include "block/filters/measured.h"

#include <chrono>
#include <utility>

namespace limen::block {

void Measured::submit(Request request) {
  uint64_t length = request.length;
  if (request.kind == Request::Kind::kRead || request.kind == Request::Kind::kWrite) {
    length = 0;
    for (const auto& buffer : request.buffers) length += buffer.iov_len;
  }
  const bool writes =
      request.kind == Request::Kind::kWrite || request.kind == Request::Kind::kWriteZeroes;
  const uint64_t end = writes ? request.offset + length : 0;
  auto& counters = counters_[static_cast<size_t>(request.kind)];
  request.done = [this, &counters, length, end, started = std::chrono::steady_clock::now(),
                  done = std::move(request.done)](int error) {
    if (error != 0) {
      ++counters.failed;
    } else {
      ++counters.operations;
      counters.bytes += length;
      uint64_t highest = highest_written_;
      while (highest < end && !highest_written_.compare_exchange_weak(highest, end)) {
      }
    }
    counters.nanoseconds += static_cast<uint64_t>(
        std::chrono::nanoseconds(std::chrono::steady_clock::now() - started).count());
    done(error);
  };
  inner_->submit(std::move(request));
}

RequestCounts Measured::counts(Request::Kind kind) const {
  const auto& counters = counters_[static_cast<size_t>(kind)];
  return {counters.operations, counters.bytes, counters.nanoseconds, counters.failed};
}

}  // namespace limen::block
