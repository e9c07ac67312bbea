// Memory operands of random programs.
#include <algorithm>
#include <cstring>

#include "conformance/programs/generator.h"
#include "x86/registers.h"

namespace limen::conformance {
namespace {

constexpr auto kStart = static_cast<int32_t>(kDataOffset);
constexpr auto kLone = static_cast<int32_t>(kLoneOffset);
constexpr auto kPageBytes = static_cast<int32_t>(kPage);

}  // namespace

bool Generator::is_mapped(int64_t offset, const Use& use) const {
  const int64_t end = offset + use.size;
  const int64_t data_end = kStart + (use.writes ? 2 : 3) * kPageBytes;
  return (offset >= kStart && end <= data_end) || (offset >= kLone && end <= kLone + kPageBytes);
}

int32_t Generator::choose_target(const Use& use, std::optional<int32_t> near) {
  static constexpr std::array<int32_t, 8> kEdges = {kStart + kPageBytes,
                                                    kStart + kPageBytes,
                                                    kStart + kPageBytes,
                                                    kStart + 2 * kPageBytes,
                                                    kStart,
                                                    kStart + 2 * kPageBytes,
                                                    kLone,
                                                    kLone + kPageBytes};
  const auto size = static_cast<int32_t>(use.size);
  const bool mapped = random_.below(1000) > 3;
  int32_t target = kStart + kPageBytes;
  for (unsigned attempt = 0; attempt < 20; ++attempt) {
    if (near && attempt < 8 && random_.percent(80))
      target = *near + static_cast<int32_t>(random_.percent(70) ? random_.between(-64, 64)
                                                                : random_.between(-200, 200));
    else
      target = kEdges[random_.below(kEdges.size())] +
               static_cast<int32_t>(random_.between(-size - 8, 8));
    if (use.aligned && !random_.percent(1)) target &= -size;
    if (use.locked && target % 64 + size > 64) target &= -64;
    if (use.locked && !random_.percent(20)) target &= -size;
    if (!mapped || is_mapped(target, use)) break;
  }
  return target;
}

void Generator::set_base(Encoding& encoding, uint8_t base, int32_t displacement, bool wide) {
  encoding.rm = base;
  encoding.sib = (base & 7) == 4 || encoding.index != 4;
  if (displacement == 0 && (base & 7) != 5)
    encoding.mod = 0;
  else
    encoding.mod = !wide && displacement == static_cast<int8_t>(displacement) ? 1 : 2;
  std::memcpy(encoding.displacement.data(), &displacement, 4);
}

void Generator::address(Encoding& encoding, const Use& use, Piece& piece) {
  // With EVEX a displacement of one byte counts in units of its own.
  const bool wide = encoding.scheme == Scheme::kEvex || random_.percent(5);
  const auto roll = random_.below(100);
  if (roll < 12) {  // RIP-relative
    encoding.mod = 0;
    encoding.rm = 5;
    piece.fix = Fix::kWindow;
    piece.target = choose_target(use, std::nullopt);
    return;
  }
  const bool has_bases = !program_.code32 || program_.supervisor;
  if (roll < 18) {  // no base: the first window, or GS
    const bool segment = roll < 16 && has_bases;
    if (segment) encoding.segment = 0x65;
    const int32_t from = segment ? program_.expects.gs_base : -static_cast<int32_t>(kWindows[0]);
    int32_t displacement = choose_target(use, std::nullopt) - from;
    // Across the end of a segment of 4 GiB: processors may fault or not (SDM Vol. 3A 5.3).
    const int64_t end = int64_t{displacement} + use.size;
    if (program_.code32 && segment && displacement < 0 && end > 0) displacement = 0;
    encoding.mod = 0;
    encoding.sib = true;
    encoding.rm = 5;
    encoding.index = 4;
    std::memcpy(encoding.displacement.data(), &displacement, 4);
    return;
  }
  const uint8_t base = *pointer();
  int32_t from = *pointers_[base];
  if (roll < 22 && (!program_.code32 || (has_bases && random_.percent(2)))) {
    encoding.segment = 0x64;
    from += program_.expects.fs_base;
  }
  const auto index = roll < 45 ? small() : std::nullopt;
  if (index && *index != x86::kRsp) {
    encoding.index = *index;
    encoding.sib = true;
    encoding.scale = static_cast<uint8_t>(random_.below(4));
    from += *small_[*index] * (1 << encoding.scale);
  }
  if (roll >= 96 && !program_.code32) encoding.address_size = true;
  const int32_t displacement = choose_target(use, from) - from;
  if (roll >= 94 && roll < 96 && base != x86::kRsp) {  // a pointer as the index
    encoding.mod = 0;
    encoding.sib = true;
    encoding.rm = 5;
    encoding.index = base;
    encoding.scale = 0;
    std::memcpy(encoding.displacement.data(), &displacement, 4);
    return;
  }
  set_base(encoding, base, displacement, wide);
}

void Generator::memory(Encoding encoding, const Use& use) {
  Piece piece;
  address(encoding, use, piece);
  put(encoding, use.immediate, piece);
}

}  // namespace limen::conformance
