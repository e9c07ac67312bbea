#include "conformance/values.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace limen::conformance {
namespace {

template <typename T>
void store(std::span<uint8_t> bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// An 80-bit extended value; a small share are the encodings that the 80287 knew and we do not
// (unnormals, pseudo-infinities: SDM Vol. 1 8.2.2).
void store_extended(Random& random, std::span<uint8_t> bytes, size_t offset) {
  uint64_t significand = random.next() | (uint64_t{1} << 63);
  uint64_t exponent = 0x3FFF + static_cast<uint64_t>(random.between(-40, 70));
  switch (random.below(12)) {
    case 0:
      exponent = 0;
      significand = 0;
      break;
    case 1:
      exponent = 0;
      significand &= ~(uint64_t{1} << 63);
      break;
    case 2:
      exponent = 0x7FFF;
      significand = uint64_t{1} << 63;
      break;
    case 3:
      exponent = 0x7FFF;
      break;
    case 4:
      exponent = random.below(0x8000);
      break;
    case 5:
      exponent = random.below(0x8000);
      significand = random.next();
      break;
    case 6:
      significand = random.next() << 50 | uint64_t{1} << 63;
      break;
    case 7:
      exponent = random.percent(50) ? 1 : 0x7FFE;
      break;
    default:
      break;
  }
  store(bytes, offset, significand);
  store(bytes, offset + 8, static_cast<uint16_t>(exponent | (random.next() & 0x8000)));
}

}  // namespace

uint64_t random_integer(Random& random) {
  const uint64_t bits = random.next();
  switch (random.below(10)) {
    case 0:
      return static_cast<uint64_t>(random.between(-128, 127));
    case 1:
      return (uint64_t{1} << (bits & 63)) + static_cast<uint64_t>(random.between(-1, 1));
    case 2: {
      static constexpr std::array<uint64_t, 10> kEdges = {0,
                                                          1,
                                                          0x7F,
                                                          0x80,
                                                          0x7FFF,
                                                          0x8000,
                                                          0x7FFFFFFF,
                                                          0x80000000,
                                                          0x7FFFFFFFFFFFFFFF,
                                                          0x8000000000000000};
      return kEdges[random.below(kEdges.size())];
    }
    case 3:
      return ~uint64_t{0} << (bits & 63);
    case 4:
      return bits & 0xFFFFFFFF;
    case 5:
      return static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(bits)));
    default:
      return bits;
  }
}

uint64_t random_float(Random& random, unsigned exponent_bits, unsigned fraction_bits) {
  const uint64_t exponent_mask = (uint64_t{1} << exponent_bits) - 1;
  const uint64_t bias = exponent_mask >> 1;
  const uint64_t fraction_mask = (uint64_t{1} << fraction_bits) - 1;
  uint64_t fraction = random.next() & fraction_mask;
  uint64_t exponent = bias + static_cast<uint64_t>(random.between(-6, 8));
  switch (random.below(14)) {
    case 0:
      exponent = 0;
      fraction = 0;
      break;
    case 1:
      exponent = 0;
      break;
    case 2:
      exponent = exponent_mask;
      fraction = 0;
      break;
    case 3:
      exponent = exponent_mask;
      break;
    case 4:
      exponent = exponent_mask;
      fraction |= uint64_t{1} << (fraction_bits - 1);
      break;
    case 5:
      exponent = random.percent(50) ? 1 : exponent_mask - 1;
      break;
    case 6:
      exponent = random.next() & exponent_mask;
      break;
    case 7:
      exponent = random.next() & exponent_mask;
      fraction = 0;
      break;
    case 8:
      fraction = 0;
      break;
    case 9:
      fraction = uint64_t{1} << random.below(fraction_bits);
      break;
    default:
      break;
  }
  const uint64_t sign = random.next() & 1;
  return sign << (exponent_bits + fraction_bits) | (exponent & exponent_mask) << fraction_bits |
         fraction;
}

void fill(Random& random, Flavour flavour, std::span<uint8_t> bytes) {
  switch (flavour) {
    case Flavour::kBits:
      for (size_t i = 0; i + 8 <= bytes.size(); i += 8) store(bytes, i, random.next());
      break;
    case Flavour::kSmallIntegers:
      for (size_t i = 0; i + 8 <= bytes.size(); i += 8) store(bytes, i, random_integer(random));
      break;
    case Flavour::kHalf:
      for (size_t i = 0; i + 2 <= bytes.size(); i += 2)
        store(bytes, i, static_cast<uint16_t>(random_float(random, 5, 10)));
      break;
    case Flavour::kSingle:
      for (size_t i = 0; i + 4 <= bytes.size(); i += 4)
        store(bytes, i, static_cast<uint32_t>(random_float(random, 8, 23)));
      break;
    case Flavour::kDouble:
      for (size_t i = 0; i + 8 <= bytes.size(); i += 8)
        store(bytes, i, random_float(random, 11, 52));
      break;
    case Flavour::kExtended:
      for (size_t i = 0; i + 16 <= bytes.size(); i += 16) store_extended(random, bytes, i);
      break;
  }
}

uint32_t random_mxcsr(Random& random, bool unmasked) {
  // Flags 0-5, DAZ 6, masks 7-12, RC 13-14, FZ 15 (SDM Vol. 1 10.2.3).
  auto mxcsr = static_cast<uint32_t>(random.next() & 0xFFFF);
  if (random.percent(60)) mxcsr &= ~0x8040u;
  return unmasked ? mxcsr : mxcsr | 0x1F80;
}

void fill_x87(Random& random, bool unmasked, std::span<uint8_t, 160> fxsave) {
  auto control = static_cast<uint16_t>((random.next() & 0x0F3F) | 0x40);
  if (random.percent(60)) control |= 0x300;
  if (!unmasked) control |= 0x3F;
  auto status = static_cast<uint16_t>(random.next() & 0x7F7F);
  // ES and B follow from flags and masks (SDM Vol. 1 8.1.3).
  if (status & ~control & 0x3F) status |= 0x8080;
  store(fxsave, 0, control);
  store(fxsave, 2, status);
  static constexpr std::array<uint8_t, 4> kTags = {0xFF, 0x00, 0xFF, 0xFF};
  fxsave[4] =
      random.percent(50) ? static_cast<uint8_t>(random.next()) : kTags[random.below(kTags.size())];
  fxsave[5] = 0;
  store(fxsave, 6, static_cast<uint16_t>(random.next() & 0x7FF));
  store(fxsave, 8, random.next() & 0x7FFFFFFFFFFF);
  store(fxsave, 16, random.next() & 0x7FFFFFFFFFFF);
  for (size_t i = 0; i < 8; ++i) {
    const auto reg = fxsave.subspan(32 + 16 * i, 16);
    fill(random, random.percent(80) ? Flavour::kExtended : Flavour::kBits, reg);
    std::fill_n(reg.begin() + 10, 6, uint8_t{0});
  }
}

void fill_vectors(Random& random, Flavour flavour, bool unmasked, x86::VectorState& vector) {
  for (auto& zmm : vector.zmm)
    fill(random, random.percent(75) ? flavour : static_cast<Flavour>(random.below(2)), zmm);
  for (auto& opmask : vector.opmask)
    opmask = random.percent(20) ? ~uint64_t{0} : random.next() | (random.percent(30) ? 0xFF : 0);
  fill_x87(random, unmasked, std::span(vector.fxsave));
  store<uint32_t>(vector.fxsave, 24, random_mxcsr(random, unmasked));
  store<uint32_t>(vector.fxsave, 28, 0xFFFF);
}

}  // namespace limen::conformance
