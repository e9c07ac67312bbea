#include "conformance/form.h"

#include <fmt/format.h>

#include <span>
#include <unordered_map>

namespace limen::conformance {
namespace {

using soft::decode::CodeMode;
using soft::decode::Instruction;
using soft::decode::Outcome;

constexpr ZydisInstructionAttributes kFormAttributes =
    ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;

constexpr size_t kEncodingsPerForm = 8;

class Collector {
 public:
  explicit Collector(std::vector<Form>& forms) : forms_(forms) {}

  /// True if the encoding is an instruction of the scheme it was written in.
  bool visit(const Encoding& encoding) {
    const Bytes bytes = emit(encoding);
    const std::span<const uint8_t> view(bytes.data.data(), soft::decode::kMaxInstructionLength);
    if (decode(encoding.mode, view, instruction_) != Outcome::kOk) return false;
    if (instruction_.raw.encoding != expected(encoding.scheme)) return false;
    const uint64_t key = form_key(instruction_);
    const auto [entry, fresh] = index_.try_emplace(key, forms_.size());
    if (fresh)
      forms_.push_back({.key = key,
                        .mnemonic = instruction_.mnemonic(),
                        .name = form_name(instruction_),
                        .encodings = {}});
    auto& encodings = forms_[entry->second].encodings;
    if (encodings.empty() ||
        (encodings.size() < kEncodingsPerForm && differs(encodings.back(), encoding)))
      encodings.push_back(encoding);
    return true;
  }

 private:
  static bool differs(const Encoding& a, const Encoding& b) {
    return a.reg != b.reg || a.length != b.length || a.opcode != b.opcode || a.w != b.w;
  }
  static ZydisInstructionEncoding expected(Scheme scheme) {
    switch (scheme) {
      case Scheme::kLegacy:
        return ZYDIS_INSTRUCTION_ENCODING_LEGACY;
      case Scheme::k3dNow:
        return ZYDIS_INSTRUCTION_ENCODING_3DNOW;
      case Scheme::kVex:
        return ZYDIS_INSTRUCTION_ENCODING_VEX;
      case Scheme::kEvex:
        return ZYDIS_INSTRUCTION_ENCODING_EVEX;
      case Scheme::kXop:
        return ZYDIS_INSTRUCTION_ENCODING_XOP;
    }
    return ZYDIS_INSTRUCTION_ENCODING_LEGACY;
  }

  std::vector<Form>& forms_;
  std::unordered_map<uint64_t, size_t> index_;
  Instruction instruction_{};
};

bool is_prefix_or_escape(CodeMode mode, uint8_t map, unsigned opcode) {
  if (map == 1) return opcode == 0x38 || opcode == 0x3A || opcode == 0x0F;
  if (map != 0) return false;
  switch (opcode) {
    case 0x0F:
    case 0x26:
    case 0x2E:
    case 0x36:
    case 0x3E:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xF0:
    case 0xF2:
    case 0xF3:
      return true;
    default:
      return mode == CodeMode::k64 && (opcode & 0xF0) == 0x40;
  }
}

// Opcodes in which ModRM.rm of a register form is part of the opcode.
bool rm_selects(const Encoding& e) {
  if (e.scheme != Scheme::kLegacy) return true;
  if (e.map == 0) return (e.opcode & 0xF8) == 0xD8 || e.opcode == 0xC6 || e.opcode == 0xC7;
  return e.map == 1 && (e.opcode == 0x01 || e.opcode == 0xAE || e.opcode == 0xC7 ||
                        e.opcode == 0x1E || e.opcode == 0xA6 || e.opcode == 0xA7);
}

void visit_operands(Encoding e, unsigned registers, bool vector_addresses, Collector& collector) {
  for (uint8_t reg = 0; reg < registers; ++reg) {
    e.reg = reg;
    e.mod = 3;
    e.sib = false;
    const uint8_t last_rm = rm_selects(e) ? 7 : 0;
    for (uint8_t rm = 0; rm <= last_rm; ++rm) {
      e.rm = rm;
      collector.visit(e);
    }
    e.mod = 0;
    e.rm = 3;
    collector.visit(e);
    if (!vector_addresses) continue;
    e.sib = true;
    e.index = 6;
    collector.visit(e);
  }
}

void walk_legacy(const Section& section, Collector& collector) {
  const bool wide = section.mode == CodeMode::k64;
  for (unsigned bits = 0; bits < (wide ? 32u : 16u); ++bits)
    for (unsigned repeat = 0; repeat < 3; ++repeat)
      for (unsigned opcode = 0; opcode < 256; ++opcode) {
        if (is_prefix_or_escape(section.mode, section.map, opcode)) continue;
        const bool lock = bits & 1;
        if (lock && repeat != 0) continue;
        visit_operands({.mode = section.mode,
                        .operand_size = (bits & 2) != 0,
                        .address_size = (bits & 4) != 0,
                        .lock = lock,
                        .repne = repeat == 1,
                        .rep = repeat == 2,
                        .rex = wide && (bits & 8) != 0,
                        .map = section.map,
                        .opcode = static_cast<uint8_t>(opcode),
                        .w = (bits & 16) != 0},
                       8, false, collector);
      }
}

void walk_3dnow(const Section& section, Collector& collector) {
  for (unsigned opcode = 0; opcode < 256; ++opcode)
    visit_operands(
        {.mode = section.mode, .scheme = Scheme::k3dNow, .opcode = static_cast<uint8_t>(opcode)}, 1,
        false, collector);
}

void walk_vex(const Section& section, Collector& collector) {
  for (unsigned bits = 0; bits < 32; ++bits)
    for (unsigned opcode = 0; opcode < 256; ++opcode)
      visit_operands({.mode = section.mode,
                      .scheme = section.scheme,
                      .map = section.map,
                      .opcode = static_cast<uint8_t>(opcode),
                      .pp = static_cast<uint8_t>(bits & 3),
                      .w = (bits & 4) != 0,
                      .length = static_cast<uint8_t>(bits >> 3 & 1),
                      .vvvv = static_cast<uint8_t>(bits & 16 ? 5 : 0)},
                     8, section.map == 2, collector);
}

bool evex_reg_selects(uint8_t map, unsigned opcode) {
  return (map == 1 && opcode >= 0x71 && opcode <= 0x73) ||
         (map == 2 && (opcode == 0xC6 || opcode == 0xC7));
}

void walk_evex(const Section& section, Collector& collector) {
  for (unsigned bits = 0; bits < 512; ++bits)
    for (unsigned opcode = 0; opcode < 256; ++opcode)
      visit_operands({.mode = section.mode,
                      .scheme = Scheme::kEvex,
                      .map = section.map,
                      .opcode = static_cast<uint8_t>(opcode),
                      .pp = static_cast<uint8_t>(bits & 3),
                      .w = (bits & 4) != 0,
                      .length = static_cast<uint8_t>(bits >> 3 & 3),
                      .broadcast = (bits & 32) != 0,
                      .zeroing = (bits & 64) != 0,
                      .opmask = static_cast<uint8_t>(bits & 128 ? 1 : 0),
                      .vvvv = static_cast<uint8_t>(bits & 256 ? 5 : 0)},
                     evex_reg_selects(section.map, opcode) ? 8 : 1, section.map == 2, collector);
}

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9FB21C651E98DF25;
  return hash ^ (hash >> 35);
}

std::string operand_name(const ZydisDecodedOperand& operand) {
  switch (operand.type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
      switch (ZydisRegisterGetClass(operand.reg.value)) {
        case ZYDIS_REGCLASS_GPR8:
          return "r8";
        case ZYDIS_REGCLASS_GPR16:
          return "r16";
        case ZYDIS_REGCLASS_GPR32:
          return "r32";
        case ZYDIS_REGCLASS_GPR64:
          return "r64";
        case ZYDIS_REGCLASS_X87:
          return "st";
        case ZYDIS_REGCLASS_MMX:
          return "mm";
        case ZYDIS_REGCLASS_XMM:
          return "xmm";
        case ZYDIS_REGCLASS_YMM:
          return "ymm";
        case ZYDIS_REGCLASS_ZMM:
          return "zmm";
        case ZYDIS_REGCLASS_TMM:
          return "tmm";
        case ZYDIS_REGCLASS_SEGMENT:
          return "sreg";
        case ZYDIS_REGCLASS_CONTROL:
          return "cr";
        case ZYDIS_REGCLASS_DEBUG:
          return "dr";
        case ZYDIS_REGCLASS_MASK:
          return "k";
        case ZYDIS_REGCLASS_BOUND:
          return "bnd";
        default:
          return "reg";
      }
    case ZYDIS_OPERAND_TYPE_MEMORY:
      return operand.mem.type == ZYDIS_MEMOP_TYPE_VSIB
                 ? fmt::format("v{}m{}",
                               ZydisRegisterGetClass(operand.mem.index) == ZYDIS_REGCLASS_XMM ? "x"
                               : ZydisRegisterGetClass(operand.mem.index) == ZYDIS_REGCLASS_YMM
                                   ? "y"
                                   : "z",
                               operand.size)
                 : fmt::format("m{}", operand.size);
    case ZYDIS_OPERAND_TYPE_POINTER:
      return "far";
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
      return fmt::format("{}{}", operand.imm.is_relative ? "rel" : "imm", operand.size);
    default:
      return "?";
  }
}

}  // namespace

const std::vector<Section>& sections() {
  using enum Scheme;
  static const std::vector<Section> all = {
      {"Legacy", CodeMode::k64, kLegacy, 0},
      {"Legacy0F", CodeMode::k64, kLegacy, 1},
      {"Legacy0F38", CodeMode::k64, kLegacy, 2},
      {"Legacy0F3A", CodeMode::k64, kLegacy, 3},
      {"Amd3dNow", CodeMode::k64, k3dNow, 0},
      {"Vex0F", CodeMode::k64, kVex, 1},
      {"Vex0F38", CodeMode::k64, kVex, 2},
      {"Vex0F3A", CodeMode::k64, kVex, 3},
      {"Evex0F", CodeMode::k64, kEvex, 1},
      {"Evex0F38", CodeMode::k64, kEvex, 2},
      {"Evex0F3A", CodeMode::k64, kEvex, 3},
      {"EvexMap5", CodeMode::k64, kEvex, 5},
      {"EvexMap6", CodeMode::k64, kEvex, 6},
      {"XopMap8", CodeMode::k64, kXop, 8},
      {"XopMap9", CodeMode::k64, kXop, 9},
      {"XopMapA", CodeMode::k64, kXop, 10},
      {"Compatibility", CodeMode::k32, kLegacy, 0},
      {"Compatibility0F", CodeMode::k32, kLegacy, 1},
      {"Compatibility0F38", CodeMode::k32, kLegacy, 2},
      {"Compatibility0F3A", CodeMode::k32, kLegacy, 3},
      {"CompatibilityVex0F", CodeMode::k32, kVex, 1},
      {"CompatibilityVex0F38", CodeMode::k32, kVex, 2},
      {"CompatibilityVex0F3A", CodeMode::k32, kVex, 3},
  };
  return all;
}

std::vector<Form> enumerate_forms(const Section& section) {
  std::vector<Form> forms;
  Collector collector(forms);
  switch (section.scheme) {
    case Scheme::kLegacy:
      walk_legacy(section, collector);
      break;
    case Scheme::k3dNow:
      walk_3dnow(section, collector);
      break;
    case Scheme::kVex:
    case Scheme::kXop:
      walk_vex(section, collector);
      break;
    case Scheme::kEvex:
      walk_evex(section, collector);
      break;
  }
  return forms;
}

uint64_t form_key(const Instruction& instruction) {
  const auto& raw = instruction.raw;
  uint64_t hash = mix(0, static_cast<uint64_t>(raw.mnemonic) << 32 |
                             static_cast<uint64_t>(raw.machine_mode) << 24 |
                             static_cast<uint64_t>(raw.encoding) << 16 |
                             static_cast<uint64_t>(raw.opcode_map) << 8 | raw.opcode);
  hash = mix(hash, raw.attributes & kFormAttributes);
  hash = mix(hash, static_cast<uint64_t>(raw.operand_width) << 32 |
                       static_cast<uint64_t>(raw.avx.vector_length) << 16 |
                       static_cast<uint64_t>(raw.avx.mask.mode) << 8 |
                       (raw.avx.broadcast.mode != 0 && !raw.avx.broadcast.is_static ? 4u : 0) |
                       (raw.avx.rounding.mode != 0 ? 2u : 0) | (raw.avx.has_sae ? 1u : 0));
  bool memory = false;
  for (unsigned i = 0; i < raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    const bool is_memory = operand.type == ZYDIS_OPERAND_TYPE_MEMORY;
    memory |= is_memory;
    uint64_t kind = 0;
    if (is_memory) kind = operand.mem.type;
    if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER)
      kind = static_cast<uint64_t>(ZydisRegisterGetClass(operand.reg.value)) + 16;
    hash = mix(hash, static_cast<uint64_t>(operand.type) << 56 |
                         static_cast<uint64_t>(operand.visibility) << 48 |
                         static_cast<uint64_t>(operand.actions) << 40 |
                         static_cast<uint64_t>(operand.encoding) << 32 |
                         static_cast<uint64_t>(operand.size) << 16 |
                         static_cast<uint64_t>(operand.element_type) << 8 | kind);
  }
  // The address size makes a form of its own where the interpreter could mistake it; with VEX and
  // EVEX it is something that trials vary.
  if (memory && raw.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
    hash = mix(hash, raw.address_width);
  return hash;
}

std::string form_name(const Instruction& instruction) {
  const auto& raw = instruction.raw;
  std::string name;
  if (instruction.has(ZYDIS_ATTRIB_HAS_LOCK)) name += "lock ";
  if (instruction.has(ZYDIS_ATTRIB_HAS_REP)) name += "rep ";
  if (instruction.has(ZYDIS_ATTRIB_HAS_REPE)) name += "repe ";
  if (instruction.has(ZYDIS_ATTRIB_HAS_REPNE)) name += "repne ";
  name += ZydisMnemonicGetString(raw.mnemonic);
  for (unsigned i = 0; i < raw.operand_count_visible; ++i) {
    name += i == 0 ? " " : ", ";
    name += operand_name(instruction.operands[i]);
    if (i == 0 && raw.avx.mask.mode > ZYDIS_MASK_MODE_DISABLED)
      name += raw.avx.mask.mode == ZYDIS_MASK_MODE_ZEROING ? " {k}{z}" : " {k}";
  }
  if (raw.avx.broadcast.mode != 0 && !raw.avx.broadcast.is_static) name += " {bcst}";
  if (raw.avx.rounding.mode != 0)
    name += " {er}";
  else if (raw.avx.has_sae)
    name += " {sae}";
  static constexpr const char* kEncodings[] = {"", "3dnow ", "xop ", "vex ", "evex ", "mvex "};
  static constexpr const char* kMaps[] = {"",      "0f ",   "0f38 ", "0f3a ", "map4 ", "map5 ",
                                          "map6 ", "map7 ", "0f0f ", "8 ",    "9 ",    "a "};
  name += fmt::format(" [{}{}{:02x}", kEncodings[raw.encoding], kMaps[raw.opcode_map], raw.opcode);
  name += fmt::format(", o{} a{}]", raw.operand_width, raw.address_width);
  return name;
}

}  // namespace limen::conformance
