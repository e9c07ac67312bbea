#include "soft/interpret/native/emit.h"

#include <xbyak/xbyak.h>

#include <array>
#include <bitset>

#include "soft/cpu.h"
#include "soft/interpret/native/features.h"
#include "soft/interpret/native/host.h"
#include "soft/interpret/native/thunk.h"

namespace limen::soft::interpret::native {
namespace {

/// Where the members of a Cpu lie, relative to the Cpu.
struct Layout {
  explicit Layout(const Cpu& cpu)
      : gpr(offset(cpu, &cpu.gpr)),
        flags(offset(cpu, &cpu.flags_overflow)),  // flags_low behind it: AX after LAHF, SETO AL
        zmm(offset(cpu, &cpu.vector.zmm)),
        opmask(offset(cpu, &cpu.vector.opmask)),
        mxcsr(offset(cpu, &cpu.vector.fxsave) + 24) {}

  static int offset(const Cpu& cpu, const void* member) {
    return static_cast<int>(static_cast<const std::byte*>(member) -
                            reinterpret_cast<const std::byte*>(&cpu));
  }

  int gpr, flags, zmm, opmask, mxcsr;
};

/// What one instruction needs of the vector registers.
struct VectorUse {
  std::array<uint16_t, 32> width{};  ///< Bits to load; 0: not used.
  std::bitset<32> written;
  std::bitset<8> opmasks;
  std::bitset<8> opmasks_written;
  bool wide = false;  ///< Leaves upper halves of YMM registers in use.
};

VectorUse vector_use(const decode::Instruction& instruction) {
  VectorUse use;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const ZydisDecodedOperand& operand = instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    const ZydisRegister reg = operand.reg.value;
    const ZydisRegisterClass kind = ZydisRegisterGetClass(reg);
    const bool written = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
    if (kind == ZYDIS_REGCLASS_MASK) {
      const auto number = static_cast<size_t>(ZydisRegisterGetId(reg));
      use.opmasks.set(number);
      if (!written) continue;
      use.opmasks_written.set(number);
      // The only instructions with a pair of results name one of them (SDM Vol. 2C VP2INTERSECT).
      if (instruction.raw.meta.category == ZYDIS_CATEGORY_AVX512_VP2INTERSECT)
        use.opmasks_written.set(number ^ 1);
      continue;
    }
    unsigned width = 0;
    if (kind == ZYDIS_REGCLASS_XMM) width = 128;
    if (kind == ZYDIS_REGCLASS_YMM) width = 256;
    if (kind == ZYDIS_REGCLASS_ZMM) width = 512;
    if (!width) continue;
    const auto number = static_cast<size_t>(ZydisRegisterGetId(reg));
    if (width > use.width[number]) use.width[number] = static_cast<uint16_t>(width);
    if (written) use.written.set(number);
    if (width > 128) use.wide = true;
  }
  if (instruction.raw.avx.vector_length > 128) use.wide = true;
  return use;
}

class Emitter : public Xbyak::CodeGenerator {
 public:
  Emitter(const decode::Instruction& instruction, const HostInstruction& host, const Cpu& cpu,
          std::span<std::byte> where)
      : CodeGenerator(where.size(), where.data()),
        host_(host),
        at_(cpu),
        use_(vector_use(instruction)),
        legacy_(instruction.raw.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY),
        x87_(uses_x87_state(instruction)),
        mxcsr_(uses_mxcsr(instruction)),
        flags_(instruction.raw.cpu_flags != nullptr && touches_flags(*instruction.raw.cpu_flags)) {}

  EmittedThunk run() {
    EmittedThunk result;
    load();
    result.instruction = getSize();
    for (const uint8_t code_byte : host_.code()) db(code_byte);
    store();
    xor_(eax, eax);
    result.recovery = getSize();
    if (x87_) fninit();
    if (mxcsr_) {
      stmxcsr(ptr[rdi + at_.mxcsr]);
      ldmxcsr(ptr[rsp - 8]);
    }
    if (use_.wide) vzeroupper();
    ret();
    result.size = getSize();
    return result;
  }

 private:
  static bool touches_flags(const ZydisAccessedFlags& flags) {
    return ((flags.tested | flags.modified | flags.set_0 | flags.set_1 | flags.undefined) &
            x86::rflags::kArithmetic) != 0;
  }

  /// XRSTOR64 or XSAVE64 [r11] of the x87 state alone.
  void x87_transfer(uint8_t modrm) {
    mov(eax, 1);
    xor_(edx, edx);
    db(0x49);
    db(0x0F);
    db(0xAE);
    db(modrm);
  }

  void load() {
    if (x87_) {
      mov(r11, rdx);
      x87_transfer(0x2B);
    }
    if (mxcsr_) {
      stmxcsr(ptr[rsp - 8]);
      ldmxcsr(ptr[rdi + at_.mxcsr]);
    }
    if (flags_) {
      // OF by an addition that overflows for 1 and not for 0, the rest by SAHF.
      mov(ax, ptr[rdi + at_.flags]);
      add(al, 0x7F);
      sahf();
    }
    for (int i = 0; i < 32; ++i) {
      const int offset = at_.zmm + 64 * i;
      switch (use_.width[static_cast<size_t>(i)]) {
        case 128:
          if (legacy_)
            movups(Xbyak::Xmm(i), ptr[rdi + offset]);
          else
            vmovups(Xbyak::Xmm(i), ptr[rdi + offset]);
          break;
        case 256:
          vmovups(Xbyak::Ymm(i), ptr[rdi + offset]);
          break;
        case 512:
          vmovups(Xbyak::Zmm(i), ptr[rdi + offset]);
          break;
        default:
          break;
      }
    }
    for (int k = 0; k < 8; ++k) {
      if (!use_.opmasks[static_cast<size_t>(k)]) continue;
      if (host().avx512bw)
        kmovq(Xbyak::Opmask(k), ptr[rdi + (at_.opmask + 8 * k)]);
      else
        kmovw(Xbyak::Opmask(k), ptr[rdi + (at_.opmask + 8 * k)]);
    }
    for (unsigned i = 0; i < host_.binding_count; ++i)
      mov(Xbyak::Reg64(host_.bindings[i].host), ptr[rdi + general(host_.bindings[i].guest)]);
  }

  void store() {
    for (unsigned i = 0; i < host_.binding_count; ++i)
      if (host_.bindings[i].written)
        mov(ptr[rdi + general(host_.bindings[i].guest)], Xbyak::Reg64(host_.bindings[i].host));
    if (flags_) {
      lahf();
      seto(al);
      mov(ptr[rdi + at_.flags], ax);
    }
    for (int i = 0; i < 32; ++i) {
      if (!use_.written[static_cast<size_t>(i)]) continue;
      const int offset = at_.zmm + 64 * i;
      // VEX and EVEX clear what lies above the operand, legacy SSE leaves it (SDM Vol. 1 14.1.2).
      if (legacy_)
        movups(ptr[rdi + offset], Xbyak::Xmm(i));
      else if (host().avx512f)
        vmovups(ptr[rdi + offset], Xbyak::Zmm(i));
      else
        vmovups(ptr[rdi + offset], Xbyak::Ymm(i));
    }
    for (int k = 0; k < 8; ++k) {
      if (!use_.opmasks_written[static_cast<size_t>(k)]) continue;
      if (host().avx512bw)
        kmovq(ptr[rdi + (at_.opmask + 8 * k)], Xbyak::Opmask(k));
      else
        kmovw(ptr[rdi + (at_.opmask + 8 * k)], Xbyak::Opmask(k));
    }
    if (!x87_) return;
    x87_transfer(0x23);
    // FNSTENV [r11 + X87Area::environment]
    for (const int code_byte : {0x41, 0xD9, 0xB3}) db(code_byte);
    dd(offsetof(X87Area, environment));
  }

  [[nodiscard]] int general(uint8_t guest) const { return at_.gpr + 8 * guest; }
  [[nodiscard]] static const HostFeatures& host() { return host_features(); }

  const HostInstruction& host_;
  Layout at_;
  VectorUse use_;
  bool legacy_, x87_, mxcsr_, flags_;
};

}  // namespace

EmittedThunk emit_thunk(const decode::Instruction& instruction, const HostInstruction& host,
                        const Cpu& cpu, std::span<std::byte> where) {
  return Emitter(instruction, host, cpu, where).run();
}

}  // namespace limen::soft::interpret::native
