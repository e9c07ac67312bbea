#include "soft/interpret/native/features.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <string_view>

namespace limen::soft::interpret::native {
namespace {

enum class Output : uint8_t { kNothing, kEax, kEbx, kEcx, kEdx };

struct Requirement {
  ZydisISASet set;
  uint32_t leaf = 0;
  uint32_t subleaf = 0;
  Output output = Output::kNothing;
  uint8_t bit = 0;
  bool needs_vl = false;  ///< AVX512VL as well.
};

constexpr Requirement always(ZydisISASet set) { return {.set = set}; }
constexpr Requirement leaf1c(ZydisISASet set, uint8_t bit) {
  return {set, 1, 0, Output::kEcx, bit};
}
constexpr Requirement leaf7b(ZydisISASet set, uint8_t bit, bool vl = false) {
  return {set, 7, 0, Output::kEbx, bit, vl};
}
constexpr Requirement leaf7c(ZydisISASet set, uint8_t bit, bool vl = false) {
  return {set, 7, 0, Output::kEcx, bit, vl};
}
constexpr Requirement leaf7d(ZydisISASet set, uint8_t bit, bool vl = false) {
  return {set, 7, 0, Output::kEdx, bit, vl};
}
constexpr Requirement leaf71a(ZydisISASet set, uint8_t bit, bool vl = false) {
  return {set, 7, 1, Output::kEax, bit, vl};
}

constexpr uint8_t kAvx512vl = 31;  // CPUID.7.0:EBX

constexpr Requirement kRequirements[] = {
    always(ZYDIS_ISA_SET_X87),
    always(ZYDIS_ISA_SET_FCMOV),
    always(ZYDIS_ISA_SET_PENTIUMMMX),
    always(ZYDIS_ISA_SET_PPRO),
    always(ZYDIS_ISA_SET_CMOV),
    always(ZYDIS_ISA_SET_SSE),
    always(ZYDIS_ISA_SET_SSE2),
    always(ZYDIS_ISA_SET_SSE2MMX),
    always(ZYDIS_ISA_SET_SSEMXCSR),
    always(ZYDIS_ISA_SET_SSE_PREFETCH),
    always(ZYDIS_ISA_SET_PREFETCH_NOP),
    always(ZYDIS_ISA_SET_FXSAVE),
    always(ZYDIS_ISA_SET_FXSAVE64),
    always(ZYDIS_ISA_SET_PAUSE),
    always(ZYDIS_ISA_SET_FAT_NOP),
    always(ZYDIS_ISA_SET_I86),
    always(ZYDIS_ISA_SET_I186),
    always(ZYDIS_ISA_SET_I386),
    always(ZYDIS_ISA_SET_I486),
    always(ZYDIS_ISA_SET_I486REAL),
    always(ZYDIS_ISA_SET_PENTIUMREAL),
    always(ZYDIS_ISA_SET_LONGMODE),
    {ZYDIS_ISA_SET_CLFSH, 1, 0, Output::kEdx, 19},
    leaf1c(ZYDIS_ISA_SET_SSE3, 0),
    leaf1c(ZYDIS_ISA_SET_SSE3X87, 0),
    leaf1c(ZYDIS_ISA_SET_PCLMULQDQ, 1),
    leaf1c(ZYDIS_ISA_SET_SSSE3, 9),
    leaf1c(ZYDIS_ISA_SET_SSSE3MMX, 9),
    leaf1c(ZYDIS_ISA_SET_FMA, 12),
    leaf1c(ZYDIS_ISA_SET_SSE4, 19),
    leaf1c(ZYDIS_ISA_SET_SSE42, 20),
    leaf1c(ZYDIS_ISA_SET_MOVBE, 22),
    leaf1c(ZYDIS_ISA_SET_POPCNT, 23),
    leaf1c(ZYDIS_ISA_SET_AES, 25),
    leaf1c(ZYDIS_ISA_SET_AVXAES, 25),
    leaf1c(ZYDIS_ISA_SET_XSAVE, 26),
    leaf1c(ZYDIS_ISA_SET_AVX, 28),
    leaf1c(ZYDIS_ISA_SET_F16C, 29),
    leaf1c(ZYDIS_ISA_SET_RDRAND, 30),
    {ZYDIS_ISA_SET_LZCNT, 0x80000001, 0, Output::kEcx, 5},
    {ZYDIS_ISA_SET_SSE4A, 0x80000001, 0, Output::kEcx, 6},
    {ZYDIS_ISA_SET_XSAVEOPT, 0xD, 1, Output::kEax, 0},
    {ZYDIS_ISA_SET_XSAVEC, 0xD, 1, Output::kEax, 1},
    {ZYDIS_ISA_SET_XSAVES, 0xD, 1, Output::kEax, 3},
    leaf7b(ZYDIS_ISA_SET_BMI1, 3),
    leaf7b(ZYDIS_ISA_SET_AVX2, 5),
    leaf7b(ZYDIS_ISA_SET_AVX2GATHER, 5),
    leaf7b(ZYDIS_ISA_SET_BMI2, 8),
    leaf7b(ZYDIS_ISA_SET_RDSEED, 18),
    leaf7b(ZYDIS_ISA_SET_ADOX_ADCX, 19),
    leaf7b(ZYDIS_ISA_SET_CLFLUSHOPT, 23),
    leaf7b(ZYDIS_ISA_SET_CLWB, 24),
    leaf7b(ZYDIS_ISA_SET_SHA, 29),
    leaf7c(ZYDIS_ISA_SET_PREFETCHWT1, 0),
    leaf7c(ZYDIS_ISA_SET_GFNI, 8),
    leaf7c(ZYDIS_ISA_SET_AVX_GFNI, 8),
    leaf7c(ZYDIS_ISA_SET_VAES, 9),
    leaf7c(ZYDIS_ISA_SET_VPCLMULQDQ, 10),
    leaf7c(ZYDIS_ISA_SET_RDPID, 22),
    leaf7c(ZYDIS_ISA_SET_CLDEMOTE, 25),
    leaf7d(ZYDIS_ISA_SET_SERIALIZE, 14),
    leaf71a(ZYDIS_ISA_SET_AVX_VNNI, 4),

    leaf7b(ZYDIS_ISA_SET_AVX512F_128, 16, true),
    leaf7b(ZYDIS_ISA_SET_AVX512F_128N, 16),
    leaf7b(ZYDIS_ISA_SET_AVX512F_256, 16, true),
    leaf7b(ZYDIS_ISA_SET_AVX512F_512, 16),
    leaf7b(ZYDIS_ISA_SET_AVX512F_KOP, 16),
    leaf7b(ZYDIS_ISA_SET_AVX512F_SCALAR, 16),
    leaf7b(ZYDIS_ISA_SET_AVX512DQ_128, 17, true),
    leaf7b(ZYDIS_ISA_SET_AVX512DQ_128N, 17),
    leaf7b(ZYDIS_ISA_SET_AVX512DQ_256, 17, true),
    leaf7b(ZYDIS_ISA_SET_AVX512DQ_512, 17),
    leaf7b(ZYDIS_ISA_SET_AVX512DQ_KOP, 17),
    leaf7b(ZYDIS_ISA_SET_AVX512DQ_SCALAR, 17),
    leaf7b(ZYDIS_ISA_SET_AVX512_IFMA_128, 21, true),
    leaf7b(ZYDIS_ISA_SET_AVX512_IFMA_256, 21, true),
    leaf7b(ZYDIS_ISA_SET_AVX512_IFMA_512, 21),
    leaf7b(ZYDIS_ISA_SET_AVX512CD_128, 28, true),
    leaf7b(ZYDIS_ISA_SET_AVX512CD_256, 28, true),
    leaf7b(ZYDIS_ISA_SET_AVX512CD_512, 28),
    leaf7b(ZYDIS_ISA_SET_AVX512BW_128, 30, true),
    leaf7b(ZYDIS_ISA_SET_AVX512BW_128N, 30),
    leaf7b(ZYDIS_ISA_SET_AVX512BW_256, 30, true),
    leaf7b(ZYDIS_ISA_SET_AVX512BW_512, 30),
    leaf7b(ZYDIS_ISA_SET_AVX512BW_KOP, 30),
    leaf7c(ZYDIS_ISA_SET_AVX512_VBMI_128, 1, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VBMI_256, 1, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VBMI_512, 1),
    leaf7c(ZYDIS_ISA_SET_AVX512_VBMI2_128, 6, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VBMI2_256, 6, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VBMI2_512, 6),
    leaf7c(ZYDIS_ISA_SET_AVX512_GFNI_128, 8, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_GFNI_256, 8, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_GFNI_512, 8),
    leaf7c(ZYDIS_ISA_SET_AVX512_VAES_128, 9, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VAES_256, 9, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VAES_512, 9),
    leaf7c(ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_128, 10, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_256, 10, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_512, 10),
    leaf7c(ZYDIS_ISA_SET_AVX512_VNNI_128, 11, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VNNI_256, 11, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VNNI_512, 11),
    leaf7c(ZYDIS_ISA_SET_AVX512_BITALG_128, 12, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_BITALG_256, 12, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_BITALG_512, 12),
    leaf7c(ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_128, 14, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_256, 14, true),
    leaf7c(ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512, 14),
    leaf7d(ZYDIS_ISA_SET_AVX512_VP2INTERSECT_128, 8, true),
    leaf7d(ZYDIS_ISA_SET_AVX512_VP2INTERSECT_256, 8, true),
    leaf7d(ZYDIS_ISA_SET_AVX512_VP2INTERSECT_512, 8),
    leaf7d(ZYDIS_ISA_SET_AVX512_FP16_128, 23, true),
    leaf7d(ZYDIS_ISA_SET_AVX512_FP16_128N, 23),
    leaf7d(ZYDIS_ISA_SET_AVX512_FP16_256, 23, true),
    leaf7d(ZYDIS_ISA_SET_AVX512_FP16_512, 23),
    leaf7d(ZYDIS_ISA_SET_AVX512_FP16_SCALAR, 23),
    leaf71a(ZYDIS_ISA_SET_AVX512_BF16_128, 5, true),
    leaf71a(ZYDIS_ISA_SET_AVX512_BF16_256, 5, true),
    leaf71a(ZYDIS_ISA_SET_AVX512_BF16_512, 5),
};

/// What the decoder's set requires, or nullptr.
const Requirement* requirement_of(ZydisISASet set) {
  static const auto table = [] {
    std::array<const Requirement*, ZYDIS_ISA_SET_MAX_VALUE + 1> made{};
    for (const Requirement& requirement : kRequirements) made[requirement.set] = &requirement;
    return made;
  }();
  return table[set];
}

bool has_bit(const x86::CpuidTable& cpuid, uint32_t leaf, uint32_t subleaf, Output output,
             unsigned bit) {
  const x86::CpuidResult* result = cpuid.find(leaf, subleaf);
  if (!result) return false;
  const uint32_t word = output == Output::kEax   ? result->eax
                        : output == Output::kEbx ? result->ebx
                        : output == Output::kEcx ? result->ecx
                                                 : result->edx;
  return (word >> bit) & 1;
}

bool has_operand_of(const decode::Instruction& instruction, ZydisRegisterClass wanted) {
  return std::any_of(instruction.operands.begin(),
                     instruction.operands.begin() + instruction.raw.operand_count,
                     [&](const ZydisDecodedOperand& operand) {
                       return operand.type == ZYDIS_OPERAND_TYPE_REGISTER &&
                              ZydisRegisterGetClass(operand.reg.value) == wanted;
                     });
}

bool has_vector_operand(const decode::Instruction& instruction) {
  return has_operand_of(instruction, ZYDIS_REGCLASS_XMM) ||
         has_operand_of(instruction, ZYDIS_REGCLASS_YMM) ||
         has_operand_of(instruction, ZYDIS_REGCLASS_ZMM);
}

/// CVTxx2xx, which need SSE even where neither operand is a vector register: CVTSD2SI EAX, m64.
bool is_conversion(const decode::Instruction& instruction) {
  static const auto table = [] {
    std::bitset<ZYDIS_MNEMONIC_MAX_VALUE + 1> made;
    for (size_t i = 0; i < made.size(); ++i) {
      const std::string_view name = ZydisMnemonicGetString(static_cast<ZydisMnemonic>(i));
      made[i] = name.starts_with("cvt") || name.starts_with("vcvt");
    }
    return made;
  }();
  return table[instruction.mnemonic()];
}

}  // namespace

Availability availability(const decode::Instruction& instruction, const x86::CpuidTable& cpuid) {
  const ZydisISASet set = instruction.raw.meta.isa_set;
  // One set in the decoder, two bits in CPUID.
  if (set == ZYDIS_ISA_SET_MOVDIR) {
    const unsigned bit = instruction.mnemonic() == ZYDIS_MNEMONIC_MOVDIRI ? 27 : 28;
    return has_bit(cpuid, 7, 0, Output::kEcx, bit) ? Availability::kAvailable
                                                   : Availability::kHidden;
  }
  // Processors without MPX have NOPs there (SDM Vol. 1 17.4); no guest is shown MPX.
  if (set == ZYDIS_ISA_SET_MPX) return Availability::kAvailable;
  // The decoder's set is all of CET; RDSSP is a NOP where there is none.
  if (instruction.mnemonic() == ZYDIS_MNEMONIC_RDSSPD ||
      instruction.mnemonic() == ZYDIS_MNEMONIC_RDSSPQ)
    return Availability::kAvailable;
  const auto* found = requirement_of(set);
  if (found == nullptr) return Availability::kForeign;
  if (found->output == Output::kNothing) return Availability::kAvailable;
  if (!has_bit(cpuid, found->leaf, found->subleaf, found->output, found->bit))
    return Availability::kHidden;
  if (found->needs_vl && !has_bit(cpuid, 7, 0, Output::kEbx, kAvx512vl))
    return Availability::kHidden;
  return Availability::kAvailable;
}

bool uses_x87_state(const decode::Instruction& instruction) {
  if (instruction.raw.meta.isa_ext == ZYDIS_ISA_EXT_X87 ||
      instruction.raw.meta.isa_set == ZYDIS_ISA_SET_SSE3X87 ||
      has_operand_of(instruction, ZYDIS_REGCLASS_MMX) ||
      has_operand_of(instruction, ZYDIS_REGCLASS_X87))
    return true;
  // Its memory form enters MMX state too; that of CVTPI2PD does not (SDM Vol. 2A CVTPI2PS).
  return instruction.mnemonic() == ZYDIS_MNEMONIC_CVTPI2PS;
}

X87 x87_use(const decode::Instruction& instruction) {
  const auto& meta = instruction.raw.meta;
  if (meta.isa_ext == ZYDIS_ISA_EXT_BASE ||
      instruction.raw.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
    return X87::kNothing;
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_FNINIT:
    case ZYDIS_MNEMONIC_FNCLEX:
    case ZYDIS_MNEMONIC_FLDCW:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FWAIT:
    case ZYDIS_MNEMONIC_EMMS:
    case ZYDIS_MNEMONIC_FENI8087_NOP:
    case ZYDIS_MNEMONIC_FDISI8087_NOP:
    case ZYDIS_MNEMONIC_FSETPM287_NOP:
      return X87::kUses;
    case ZYDIS_MNEMONIC_FISTTP:  // whatever extension its forms are counted with
      return X87::kIsNoted;
    default:
      break;
  }
  if (meta.isa_ext == ZYDIS_ISA_EXT_X87 || meta.isa_set == ZYDIS_ISA_SET_SSE3X87)
    return X87::kIsNoted;
  return uses_x87_state(instruction) ? X87::kUses : X87::kNothing;
}

Check required_check(const decode::Instruction& instruction) {
  switch (instruction.raw.encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_EVEX:
      return Check::kAvx512;
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
      if (has_operand_of(instruction, ZYDIS_REGCLASS_MASK)) return Check::kAvx512;
      if (has_vector_operand(instruction) || is_conversion(instruction)) return Check::kAvx;
      return Check::kVexGeneral;
    default:
      break;
  }
  if (has_vector_operand(instruction) || is_conversion(instruction)) return Check::kSse;
  if (has_operand_of(instruction, ZYDIS_REGCLASS_MMX)) return Check::kMmx;
  if (uses_x87_state(instruction)) return Check::kX87;
  return Check::kNone;
}

bool uses_mxcsr(const decode::Instruction& instruction) {
  std::string_view name = ZydisMnemonicGetString(instruction.mnemonic());
  if (name.starts_with('v')) name.remove_prefix(1);
  // The decoder calls some of their operands integers.
  if (is_conversion(instruction) || name.starts_with("round")) return true;
  if (!has_vector_operand(instruction) &&
      instruction.raw.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX)
    return false;
  const auto visible = instruction.operands.begin() + instruction.raw.operand_count_visible;
  const bool floating =
      std::any_of(instruction.operands.begin(), visible, [](const ZydisDecodedOperand& operand) {
        return operand.element_type == ZYDIS_ELEMENT_TYPE_FLOAT16 ||
               operand.element_type == ZYDIS_ELEMENT_TYPE_FLOAT32 ||
               operand.element_type == ZYDIS_ELEMENT_TYPE_FLOAT64;
      });
  if (!floating) return false;
  // Those that only move bits, whatever the type of the element is called.
  static constexpr std::string_view kMovers[] = {
      "mov",    "and",     "or",        "xor",    "shuf",     "unpck", "blend", "perm",
      "insert", "extract", "broadcast", "expand", "compress", "test",  "lddqu", "maskmov",
  };
  return std::ranges::none_of(kMovers,
                              [&](std::string_view mover) { return name.starts_with(mover); });
}

}  // namespace limen::soft::interpret::native
