// Any bytes as user code: the interpreter and the translator must agree on what becomes of them.
//
// Input: eight bytes from which registers and memory follow, one that says how the pages are mapped
// and whether it is 32-bit code, and the code.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "conformance/programs/generator.h"
#include "conformance/programs/laboratory.h"
#include "conformance/programs/situation_maker.h"
#include "conformance/random.h"

namespace {

using namespace limen::conformance;  // NOLINT(google-build-using-namespace): the test's parts

constexpr size_t kHeader = 9;
constexpr uint8_t kCode32 = 0x80;  // in the last byte of the header
constexpr size_t kMostCode = 1024;
/// Before the machines are made anew: a difference is to follow from few inputs.
constexpr unsigned kInputsPerLaboratory = 200;

Laboratory& laboratory() {
  static std::unique_ptr<Laboratory> current;
  static unsigned inputs = 0;
  if (inputs++ % kInputsPerLaboratory == 0) {
    auto created = Laboratory::create(nullptr);
    if (!created) std::abort();
    current = std::move(*created);
  }
  return *current;
}

// Registers point at the ends of pages, as the accesses of most code are near one.
Expectation expectation(Random& random) {
  Expectation expects;
  for (size_t i = 0; i < 16; ++i) {
    if (random.percent(30)) {
      expects.small[i] = static_cast<int32_t>(random.between(-4, 40));
      continue;
    }
    const uint32_t edge = random.percent(70) ? kDataOffset + kPage : kLoneOffset + kPage;
    expects.pointers[i] = static_cast<int32_t>(edge) + static_cast<int32_t>(random.between(-64, 8));
  }
  expects.counter = 1;
  expects.gs_base = static_cast<int32_t>(kDataOffset + kPage);
  return expects;
}

Program make_program(std::span<const uint8_t> code, Random& random) {
  Program program;
  program.expects = expectation(random);
  for (size_t at = 0; at < code.size(); at += 32) {
    Piece piece;
    piece.size = static_cast<uint8_t>(std::min<size_t>(32, code.size() - at));
    std::copy_n(code.begin() + static_cast<ptrdiff_t>(at), piece.size, piece.bytes.begin());
    program.pieces.push_back(piece);
  }
  // Across the end of the first page, where there is enough of it.
  program.start = static_cast<uint32_t>(kPage - code.size() / 2);
  return program;
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

/// Code that does anything is long, and hard to come by: some inputs are programs of the generator
/// that the tests use, and libFuzzer changes them.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  Random random(seed);
  if (max_size <= kHeader) return size;
  if (size > kHeader && !random.percent(10)) return LLVMFuzzerMutate(data, size, max_size);
  for (size_t i = 0; i < kHeader; ++i) data[i] = static_cast<uint8_t>(random.next());
  const bool code32 = (data[kHeader - 1] & kCode32) != 0;
  const Program program = Generator(random, false, code32).generate();
  const auto code = program.assemble();
  const size_t code_size = std::min<size_t>({program.size(), kMostCode, max_size - kHeader});
  std::copy_n(code.begin() + program.start, code_size, data + kHeader);
  return kHeader + code_size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size <= kHeader) return 0;
  uint64_t seed = 0;
  std::memcpy(&seed, data, sizeof seed);
  Random random(seed);
  const std::span code(data + kHeader, std::min(size - kHeader, kMostCode));
  Program program = make_program(code, random);
  program.code32 = (data[kHeader - 1] & kCode32) != 0;
  const auto situations = make_situations(program, random, 1 + data[8] % 4u);
  const auto verdict = laboratory().compare(program, situations, true);
  if (verdict.differences.empty()) return 0;
  fmt::print(stderr, "{}{}{}", program.listing(), describe(situations[verdict.situation]),
             verdict.differences);
  std::abort();
}
