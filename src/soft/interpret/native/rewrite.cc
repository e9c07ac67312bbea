#include "soft/interpret/native/rewrite.h"

#include <algorithm>

#include "soft/interpret/native/features.h"

namespace limen::soft::interpret::native {
namespace {

using decode::CodeMode;
using decode::general_number;
using decode::is_general;

constexpr uint8_t kUnbound = 0xFF;

bool is_high_byte(ZydisRegister reg) {
  return reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
}

/// The fields of ModRM and the prefixes, each as a whole register number.
struct Fields {
  uint8_t mod = 0;
  uint8_t reg = 0;
  uint8_t rm = 0;
  uint8_t vvvv = 0;         ///< 4 bits, not inverted.
  bool reg_high = false;    ///< EVEX.R': registers 16 to 31.
  bool extended_x = false;  ///< EVEX.X as bit 4 of ModRM.rm.
  uint8_t opcode_low = 0;
};

class Rewriter {
 public:
  Rewriter(const decode::Instruction& instruction, bool plain_scan)
      : in_(instruction), raw_(instruction.raw.raw), plain_scan_(plain_scan) {}

  std::optional<HostInstruction> run() {
    if (in_.raw.attributes & (ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_IS_PRIVILEGED))
      return std::nullopt;
    if (!bind_fixed() || !bind_named()) return std::nullopt;
    read_fields();
    rename();
    switch (in_.raw.encoding) {
      case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
        if (!emit_legacy()) return std::nullopt;
        break;
      case ZYDIS_INSTRUCTION_ENCODING_VEX:
        emit_vex();
        break;
      case ZYDIS_INSTRUCTION_ENCODING_EVEX:
        emit_evex();
        break;
      default:
        return std::nullopt;
    }
    emit_tail();
    for (uint8_t guest = 0; guest < 16; ++guest)
      if (host_of_[guest] != kUnbound) {
        if (out_.binding_count == out_.bindings.size()) return std::nullopt;
        out_.bindings[out_.binding_count++] = {guest, host_of_[guest], written_[guest]};
      }
    if (!is_same()) return std::nullopt;
    return out_;
  }

 private:
  void put(unsigned byte) { out_.bytes[out_.length++] = static_cast<uint8_t>(byte); }

  std::span<const ZydisDecodedOperand> operands() const {
    return {in_.operands.data(), in_.raw.operand_count};
  }

  void note(uint8_t guest, const ZydisDecodedOperand& operand) {
    if (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) written_[guest] = true;
  }

  /// Binds registers that the instruction uses without naming them, and looks at every operand.
  bool bind_fixed() {
    host_of_.fill(kUnbound);
    for (const auto& operand : operands()) {
      if (operand.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        if (operand.imm.is_relative) return false;
        continue;
      }
      if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        if (operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM ||
            operand.mem.type != ZYDIS_MEMOP_TYPE_MEM)
          return false;
        memory_ = true;
        continue;
      }
      if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER) return false;
      const ZydisRegister reg = operand.reg.value;
      const ZydisRegisterClass kind = ZydisRegisterGetClass(reg);
      switch (kind) {
        case ZYDIS_REGCLASS_X87:
        case ZYDIS_REGCLASS_MMX:
        case ZYDIS_REGCLASS_XMM:
        case ZYDIS_REGCLASS_YMM:
        case ZYDIS_REGCLASS_ZMM:
        case ZYDIS_REGCLASS_MASK:
        case ZYDIS_REGCLASS_FLAGS:
          continue;
        default:
          break;
      }
      if (reg == ZYDIS_REGISTER_X87CONTROL || reg == ZYDIS_REGISTER_X87STATUS ||
          reg == ZYDIS_REGISTER_X87TAG || reg == ZYDIS_REGISTER_MXCSR)
        continue;
      if (!is_general(reg)) return false;
      general_ = true;
      if (operand.encoding != ZYDIS_OPERAND_ENCODING_NONE) continue;
      if (is_high_byte(reg)) return false;
      const uint8_t guest = general_number(reg);
      if (guest > 2) return false;  // only RAX, RCX and RDX are free in a thunk
      host_of_[guest] = guest;
      note(guest, operand);
    }
    return true;
  }

  bool bind_named() {
    static constexpr uint8_t kFree[] = {0, 1, 2, 8, 9, 10};
    for (const auto& operand : operands()) {
      if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER ||
          operand.encoding == ZYDIS_OPERAND_ENCODING_NONE || !is_general(operand.reg.value))
        continue;
      const uint8_t guest = general_number(operand.reg.value);
      note(guest, operand);
      if (host_of_[guest] != kUnbound) continue;
      const auto* host = std::ranges::find_if(kFree, [&](uint8_t candidate) {
        return std::ranges::find(host_of_, candidate) == host_of_.end();
      });
      if (host == std::end(kFree)) return false;
      if (is_high_byte(operand.reg.value) && *host > 2) return false;
      host_of_[guest] = *host;
    }
    return true;
  }

  void read_fields() {
    fields_ = {.mod = raw_.modrm.mod, .reg = raw_.modrm.reg, .rm = raw_.modrm.rm};
    fields_.opcode_low = in_.raw.opcode & 7;
    switch (in_.raw.encoding) {
      case ZYDIS_INSTRUCTION_ENCODING_VEX:
        fields_.reg = static_cast<uint8_t>(fields_.reg | (raw_.vex.R ? 0 : 8));
        fields_.rm = static_cast<uint8_t>(fields_.rm | (raw_.vex.B ? 0 : 8));
        fields_.vvvv = static_cast<uint8_t>(~raw_.vex.vvvv & 15);
        break;
      case ZYDIS_INSTRUCTION_ENCODING_EVEX:
        fields_.reg = static_cast<uint8_t>(fields_.reg | (raw_.evex.R ? 0 : 8));
        fields_.rm = static_cast<uint8_t>(fields_.rm | (raw_.evex.B ? 0 : 8));
        fields_.vvvv = static_cast<uint8_t>(~raw_.evex.vvvv & 15);
        fields_.reg_high = !raw_.evex.R2;
        fields_.extended_x = !raw_.evex.X;
        break;
      default:
        if (in_.raw.attributes & ZYDIS_ATTRIB_HAS_REX) {
          fields_.reg = static_cast<uint8_t>(fields_.reg | (raw_.rex.R << 3));
          fields_.rm = static_cast<uint8_t>(fields_.rm | (raw_.rex.B << 3));
        }
        break;
    }
    // Outside 64-bit mode there are eight registers, and the bits that would name more are ignored
    // or fixed (SDM Vol. 2A 2.3.5.6).
    if (in_.mode != CodeMode::k64) {
      fields_.reg &= 7;
      fields_.rm &= 7;
      fields_.vvvv &= 7;
      fields_.reg_high = fields_.extended_x = false;
    }
  }

  void rename() {
    for (const auto& operand : operands()) {
      if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER || !is_general(operand.reg.value)) continue;
      uint8_t host = host_of_[general_number(operand.reg.value)];
      if (is_high_byte(operand.reg.value)) {
        host = static_cast<uint8_t>(host + 4);
        high_byte_ = true;
      }
      switch (operand.encoding) {
        case ZYDIS_OPERAND_ENCODING_MODRM_REG:
          fields_.reg = host;
          fields_.reg_high = false;
          break;
        case ZYDIS_OPERAND_ENCODING_MODRM_RM:
          fields_.rm = host;
          fields_.extended_x = false;
          break;
        case ZYDIS_OPERAND_ENCODING_NDSNDD:
          fields_.vvvv = host;
          break;
        case ZYDIS_OPERAND_ENCODING_OPCODE:
          fields_.opcode_low = host & 7;
          fields_.rm = host;  // REX.B
          renamed_opcode_ = true;
          break;
        default:
          break;
      }
    }
    if (memory_) {
      fields_.mod = 0;
      fields_.rm = kMemoryRegister;
      fields_.extended_x = false;
    }
  }

  bool has_mandatory(uint8_t value) const {
    return std::any_of(raw_.prefixes, raw_.prefixes + raw_.prefix_count, [&](const auto& prefix) {
      return prefix.type == ZYDIS_PREFIX_TYPE_MANDATORY && prefix.value == value;
    });
  }

  bool emit_legacy() {
    const bool vector_or_x87 = required_check(in_) != Check::kNone;
    if (has_mandatory(0x66) || (!vector_or_x87 && in_.raw.operand_width == 16)) put(0x66);
    if (has_mandatory(0xF2)) put(0xF2);
    if (has_mandatory(0xF3) && !plain_scan_) put(0xF3);

    const bool has_rex = in_.mode == CodeMode::k64 && (in_.raw.attributes & ZYDIS_ATTRIB_HAS_REX);
    const unsigned rex = (has_rex && raw_.rex.W ? 8u : 0u) | (fields_.reg > 7 ? 4u : 0u) |
                         (fields_.rm > 7 ? 1u : 0u);
    if (rex) {
      if (high_byte_) return false;
      put(0x40 | rex);
    }
    switch (in_.raw.opcode_map) {
      case ZYDIS_OPCODE_MAP_DEFAULT:
        break;
      case ZYDIS_OPCODE_MAP_0F:
        put(0x0F);
        break;
      case ZYDIS_OPCODE_MAP_0F38:
        put(0x0F);
        put(0x38);
        break;
      case ZYDIS_OPCODE_MAP_0F3A:
        put(0x0F);
        put(0x3A);
        break;
      default:
        return false;
    }
    put(renamed_opcode_ ? (in_.raw.opcode & 0xF8u) | fields_.opcode_low : in_.raw.opcode);
    return true;
  }

  /// Outside 64-bit mode W does not widen general registers (SDM Vol. 2A 2.3.5.5).
  bool keeps_w() const {
    if (in_.mode == CodeMode::k64) return true;
    switch (in_.mnemonic()) {
      case ZYDIS_MNEMONIC_VMOVD:
      case ZYDIS_MNEMONIC_VPEXTRD:
      case ZYDIS_MNEMONIC_VPINSRD:
      case ZYDIS_MNEMONIC_VCVTSI2SS:
      case ZYDIS_MNEMONIC_VCVTSI2SD:
      case ZYDIS_MNEMONIC_VCVTSI2SH:
      case ZYDIS_MNEMONIC_VCVTUSI2SS:
      case ZYDIS_MNEMONIC_VCVTUSI2SD:
      case ZYDIS_MNEMONIC_VCVTUSI2SH:
        return false;
      default:
        return !general_;
    }
  }

  void emit_vex() {
    put(0xC4);
    put((fields_.reg > 7 ? 0u : 0x80u) | 0x40u | (fields_.rm > 7 ? 0u : 0x20u) | raw_.vex.m_mmmm);
    put((raw_.vex.W && keeps_w() ? 0x80u : 0u) | ((~fields_.vvvv & 15u) << 3) |
        (raw_.vex.L ? 4u : 0u) | raw_.vex.pp);
    put(in_.raw.opcode);
  }

  void emit_evex() {
    const uint8_t* prefix = in_.bytes.data() + raw_.evex.offset;
    put(0x62);
    put((fields_.reg > 7 ? 0u : 0x80u) | (fields_.extended_x ? 0u : 0x40u) |
        (fields_.rm > 7 ? 0u : 0x20u) | (fields_.reg_high ? 0u : 0x10u) | (prefix[1] & 0x0Fu));
    put((raw_.evex.W && keeps_w() ? 0x80u : 0u) | ((~fields_.vvvv & 15u) << 3) | 4u |
        (prefix[2] & 3u));
    // V' is the fifth bit of vvvv; there is no vector index to use it otherwise.
    put(in_.mode == CodeMode::k64 ? prefix[3] : prefix[3] | 8u);
    put(in_.raw.opcode);
  }

  void emit_tail() {
    if (in_.raw.attributes & ZYDIS_ATTRIB_HAS_MODRM)
      put((unsigned{fields_.mod} << 6) | ((fields_.reg & 7u) << 3) | (fields_.rm & 7u));
    if (raw_.imm[0].size == 0) return;
    const auto* first = out_.bytes.data() + out_.length;
    for (unsigned at = raw_.imm[0].offset; at < in_.raw.length; ++at) put(in_.bytes[at]);
    const bool names_register = std::ranges::any_of(operands(), [](const auto& operand) {
      return operand.encoding == ZYDIS_OPERAND_ENCODING_IS4;
    });
    if (names_register && in_.mode != CodeMode::k64)
      out_.bytes[static_cast<size_t>(first - out_.bytes.data())] &= 0x7F;
  }

  /// A mistake above would run something else on the host: decode the result and compare.
  bool is_same() {
    decode::Instruction result;
    if (decode::decode(CodeMode::k64, out_.code(), result) != decode::Outcome::kOk) return false;
    const bool scan = plain_scan_ && (result.mnemonic() == ZYDIS_MNEMONIC_BSF ||
                                      result.mnemonic() == ZYDIS_MNEMONIC_BSR);
    if (result.length() != out_.length || (result.mnemonic() != in_.mnemonic() && !scan) ||
        result.raw.operand_count_visible != in_.raw.operand_count_visible)
      return false;
    for (unsigned i = 0; i < in_.raw.operand_count_visible; ++i) {
      const auto& was = in_.operands[i];
      const auto& is = result.operands[i];
      if (was.type != is.type || was.size != is.size) return false;
      if (was.type == ZYDIS_OPERAND_TYPE_MEMORY &&
          (is.mem.base != ZYDIS_REGISTER_RSI || is.mem.index != ZYDIS_REGISTER_NONE ||
           is.mem.disp.has_displacement))
        return false;
      if (was.type == ZYDIS_OPERAND_TYPE_REGISTER && !is_general(was.reg.value) &&
          was.reg.value != is.reg.value)
        return false;
    }
    if ((in_.raw.meta.isa_ext == ZYDIS_ISA_EXT_X87 || in_.mnemonic() == ZYDIS_MNEMONIC_FISTTP) &&
        out_.length >= 2) {
      const unsigned at = out_.length - 2u;
      out_.x87_opcode = static_cast<uint16_t>(((out_.bytes[at] & 7u) << 8) | out_.bytes[at + 1]);
    }
    return true;
  }

  const decode::Instruction& in_;
  const ZydisDecodedInstructionRaw& raw_;
  bool plain_scan_;
  HostInstruction out_;
  Fields fields_;
  std::array<uint8_t, 16> host_of_{};
  std::array<bool, 16> written_{};
  bool memory_ = false;
  bool general_ = false;
  bool high_byte_ = false;
  bool renamed_opcode_ = false;
};

}  // namespace

std::optional<HostInstruction> rewrite(const decode::Instruction& instruction, bool plain_scan) {
  return Rewriter(instruction, plain_scan).run();
}

}  // namespace limen::soft::interpret::native
