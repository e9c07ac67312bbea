#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <semaphore>

#include "block/buffers.h"
#include "block/image_tool.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

Result<int> run_bench(const Words& words) {
  LIMEN_TRY(words.expect(1, "FILE"));
  const bool writes = words.has("-w");
  const uint64_t count = LIMEN_TRY(words.number("-c", 75000));
  const uint64_t depth = LIMEN_TRY(words.number("-d", 64));
  const uint64_t size = LIMEN_TRY(words.size("-s", 4096));
  const uint64_t offset = LIMEN_TRY(words.size("-o", 0));
  uint64_t step = LIMEN_TRY(words.size("-S", size));
  if (step == 0) step = size;
  const uint64_t flush_interval = LIMEN_TRY(words.number("--flush-interval", 0));
  const uint64_t pattern = LIMEN_TRY(words.number("--pattern", 0));
  if (depth == 0 || depth > 1024)
    return fail("bench: -d {}: a queue depth of 1 to 1024 is possible", depth);
  if (size == 0 || size % 512 != 0) return fail("bench: -s {} is not a multiple of 512", size);
  if (offset % 512 != 0 || step % 512 != 0)
    return fail("bench: -o {} and -S {} must be multiples of 512", offset, step);
  if (flush_interval != 0 && !writes)
    return fail("bench: --flush-interval is only available in write tests");
  if (pattern > 255) return fail("bench: --pattern {} is not a byte", pattern);
  block::OpenOptions options{.read_only = !writes, .lock = !words.has("-U")};
  options.cache =
      LIMEN_TRY(block::parse_cache_mode(words.text("-t", words.has("-n") ? "none" : "writeback")));
  const auto& path = words.positional()[0];
  auto format = words.text("-f");
  if (format.empty()) format = LIMEN_TRY(block::guess_format(path, options));
  const auto device = LIMEN_TRY(block::open_image(path, format, options));
  if (size > device->size())
    return fail("bench: a buffer of {} bytes is larger than the disk of {}", size, device->size());
  if (!words.has("-q"))
    fmt::print(
        "Sending {} {} requests, {} bytes each, {} in parallel (starting at offset {}, step size "
        "{})\n",
        count, writes ? "write" : "read", size, depth, offset, step);
  if (flush_interval != 0 && !words.has("-q"))
    fmt::print("Sending flush every {} requests\n", flush_interval);

  const auto memory = block::aligned_memory(depth * size);
  if (memory == nullptr) return fail("no memory for {} buffers of {} bytes", depth, size);
  std::memset(memory.get(), static_cast<int>(pattern), depth * size);
  std::counting_semaphore<> free(static_cast<std::ptrdiff_t>(depth));
  std::atomic<int> failure = 0;
  const auto begin = std::chrono::steady_clock::now();
  const auto submit = [&](block::Request request) {
    free.acquire();
    request.done = [&](int error) {
      if (error != 0) failure = error;
      free.release();
    };
    device->submit(std::move(request));
  };
  uint64_t at = offset;
  for (uint64_t i = 0; i < count && failure == 0; ++i) {
    if (at > device->size() - size) at = offset % (device->size() - size + 1) / 512 * 512;
    submit({.kind = writes ? block::Request::Kind::kWrite : block::Request::Kind::kRead,
            .offset = at,
            .length = size,
            .buffers = {{memory.get() + i % depth * size, static_cast<size_t>(size)}}});
    at += step;
    if (flush_interval != 0 && (i + 1) % flush_interval == 0)
      submit({.kind = block::Request::Kind::kFlush});
  }
  for (uint64_t i = 0; i < depth; ++i) free.acquire();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  if (failure != 0) return fail_errno(failure, "bench: failed request");
  LIMEN_TRY(device->drain());
  if (!words.has("-q")) fmt::print("Run completed in {:.3f} seconds.\n", taken.count());
  return 0;
}

constexpr Flag kBenchFlags[] = {kHelpFlag,
                                kFormatFlag,
                                kQuietFlag,
                                kShareFlag,
                                kCacheFlag,
                                {"-c", "", true},
                                {"-d", "", true},
                                {"-s", "", true},
                                {"-S", "", true},
                                {"-o", "", true},
                                {"-w", "", false},
                                {"-n", "", false},
                                {"-i", "", true},
                                {"", "--flush-interval", true},
                                {"", "--no-drain", false},
                                {"", "--pattern", true}};

}  // namespace

const Verb kBench = {"bench",
                     "[-c COUNT] [-d DEPTH] [-f FORMAT] [--flush-interval=N] [-n] [-o OFFSET] "
                     "[--pattern=BYTE] [-q] [-s SIZE] "
                     "[-S STEP] [-t CACHE] [-w] [-U] FILE",
                     "measure how fast an image is",
                     R"(  -c COUNT   requests (75000)
  -d DEPTH   so many at once (64)
  -s SIZE    bytes of each (4k); -S STEP from one to the next (SIZE); -o OFFSET of the first (0)
  -w         write, else read; --pattern=BYTE what; --flush-interval=N flush after every N
  -n         past the host's page cache
)",
                     kBenchFlags,
                     run_bench};

}  // namespace limen::cli::image
