#include <fmt/format.h>

#include <algorithm>

#include "block/buffers.h"
#include "block/image_tool.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

constexpr uint64_t kPiece = uint64_t{2} << 20;

Result<int> run_dd(const Words& words) {
  std::string input, output;
  uint64_t block_size = 512, count = UINT64_MAX, skip = 0;
  for (const auto& word : words.positional()) {
    const auto equals = word.find('=');
    const auto key = word.substr(0, equals);
    if (equals == std::string::npos) return fail("dd: '{}' is not key=value", word);
    const auto value = word.substr(equals + 1);
    if (key == "if")
      input = value;
    else if (key == "of")
      output = value;
    else if (key == "bs")
      block_size = LIMEN_TRY(block::parse_byte_size(value));
    else if (key == "count")
      count = LIMEN_TRY(block::parse_byte_size(value));
    else if (key == "skip")
      skip = LIMEN_TRY(block::parse_byte_size(value));
    else
      return fail("dd: unrecognized operand '{}'; valid choices: bs, count, if, of, skip", key);
  }
  if (input.empty() || output.empty())
    return fail("dd: must specify both input and output files (if= and of=)");
  if (block_size == 0 || block_size > INT32_MAX)
    return fail("dd: bs={} is not possible", block_size);
  const auto source =
      LIMEN_TRY(open(input, {.format = words.text("-f"), .share = words.has("-U")}));
  const uint64_t size = source->size();
  const uint64_t from = skip > size / block_size ? size : skip * block_size;
  const uint64_t length = count > (size - from) / block_size ? size - from : count * block_size;
  Target target = LIMEN_TRY(parse_target(words.text("-O", "raw"), {}));
  target.qcow2.size = (length + 511) / 512 * 512;
  LIMEN_TRY(make_image(output, target));
  const auto written = LIMEN_TRY(open(output, {.format = target.format, .write = true}));
  const auto memory = block::aligned_memory(kPiece);
  if (memory == nullptr) return fail("no memory for {} bytes", kPiece);
  for (uint64_t done = 0; done < length;) {
    const uint64_t step = std::min(kPiece, length - done);
    const iovec buffer = {memory.get(), static_cast<size_t>(step)};
    int error = source->read(from + done, {&buffer, 1});
    if (error == 0 && !block::all_zero(std::span(&buffer, 1)))
      error = written->write(done, {&buffer, 1});
    if (error != 0)
      return fail_errno(error, fmt::format("dd at byte {} of '{}'", from + done, input));
    done += step;
  }
  if (const int error = written->flush(); error != 0)
    return fail_errno(error, fmt::format("flushing '{}'", output));
  return 0;
}

constexpr Flag kDdFlags[] = {kHelpFlag, kFormatFlag, kShareFlag, {"-O", "", true}};

}  // namespace

const Verb kDd = {"dd",
                  "[-f FORMAT] [-O FORMAT] [-U] [bs=SIZE] [count=N] [skip=N] if=INPUT of=OUTPUT",
                  "copy a part of a disk into a new image",
                  R"(  bs=SIZE  of a block (512); count=N blocks; skip=N blocks of the input
)",
                  kDdFlags,
                  run_dd};

}  // namespace limen::cli::image
