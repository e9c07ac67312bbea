// Writes host code: the few instructions that translated code has around the guest's own.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>

namespace limen::soft::translate {

enum Reg : uint8_t {
  kRax,
  kRcx,
  kRdx,
  kRbx,
  kRsp,
  kRbp,
  kRsi,
  kRdi,
  kR8,
  kR9,
  kR10,
  kR11,
  kR12,
  kR13,
  kR14,
  kR15
};

/// Condition codes as they stand in the low four bits of Jcc (SDM Vol. 2D B.1.4.7).
enum class Condition : uint8_t { kAbove = 7, kNotEqual = 5, kEqual = 4, kNotBelow = 3 };

/// A place in generated code: an offset from the start of the code cache.
using CodeOffset = uint32_t;

/// A memory operand; `index` kRsp: none.
struct HostOperand {
  Reg base = kR10;
  Reg index = kRsp;
  unsigned scale = 0;  ///< Of the index: a shift.
  int32_t displacement = 0;
};

/// Where the Cpu is, from the code cache's start as it is executed.
struct CpuPlace {
  bool near = false;  ///< Within the reach of a 32-bit displacement from all of the code.
  int64_t distance = 0;
};

/// Functions that begin with cpu_ have a memory operand in the Cpu, at a displacement from its
/// start: relative to RIP, or through GS where the Cpu is far from the code. Writes through one
/// view of the code cache; every address is an offset, the same in both views.
class Assembler {
 public:
  /// Writes from `offset` on into the code cache `code`.
  Assembler(std::span<uint8_t> code, CodeOffset offset, CpuPlace cpu = {})
      : code_(code), at_(offset), cpu_(cpu) {}

  [[nodiscard]] CodeOffset here() const { return at_; }
  [[nodiscard]] size_t room() const { return code_.size() - at_; }

  /// Up to eight bytes that are written as one word. So what writes code may write up to
  /// kMostBeyond bytes behind here(); only jumps and nop5() do not, with which code is changed.
  class Piece {
   public:
    void byte(unsigned value) {
      bytes_ |= uint64_t{value & 0xFF} << bits_;
      bits_ += 8;
    }

   private:
    friend class Assembler;
    uint64_t bytes_ = 0;
    unsigned bits_ = 0;
  };

  static constexpr size_t kMostBeyond = 15;

  void piece(const Piece& piece) {
    std::memcpy(&code_[at_], &piece.bytes_, sizeof piece.bytes_);
    at_ += piece.bits_ / 8;
  }
  void byte(unsigned value) { code_[at_++] = static_cast<uint8_t>(value); }
  void bytes(std::span<const uint8_t> values) {
    std::ranges::copy(values, code_.subspan(at_).begin());
    at_ += static_cast<CodeOffset>(values.size());
  }
  /// The first `size` bytes; more are written.
  void bytes(const std::array<uint8_t, 16>& values, unsigned size) {
    std::memcpy(&code_[at_], values.data(), values.size());
    at_ += size;
  }
  void dword(uint32_t value) { put(value); }
  void align(unsigned to) {
    while (at_ % to != 0) byte(0xCC);
  }

  void mov(Reg to, Reg from) { registers(true, {0x8B}, to, from); }
  void mov(Reg to, uint64_t value) {
    if (value <= 0xFFFF'FFFF) {  // MOV r32, imm32
      if (to > 7) byte(0x41);
      byte(0xB8u | (to & 7u));
      put(static_cast<uint32_t>(value));
    } else if (static_cast<int64_t>(value) == static_cast<int32_t>(value)) {
      registers(true, {0xC7}, 0, to);
      put(static_cast<uint32_t>(value));
    } else {
      byte(0x48u | (to > 7 ? 1u : 0u));
      byte(0xB8u | (to & 7u));
      put(value);
    }
  }
  /// MOV r32, r32.
  void mov32(Reg to, Reg from) { registers(false, {0x8B}, to, from); }
  void movzx16(Reg to, Reg from) { registers(false, {0x0F, 0xB7}, to, from); }
  /// `index` kRsp: none. `base` may be kRsp.
  void lea(Reg to, Reg base, Reg index, unsigned scale, int32_t displacement, bool wide = true) {
    Piece code;
    code.byte((wide ? 0x48u : 0x40u) | (to > 7 ? 4u : 0u) | (index > 7 ? 2u : 0u) |
              (base > 7 ? 1u : 0u));
    code.byte(0x8D);
    memory_sib(code, to, base, index, scale, displacement);
  }
  void lea(Reg to, Reg base, int32_t displacement, bool wide = true) {
    lea(to, base, kRsp, 0, displacement, wide);
  }
  /// LEA with index and displacement alone.
  void lea_index(Reg to, Reg index, unsigned scale, int32_t displacement, bool wide = true) {
    Piece code;
    code.byte((wide ? 0x48u : 0x40u) | (to > 7 ? 4u : 0u) | (index > 7 ? 2u : 0u));
    code.byte(0x8D);
    code.byte(((to & 7u) << 3) | 4u);
    code.byte((scale << 6) | ((index & 7u) << 3) | 5u);
    piece(code);
    put(static_cast<uint32_t>(displacement));
  }
  /// MOV to, [base + displacement].
  void load(Reg to, Reg base, int32_t displacement) { memory(0x8B, to, base, displacement); }
  /// MOV r32, [base + displacement].
  void load32(Reg to, Reg base, int32_t displacement) {
    memory(0x8B, to, base, displacement, false);
  }
  void store(Reg base, int32_t displacement, Reg from) { memory(0x89, from, base, displacement); }
  void add_memory(Reg to, Reg base, int32_t displacement) { memory(0x03, to, base, displacement); }
  void sub_memory(Reg to, Reg base, int32_t displacement) { memory(0x2B, to, base, displacement); }
  void cmp_memory(Reg reg, Reg base, int32_t displacement) {
    memory(0x3B, reg, base, displacement);
  }
  void cmp32_memory(Reg reg, Reg base, int32_t displacement) {
    memory(0x3B, reg, base, displacement, false);
  }
  /// Of 64 bits or, if not `wide`, 32.
  void load(Reg to, const HostOperand& from, bool wide) { memory(0x8B, to, from, wide); }
  void store(const HostOperand& to, Reg from, bool wide) { memory(0x89, from, to, wide); }
  /// MOV qword (sign-extended) or dword, imm32.
  void store_immediate(const HostOperand& to, uint32_t value, bool wide) {
    memory(0xC7, static_cast<Reg>(0), to, wide);
    put(value);
  }
  /// ModRM and what follows it. `wide`: the displacement has 32 bits, if there is one (EVEX scales
  /// one of 8 bits).
  void operand(unsigned reg, const HostOperand& of, bool wide = false) {
    memory_sib({}, static_cast<Reg>(reg), of.base, of.index, of.scale, of.displacement, wide);
  }
  void shr32(Reg reg, unsigned count) {
    registers(false, {0xC1}, 5, reg);
    byte(count);
  }
  void shl32(Reg reg, unsigned count) {
    registers(false, {0xC1}, 4, reg);
    byte(count);
  }
  /// RORX r32, r32, count: keeps flags.
  void rorx32(Reg to, Reg from, unsigned count) {
    Piece code;
    code.byte(0xC4);
    code.byte((to > 7 ? 0u : 0x80u) | 0x40u | (from > 7 ? 0u : 0x20u) | 3u);
    code.byte(0x7B);
    code.byte(0xF0);
    code.byte(0xC0u | ((to & 7u) << 3) | (from & 7u));
    code.byte(count);
    piece(code);
  }
  void sar(Reg reg, unsigned count) {
    registers(true, {0xC1}, 7, reg);
    byte(count);
  }
  /// MOVZX r32, r8; `from` is not RSP to RDI.
  void movzx8(Reg to, Reg from) { registers(false, {0x0F, 0xB6}, to, from); }
  void movsxd(Reg to, Reg from) { registers(true, {0x63}, to, from); }
  void neg(Reg reg) { registers(true, {0xF7}, 3, reg); }
  void and32(Reg reg, uint32_t mask) {
    registers(false, {0x81}, 4, reg);
    put(mask);
  }
  void xor32(Reg reg, uint32_t mask) {
    registers(false, {0x81}, 6, reg);
    put(mask);
  }
  /// IMUL r32, r32, imm32.
  void imul32(Reg reg, uint32_t value) {
    registers(false, {0x69}, reg, reg);
    put(value);
  }
  /// CMOVB r64, r64.
  void move_if_below(Reg to, Reg from) { registers(true, {0x0F, 0x42}, to, from); }
  void cmp32(Reg reg, uint32_t value) {
    registers(false, {0x81}, 7, reg);
    put(value);
  }
  void cmp(Reg reg, int32_t value) {
    registers(true, {0x81}, 7, reg);
    put(static_cast<uint32_t>(value));
  }

  void cmp(Reg a, Reg b) { registers(true, {0x3B}, a, b); }
  void exclusive_or(Reg to, Reg from) { registers(true, {0x33}, to, from); }
  void inclusive_or(Reg to, Reg from) { registers(true, {0x0B}, to, from); }
  void test32(Reg reg, uint32_t mask) {
    registers(false, {0xF7}, 0, reg);
    put(mask);
  }
  void add32(Reg reg, uint8_t value) {
    registers(false, {0x83}, 0, reg);
    byte(value);
  }
  void shl(Reg reg, unsigned count) {
    registers(true, {0xC1}, 4, reg);
    byte(count);
  }
  /// `opcode` (the form for bytes) on the low `size` bytes of `reg`, not RSP to RDI, and [R10].
  void at_r10(unsigned size, unsigned opcode, Reg reg) {
    if (size == 2) byte(0x66);
    byte(0x41u | (size == 8 ? 8u : 0u) | (reg > 7 ? 4u : 0u));
    byte(opcode | (size > 1 ? 1u : 0u));
    byte(((reg & 7u) << 3) | (kR10 & 7u));
  }

  /// LEA of the address `beyond` bytes behind this instruction.
  void lea_relative(Reg to, uint32_t beyond) {
    Piece code;
    code.byte(0x48u | (to > 7 ? 4u : 0u));
    code.byte(0x8D);
    code.byte(((to & 7u) << 3) | 5u);
    piece(code);
    put(beyond);
  }

  void cpu_load(Reg to, int32_t displacement) { cpu(true, {0x8B}, to, displacement); }
  void cpu_store(int32_t displacement, Reg from) { cpu(true, {0x89}, from, displacement); }
  void cpu_add(Reg to, int32_t displacement) { cpu(true, {0x03}, to, displacement); }
  /// PEXT to, from, [Cpu + displacement].
  void cpu_pext(Reg to, Reg from, int32_t displacement) {
    Piece code;
    if (!cpu_.near) code.byte(0x65);
    code.byte(0xC4);
    code.byte(0x62u | (to > 7 ? 0u : 0x80u));
    code.byte(0x82u | ((~unsigned{from} & 15u) << 3));
    code.byte(0xF5);
    cpu_operand(code, to, displacement, 0);
  }
  void cpu_sub(Reg to, int32_t displacement) { cpu(true, {0x2B}, to, displacement); }
  /// CMP byte [Cpu + displacement], value.
  void cpu_cmp8(int32_t displacement, uint8_t value) {
    cpu(false, {0x80}, static_cast<Reg>(7), displacement, 1);
    byte(value);
  }
  /// MOVZX r32, byte [Cpu + displacement].
  void cpu_load8(Reg to, int32_t displacement) { cpu(false, {0x0F, 0xB6}, to, displacement); }
  void cpu_or(Reg to, int32_t displacement) { cpu(true, {0x0B}, to, displacement); }
  void cpu_and8(int32_t displacement, uint8_t mask) {
    cpu(false, {0x80}, static_cast<Reg>(4), displacement, 1);
    byte(mask);
  }
  void cpu_or8(int32_t displacement, uint8_t bits) {
    cpu(false, {0x80}, static_cast<Reg>(1), displacement, 1);
    byte(bits);
  }
  void cpu_move8(int32_t displacement, uint8_t value) {
    cpu(false, {0xC6}, static_cast<Reg>(0), displacement, 1);
    byte(value);
  }
  void cpu_move32(int32_t displacement, uint32_t value) {
    cpu(false, {0xC7}, static_cast<Reg>(0), displacement, 4);
    dword(value);
  }
  void cpu_test8(int32_t displacement, uint8_t mask) {
    cpu(false, {0xF6}, static_cast<Reg>(0), displacement, 1);
    byte(mask);
  }
  /// MOV qword [Cpu + displacement], 0.
  void cpu_clear(int32_t displacement) {
    cpu(true, {0xC7}, static_cast<Reg>(0), displacement, 4);
    dword(0);
  }
  /// SUB dword [Cpu + displacement], 1.
  void cpu_decrease(int32_t displacement) {
    cpu(false, {0x83}, static_cast<Reg>(5), displacement, 1);
    byte(1);
  }
  /// CMP word [Cpu + displacement], value (sign-extended).
  void cpu_cmp16(int32_t displacement, int8_t value) {
    byte(0x66);
    cpu(false, {0x83}, static_cast<Reg>(7), displacement, 1);
    byte(static_cast<uint8_t>(value));
  }
  void cpu_store8(int32_t displacement, Reg from) { cpu(false, {0x88}, from, displacement); }
  /// Any opcode with a register (or opcode extension) and [Cpu + displacement]; `behind`: bytes of
  /// the instruction that follow the displacement.
  void cpu(bool wide, std::initializer_list<uint8_t> opcode, Reg reg, int32_t displacement,
           unsigned behind = 0) {
    Piece code;
    if (!cpu_.near) code.byte(0x65);
    const unsigned rex = (wide ? 8u : 0u) | (reg > 7 ? 4u : 0u);
    if (rex != 0) code.byte(0x40 | rex);
    for (const uint8_t part : opcode) code.byte(part);
    cpu_operand(code, reg, displacement, behind);
  }
  void cpu_jump(int32_t displacement) { cpu(false, {0xFF}, static_cast<Reg>(4), displacement); }
  /// JMP gs:[index * 8 + displacement].
  void gs_jump_indexed(Reg index, int32_t displacement) {
    Piece code;
    code.byte(0x65);
    if (index > 7) code.byte(0x42);
    code.byte(0xFF);
    code.byte(0x24);
    code.byte(0xC5u | ((index & 7u) << 3));
    piece(code);
    put(static_cast<uint32_t>(displacement));
  }
  /// MOV gs:[index * 8 + displacement], reg; `index` is one of the first eight.
  void gs_store_indexed(Reg index, int32_t displacement, Reg reg) {
    byte(0x65);
    byte(0x48u | (reg > 7 ? 4u : 0u));
    byte(0x89);
    byte(((reg & 7u) << 3) | 4u);
    byte(0xC5u | ((index & 7u) << 3));
    put(static_cast<uint32_t>(displacement));
  }
  /// The next instruction's memory operand is relative to GS.
  Assembler& gs() {
    byte(0x65);
    return *this;
  }
  /// MOV reg, [data], data being as far from the code as `from` says.
  void load_relative(Reg reg, CodeOffset from) { relative(0x8B, reg, from); }

  /// The arithmetic flags: AH has all but OF (LAHF), AL has that (SETO).
  void flags_to_ax() {
    for (const unsigned code : {0x9F, 0x0F, 0x90, 0xC0}) byte(code);
  }
  /// ADD AL, 127 makes OF of what AL has; SAHF.
  void flags_from_ax() {
    for (const unsigned code : {0x04, 0x7F, 0x9E}) byte(code);
  }
  /// Jumps. What they return is where their 32-bit displacement stands: for patch().
  CodeOffset jump() {
    byte(0xE9);
    put(uint32_t{0});
    return at_ - 4;
  }
  CodeOffset jump_if(Condition condition) { return jump_if(static_cast<uint8_t>(condition)); }
  CodeOffset jump_if(uint8_t condition) {
    byte(0x0F);
    byte(0x80u | condition);
    put(uint32_t{0});
    return at_ - 4;
  }
  void jump(CodeOffset target) { patch(jump(), target); }
  void jump_register(Reg to) { registers(false, {0xFF}, 4, to); }
  /// As long as jump().
  void nop5() {
    for (const unsigned code : {0x0F, 0x1F, 0x44, 0x00, 0x00}) byte(code);
  }
  void jump_if(Condition condition, CodeOffset target) { patch(jump_if(condition), target); }
  /// Leads the jump whose displacement is at `place` to `target`.
  void patch(CodeOffset place, CodeOffset target) {
    const uint32_t relative = target - (place + 4);
    std::memcpy(&code_[place], &relative, 4);
  }
  void patch_value(CodeOffset place, uint32_t value) { std::memcpy(&code_[place], &value, 4); }

 private:
  template <typename T>
  void put(T value) {
    std::memcpy(&code_[at_], &value, sizeof value);
    at_ += static_cast<CodeOffset>(sizeof value);
  }
  // Behind what `code` has of the instruction.
  void cpu_operand(Piece code, Reg reg, int32_t displacement, unsigned behind) {
    const unsigned field = (reg & 7u) << 3;
    if (!cpu_.near) {
      code.byte(field | 4u);
      code.byte(0x25);
      piece(code);
      put(static_cast<uint32_t>(displacement));
      return;
    }
    code.byte(field | 5u);
    piece(code);
    put(static_cast<uint32_t>(cpu_.distance + displacement - (int64_t{at_} + 4 + behind)));
  }
  static void rex_if(Piece& code, bool wide, Reg reg, Reg rm) {
    const unsigned rex = (wide ? 8u : 0u) | (reg > 7 ? 4u : 0u) | (rm > 7 ? 1u : 0u);
    if (rex != 0) code.byte(0x40 | rex);
  }
  /// An opcode whose ModRM names the register `rm` and in `reg` another one or an extension.
  void registers(bool wide, std::initializer_list<uint8_t> opcode, unsigned reg, Reg rm) {
    Piece code;
    rex_if(code, wide, static_cast<Reg>(reg), rm);
    for (const uint8_t part : opcode) code.byte(part);
    code.byte(0xC0u | ((reg & 7u) << 3) | (rm & 7u));
    piece(code);
  }
  void relative(unsigned opcode, Reg reg, CodeOffset data) {
    Piece code;
    code.byte(0x48u | (reg > 7 ? 4u : 0u));
    code.byte(opcode);
    code.byte(((reg & 7u) << 3) | 5u);
    piece(code);
    put(data - (at_ + 4));
  }
  void memory(unsigned opcode, Reg reg, Reg base, int32_t displacement, bool wide = true) {
    Piece code;
    rex_if(code, wide, reg, base);
    code.byte(opcode);
    memory_sib(code, reg, base, kRsp, 0, displacement);
  }
  void memory(unsigned opcode, Reg reg, const HostOperand& of, bool wide) {
    Piece code;
    code.byte((wide ? 0x48u : 0x40u) | (reg > 7 ? 4u : 0u) | (of.index > 7 ? 2u : 0u) |
              (of.base > 7 ? 1u : 0u));
    code.byte(opcode);
    memory_sib(code, reg, of.base, of.index, of.scale, of.displacement);
  }
  void memory_sib(Piece code, Reg reg, Reg base, Reg index, unsigned scale, int32_t displacement,
                  bool wide = false) {
    const bool has_sib = index != kRsp || (base & 7) == kRsp;
    const bool is_byte = !wide && displacement == static_cast<int8_t>(displacement);
    const unsigned mod = displacement == 0 && (base & 7) != kRbp ? 0u : is_byte ? 1u : 2u;
    code.byte((mod << 6) | ((reg & 7u) << 3) | (has_sib ? 4u : base & 7u));
    if (has_sib) code.byte((scale << 6) | ((index & 7u) << 3) | (base & 7u));
    if (mod == 1) code.byte(static_cast<uint8_t>(displacement));
    piece(code);
    if (mod == 2) put(static_cast<uint32_t>(displacement));
  }

  std::span<uint8_t> code_;
  CodeOffset at_;
  CpuPlace cpu_;
};

}  // namespace limen::soft::translate
