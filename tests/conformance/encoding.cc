#include "conformance/encoding.h"

#include <initializer_list>

namespace limen::conformance {
namespace {

using soft::decode::CodeMode;

struct Writer {
  Bytes& bytes;
  void put(unsigned value) { bytes.data[bytes.size++] = static_cast<uint8_t>(value); }
  void put(std::initializer_list<unsigned> values) {
    for (const unsigned value : values) put(value);
  }
};

unsigned bit(unsigned value, unsigned index) { return (value >> index) & 1; }

void emit_prefixes(const Encoding& e, Writer& out) {
  if (e.segment != 0) out.put(e.segment);
  if (e.operand_size) out.put(0x66);
  if (e.address_size) out.put(0x67);
  if (e.lock) out.put(0xF0);
  if (e.repne) out.put(0xF2);
  if (e.rep) out.put(0xF3);
}

// X extends the index of a memory operand, and the register in ModRM.rm under EVEX.
unsigned extension_x(const Encoding& e) {
  if (e.mod != 3 && e.sib) return bit(e.index, 3);
  return e.scheme == Scheme::kEvex && e.mod == 3 ? bit(e.rm, 4) : 0;
}

void emit_legacy(const Encoding& e, Writer& out) {
  const unsigned rex = (e.w ? 8u : 0) | bit(e.reg, 3) << 2 | extension_x(e) << 1 | bit(e.rm, 3);
  if (e.mode == CodeMode::k64 && (rex != 0 || e.rex)) out.put(0x40 | rex);
  if (e.scheme == Scheme::k3dNow) {
    out.put({0x0F, 0x0F});
    return;
  }
  if (e.map >= 1) out.put(0x0F);
  if (e.map == 2) out.put(0x38);
  if (e.map == 3) out.put(0x3A);
  out.put(e.opcode);
}

// The three-byte VEX prefix and XOP share their layout. Outside 64-bit mode the inverted bits must
// be 1, or the bytes are LES, LDS or POP.
void emit_vex(const Encoding& e, Writer& out) {
  const bool wide = e.mode == CodeMode::k64;
  const unsigned r = wide ? bit(e.reg, 3) : 0;
  const unsigned x = wide ? extension_x(e) : 0;
  const unsigned b = wide ? bit(e.rm, 3) : 0;
  out.put(e.scheme == Scheme::kXop ? 0x8F : 0xC4);
  out.put((r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | e.map);
  out.put((e.w ? 0x80u : 0) | (~e.vvvv & 0xFu) << 3 | (e.length & 1u) << 2 | e.pp);
  out.put(e.opcode);
}

void emit_evex(const Encoding& e, Writer& out) {
  const bool wide = e.mode == CodeMode::k64;
  const unsigned r = wide ? bit(e.reg, 3) : 0;
  const unsigned r_high = wide ? bit(e.reg, 4) : 0;
  const unsigned x = wide ? extension_x(e) : 0;
  const unsigned b = wide ? bit(e.rm, 3) : 0;
  out.put(0x62);
  out.put((r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | (r_high ^ 1) << 4 | e.map);
  out.put((e.w ? 0x80u : 0) | (~e.vvvv & 0xFu) << 3 | 4 | e.pp);
  // V' extends vvvv, or the index of a vector of addresses.
  const unsigned v_high = bit(e.vvvv, 4) | (e.mod != 3 && e.sib ? bit(e.index, 4) : 0);
  out.put((e.zeroing ? 0x80u : 0) | (e.length & 3u) << 5 | (e.broadcast ? 0x10u : 0) |
          (wide ? (v_high ^ 1) : 1u) << 3 | e.opmask);
  out.put(e.opcode);
}

void emit_operands(const Encoding& e, Writer& out) {
  const bool memory = e.mod != 3;
  out.put(static_cast<unsigned>(e.mod) << 6 | (e.reg & 7u) << 3 |
          (memory && e.sib ? 4u : e.rm & 7u));
  if (memory && e.sib)
    out.put(static_cast<unsigned>(e.scale) << 6 | (e.index & 7u) << 3 | (e.rm & 7u));
  const bool short_address = e.mode == CodeMode::k16   ? !e.address_size
                             : e.mode == CodeMode::k32 ? e.address_size
                                                       : false;
  unsigned displacement_size = e.mod == 1 ? 1 : e.mod == 2 ? 4 : 0;
  if (short_address && e.mod == 2) displacement_size = 2;
  if (e.mod == 0) {
    if (short_address)
      displacement_size = (e.rm & 7) == 6 ? 2 : 0;
    else if ((e.rm & 7) == 5)
      displacement_size = 4;
  }
  for (unsigned i = 0; i < displacement_size; ++i) out.put(e.displacement[i]);
}

}  // namespace

Bytes emit(const Encoding& e) {
  Bytes bytes;
  Writer out{bytes};
  emit_prefixes(e, out);
  switch (e.scheme) {
    case Scheme::kLegacy:
    case Scheme::k3dNow:
      emit_legacy(e, out);
      break;
    case Scheme::kVex:
    case Scheme::kXop:
      emit_vex(e, out);
      break;
    case Scheme::kEvex:
      emit_evex(e, out);
      break;
  }
  emit_operands(e, out);
  if (e.scheme == Scheme::k3dNow) out.put(e.opcode);
  for (const uint8_t byte : e.immediate) out.put(byte);
  return bytes;
}

}  // namespace limen::conformance
