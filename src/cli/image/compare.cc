#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "block/buffers.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

constexpr uint64_t kPiece = uint64_t{2} << 20;
constexpr int kSame = 0, kDifferent = 1, kFailed = 2;

struct Side {
  std::unique_ptr<block::Layer> layer;
  block::AlignedMemory memory = block::aligned_memory(kPiece);
};

Result<uint64_t> read_piece(Side& side, uint64_t offset, uint64_t length) {
  const iovec buffer = {side.memory.get(), static_cast<size_t>(length)};
  if (const int error = block::read_or_zero(side.layer.get(), offset, {&buffer, 1}); error != 0)
    return fail_errno(
        error, fmt::format("error while reading offset {} of {}", offset, side.layer->path()));
  return length;
}

/// Where the first byte differs; `length` when none does.
uint64_t first_difference(const std::byte* a, const std::byte* b, uint64_t length) {
  if (std::memcmp(a, b, length) == 0) return length;
  return static_cast<uint64_t>(std::mismatch(a, a + length, b).first - a);
}

Result<int> compare(const Words& words, Side& a, Side& b) {
  const uint64_t size_a = a.layer->size(), size_b = b.layer->size();
  const bool quiet = words.has("-q"), strict = words.has("-s");
  const auto say = [quiet](const std::string& text) {
    if (!quiet) fmt::print("{}\n", text);
  };
  if (strict && size_a != size_b) {
    say("Strict mode: Image size mismatch!");
    return kDifferent;
  }
  Progress progress(words.has("-p"));
  const uint64_t all = std::max(size_a, size_b);
  const uint64_t common = std::min(size_a, size_b);
  if (size_a != size_b) say("Warning: Image size mismatch!");
  for (uint64_t at = 0; at < all;) {
    const uint64_t end = at < common ? common : all;
    const auto extent_of = [&](Side& side) -> Result<block::ChainExtent> {
      if (at >= side.layer->size())
        return block::ChainExtent{.extent = {.length = end - at, .zero = true}};
      return block::chain_extent(*side.layer, nullptr, at, end - at);
    };
    const auto in_a = LIMEN_TRY(extent_of(a));
    const auto in_b = LIMEN_TRY(extent_of(b));
    const uint64_t run = std::min(in_a.extent.length, in_b.extent.length);
    if (strict && at < common && in_a.extent.data != in_b.extent.data) {
      say(fmt::format("Strict mode: Offset {} block status mismatch!", at));
      return kDifferent;
    }
    const bool both_zero = in_a.extent.zero && in_b.extent.zero;
    const uint64_t step = both_zero ? run : std::min(run, kPiece);
    if (!both_zero) {
      LIMEN_TRY(read_piece(a, at, step));
      LIMEN_TRY(read_piece(b, at, step));
      const uint64_t where = first_difference(a.memory.get(), b.memory.get(), step);
      if (where != step) {
        // In sectors, as qemu-img counts.
        say(fmt::format("Content mismatch at offset {}!", (at + where) / 512 * 512));
        return kDifferent;
      }
    }
    at += step;
    progress.show(at, all);
  }
  progress.end();
  say("Images are identical.");
  return kSame;
}

Result<int> run_compare(const Words& words) {
  LIMEN_TRY(words.expect(2, "FILE1 FILE2"));
  const auto cache = words.text("-T", "writeback");
  const auto fail_with = [](const Error& error) -> int {
    fmt::print(stderr, "limen-img: error: {}\n", error.message);
    return kFailed;
  };
  auto a = open(words.positional()[0],
                {.format = words.text("-f"), .share = words.has("-U"), .cache = cache});
  if (!a) return fail_with(a.error());
  auto b = open(words.positional()[1],
                {.format = words.text("-F"), .share = words.has("-U"), .cache = cache});
  if (!b) return fail_with(b.error());
  Side left{std::move(*a)}, right{std::move(*b)};
  if (left.memory == nullptr || right.memory == nullptr)
    return fail("no memory for {} bytes", kPiece);
  const auto result = compare(words, left, right);
  return result ? *result : fail_with(result.error());
}

constexpr Flag kCompareFlags[] = {kHelpFlag,        kFormatFlag,      kQuietFlag,
                                  kProgressFlag,    kSourceCacheFlag, kShareFlag,
                                  {"-F", "", true}, {"-s", "", false}};

}  // namespace

const Verb kCompare = {"compare",
                       "[-f FORMAT] [-F FORMAT] [-T CACHE] [-p] [-q] [-s] [-U] FILE1 FILE2",
                       "say whether two disks have the same content",
                       R"(  -f FORMAT, -F FORMAT  of the first and of the second image
  -s                    strict: the sizes must be the same, and what is allocated
Exit status: 0 the same; 1 different; 2 one cannot be read.
)",
                       kCompareFlags,
                       run_compare};

}  // namespace limen::cli::image
