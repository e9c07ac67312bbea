#include "conformance/vary.h"

#include <span>

#include "conformance/values.h"

namespace limen::conformance {
namespace {

using soft::decode::CodeMode;

uint8_t random_byte(Random& random) { return static_cast<uint8_t>(random.next()); }

void vary_memory(Encoding& e, Random& random, bool wide) {
  const bool short_address = !wide && e.address_size;
  const bool vector_addresses = e.sib;
  e.mod = static_cast<uint8_t>(random.below(3));
  e.rm = static_cast<uint8_t>(random.below(wide ? 16 : 8));
  for (auto& byte : e.displacement) byte = random_byte(random);
  if (short_address) return;
  if (vector_addresses || random.percent(40)) {
    e.sib = true;
    const bool high = e.scheme == Scheme::kEvex && vector_addresses;
    e.index = static_cast<uint8_t>(random.below(!wide ? 8 : high ? 32 : 16));
    e.scale = static_cast<uint8_t>(random.below(4));
  }
  // ModRM.rm 4 announces a SIB byte.
  if (!e.sib && (e.rm & 7) == 4) e.rm ^= 1;
}

void vary_prefixes(Encoding& e, Random& random, bool wide) {
  static constexpr uint8_t kOverrides[] = {0x64, 0x65, 0x26, 0x2E, 0x36, 0x3E};
  if (random.percent(20)) e.segment = kOverrides[random.below(random.percent(70) ? 2 : 6)];
  if (e.scheme == Scheme::kLegacy) {
    if (wide && random.percent(40)) e.rex = !e.rex;
    // Prefixes that the form does not look at; the check of the key keeps those that it does.
    if (random.percent(4)) e.operand_size = !e.operand_size;
    if (random.percent(4)) e.w = wide && !e.w;
    if (random.percent(3)) e.rep = !e.rep;
    if (random.percent(3)) e.repne = !e.repne;
  } else if (wide && random.percent(8)) {
    e.address_size = true;
  }
}

void vary_registers(Encoding& e, Random& random, bool wide, unsigned attempt) {
  const bool evex = e.scheme == Scheme::kEvex;
  const unsigned width = !wide || attempt % 3 == 2 ? 8 : evex && attempt % 3 == 0 ? 32 : 16;
  const auto any = [&] { return static_cast<uint8_t>(random.below(width)); };
  e.reg = attempt < 3 ? any() : static_cast<uint8_t>((any() & 0x18) | (e.reg & 7));
  if (e.mod == 3) e.rm = attempt < 6 ? any() : e.rm;
  if (e.scheme != Scheme::kLegacy && attempt % 2 == 0) e.vvvv = any();
  if (e.opmask != 0) e.opmask = static_cast<uint8_t>(1 + random.below(7));
}

bool accept(const Encoding& e, uint64_t key, Concrete& out) {
  out.bytes = emit(e);
  const std::span<const uint8_t> view(out.bytes.data.data(), soft::decode::kMaxInstructionLength);
  if (decode(e.mode, view, out.instruction) != soft::decode::Outcome::kOk) return false;
  if (form_key(out.instruction) != key) return false;
  out.bytes.size = out.instruction.length();
  return true;
}

}  // namespace

void vary(const Form& form, Random& random, Concrete& out) {
  const Encoding& original = form.encodings[random.below(form.encodings.size())];
  const bool wide = original.mode == CodeMode::k64;
  for (unsigned attempt = 0; attempt < 10; ++attempt) {
    Encoding e = original;
    const uint64_t immediate = random.percent(50) ? random_integer(random) : random.next();
    for (unsigned i = 0; i < 8; ++i) e.immediate[i] = static_cast<uint8_t>(immediate >> (8 * i));
    if (attempt < 9) {
      if (e.mod != 3) vary_memory(e, random, wide);
      vary_registers(e, random, wide, attempt);
      if (attempt < 6) vary_prefixes(e, random, wide);
    }
    if (accept(e, form.key, out)) return;
  }
  accept(original, form.key, out);
}

}  // namespace limen::conformance
