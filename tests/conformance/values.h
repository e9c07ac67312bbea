// Random values with a taste for the edges: the operands on which implementations differ.
#pragma once

#include <cstdint>
#include <span>

#include "conformance/random.h"
#include "x86/cpu_state.h"

namespace limen::conformance {

/// How the lanes of a vector or a run of memory are filled.
enum class Flavour : uint8_t { kBits, kSmallIntegers, kHalf, kSingle, kDouble, kExtended };

[[nodiscard]] uint64_t random_integer(Random& random);
/// Bit patterns of an IEEE format: zeros, denormals, infinities, NaNs and numbers near one.
[[nodiscard]] uint64_t random_float(Random& random, unsigned exponent_bits, unsigned fraction_bits);
void fill(Random& random, Flavour flavour, std::span<uint8_t> bytes);

/// A valid MXCSR; `unmasked` lets some exceptions through.
[[nodiscard]] uint32_t random_mxcsr(Random& random, bool unmasked);
/// Control word to the end of ST7, as in an FXSAVE64 image; MXCSR left alone.
void fill_x87(Random& random, bool unmasked, std::span<uint8_t, 160> fxsave);
void fill_vectors(Random& random, Flavour flavour, bool unmasked, x86::VectorState& vector);

}  // namespace limen::conformance
