#include "conformance/situation.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string_view>

#include "conformance/aim.h"
#include "conformance/operands.h"
#include "conformance/values.h"

namespace limen::conformance {
namespace {

using soft::decode::CodeMode;

struct Scene {
  const Image& image;
  Random& random;
  Concrete& concrete;
  Trial& trial;
  size_t patches = 0;
  bool usable = true;

  [[nodiscard]] Registers& registers() const { return trial.before; }
  [[nodiscard]] const soft::decode::Instruction& instruction() const {
    return concrete.instruction;
  }
  [[nodiscard]] bool wide() const { return instruction().mode == CodeMode::k64; }

  [[nodiscard]] const ZydisDecodedOperand* operand(ZydisOperandType type) const {
    for (unsigned i = 0; i < instruction().raw.operand_count; ++i)
      if (instruction().operands[i].type == type) return &instruction().operands[i];
    return nullptr;
  }
  [[nodiscard]] const ZydisDecodedOperand* memory() const {
    return operand(ZYDIS_OPERAND_TYPE_MEMORY);
  }
  [[nodiscard]] uint64_t memory_address() const {
    return linear_address(*memory(), concrete, registers());
  }

  /// Puts bytes at a linear address, if all of them are in one writable page.
  void place(uint64_t linear, std::span<const uint8_t> bytes) {
    const auto offset = image_offset(linear, bytes.size());
    if (!offset || patches == trial.patches.size() || bytes.size() > 64) return;
    Patch& patch = trial.patches[patches++];
    patch.offset = *offset;
    patch.size = static_cast<uint16_t>(bytes.size());
    std::ranges::copy(bytes, patch.bytes.begin());
  }
  template <typename T>
  void place_value(uint64_t linear, T value) {
    std::array<uint8_t, sizeof value> bytes;
    std::memcpy(bytes.data(), &value, sizeof value);
    place(linear, bytes);
  }
  /// Gives the operand, in a register or in memory, the low bytes of a value.
  void give(const ZydisDecodedOperand& target, uint64_t value) {
    if (target.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      const NamedRegister reg = named(target.reg.value);
      if (reg.general) set(registers(), reg, value);
    } else if (target.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      std::array<uint8_t, 8> bytes;
      std::memcpy(bytes.data(), &value, 8);
      place(linear_address(target, concrete, registers()),
            std::span(bytes).first(std::clamp<size_t>(target.size / 8u, 1, 8)));
    }
  }
};

uint16_t random_selector(Random& random) {
  // The flat segments of the operating system with several RPLs, the TSS, the LDT's, none.
  static constexpr std::array<uint16_t, 14> kSelectors = {0x2B, 0x2B, 0x2B, 0x33, 0x33, 0x23, 0x23,
                                                          0x2A, 0x28, 0x00, 0x03, 0x10, 0x40, 0x07};
  return random.percent(90) ? kSelectors[random.below(kSelectors.size())]
                            : static_cast<uint16_t>(random.next() | 0x80);
}

uint64_t random_target(Random& random, bool wide) {
  switch (random.below(8)) {
    case 0:
      return wide ? random.next() : random.next() & 0xFFFFFFFF;
    case 1:
      return wide ? 0xFFFF'FFFF'8000'0000 + random.below(kPage) : 0x1500'0000;
    case 2:
      return 0x1500'0000 + random.below(0x100'0000);
    case 3:
      return kDataAddress + random.below(kPage);
    default:
      return kCodeAddress + random.below(kPage);
  }
}

void arrange_selector(Scene& scene) {
  for (unsigned i = 0; i < 2; ++i) {
    const auto& operand = scene.instruction().operands[i];
    if (i >= scene.instruction().raw.operand_count_visible) break;
    if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER &&
        (operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) == 0)
      continue;
    scene.give(operand, random_selector(scene.random) | (scene.random.next() & ~uint64_t{0xFFFF}));
  }
}

void arrange_pop_segment(Scene& scene) {
  scene.place_value<uint64_t>(scene.registers().gpr[x86::kRsp], random_selector(scene.random));
}

void arrange_far_pointer(Scene& scene) {
  if (scene.memory() == nullptr) return;
  const unsigned width = scene.instruction().raw.operand_width / 8u;
  std::array<uint8_t, 10> bytes{};
  const uint64_t offset = random_target(scene.random, scene.wide());
  std::memcpy(bytes.data(), &offset, 8);
  const uint16_t selector = random_selector(scene.random);
  std::memcpy(bytes.data() + std::min(width, 8u), &selector, 2);
  scene.place(scene.memory_address(), std::span(bytes).first(std::min(width, 8u) + 2));
}

// The stack of a far return or an interrupt return: offset, selector, flags, stack pointer,
// selector.
void arrange_frame(Scene& scene, bool interrupt) {
  const unsigned width = std::clamp(scene.instruction().raw.operand_width / 8u, 2u, 8u);
  Random& random = scene.random;
  const std::array<uint64_t, 5> slots =
      interrupt
          ? std::array<uint64_t, 5>{random_target(random, scene.wide()), random_selector(random),
                                    random.next() & (random.percent(50) ? 0x240FD5 : ~0ull),
                                    kDataAddress + random.below(kPage), random_selector(random)}
          : std::array<uint64_t, 5>{random_target(random, scene.wide()), random_selector(random),
                                    kDataAddress + random.below(kPage), random_selector(random),
                                    random.next()};
  std::array<uint8_t, 40> bytes{};
  for (size_t i = 0; i < slots.size(); ++i) std::memcpy(&bytes[i * width], &slots[i], width);
  scene.place(scene.registers().gpr[x86::kRsp], std::span(bytes).first(5 * width));
}

void arrange_near_transfer(Scene& scene) {
  const auto& operand = scene.instruction().operands[0];
  const uint64_t target = random_target(scene.random, scene.wide());
  if (scene.instruction().mnemonic() == ZYDIS_MNEMONIC_RET)
    scene.place_value(scene.registers().gpr[x86::kRsp], target);
  else if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER || operand.type == ZYDIS_OPERAND_TYPE_MEMORY)
    scene.give(operand, target);
}

void arrange_division(Scene& scene, bool is_signed) {
  Registers& registers = scene.registers();
  const unsigned width = scene.instruction().raw.operand_width;
  if (scene.random.percent(20)) return;
  if (width == 8) {
    const auto low = static_cast<int8_t>(registers.gpr[x86::kRax]);
    const uint64_t high = is_signed ? static_cast<uint64_t>(low < 0 ? -1 : 0) : 0;
    registers.gpr[x86::kRax] = (registers.gpr[x86::kRax] & ~uint64_t{0xFF00}) | (high & 0xFF) << 8;
    return;
  }
  const bool negative = registers.gpr[x86::kRax] >> (width - 1) & 1;
  registers.gpr[x86::kRdx] = is_signed && negative ? ~uint64_t{0} : 0;
  if (scene.random.percent(40)) registers.gpr[x86::kRdx] ^= scene.random.below(64);
}

// Makes the comparison succeed half of the time.
void arrange_compare_exchange(Scene& scene) {
  if (scene.random.percent(50)) return;
  Registers& registers = scene.registers();
  const auto& target = scene.instruction().operands[0];
  if (target.type == ZYDIS_OPERAND_TYPE_REGISTER) {
    const NamedRegister reg = named(target.reg.value);
    set(registers, {true, x86::kRax, reg.bytes, false}, get(registers, reg));
    return;
  }
  const unsigned size = target.size / 8u;
  const auto offset = image_offset(scene.memory_address(), size);
  if (!offset || size == 0) return;
  std::array<uint64_t, 2> value{};
  std::memcpy(value.data(), scene.image.data() + *offset, std::min<size_t>(size, 16));
  if (scene.instruction().mnemonic() == ZYDIS_MNEMONIC_CMPXCHG8B) {
    registers.gpr[x86::kRax] = value[0] & 0xFFFFFFFF;
    registers.gpr[x86::kRdx] = value[0] >> 32;
  } else {
    const auto bytes = static_cast<uint8_t>(std::min(size, 8u));
    // RAX may well be a part of the address, which then moves elsewhere: no harm.
    set(registers, {true, x86::kRax, bytes, false}, value[0]);
    if (size == 16) registers.gpr[x86::kRdx] = value[1];
  }
}

void arrange_bit_string(Scene& scene) {
  const auto& offset = scene.instruction().operands[1];
  if (scene.memory() == nullptr || offset.type != ZYDIS_OPERAND_TYPE_REGISTER) return;
  // Locked, the bit stays in the operand at hand: no locked access across cache lines.
  const int64_t reach = scene.instruction().has(ZYDIS_ATTRIB_HAS_LOCK) ? 0
                        : scene.random.percent(85)                     ? 3000
                                                                       : 30000;
  const NamedRegister reg = named(offset.reg.value);
  const auto& memory = scene.memory()->mem;
  if (named(memory.base).number == reg.number || named(memory.index).number == reg.number) {
    // It cannot be both an address and an offset near by: where the access goes, nobody knows.
    scene.usable = !scene.instruction().has(ZYDIS_ATTRIB_HAS_LOCK);
    return;
  }
  set(scene.registers(), reg, static_cast<uint64_t>(scene.random.between(-reach, reach)));
}

void arrange_count(Scene& scene) {
  uint64_t& rcx = scene.registers().gpr[x86::kRcx];
  const uint64_t count = scene.random.percent(15) ? 0 : scene.random.below(48);
  switch (scene.instruction().raw.address_width) {
    case 16:
      rcx = (rcx & ~uint64_t{0xFFFF}) | count;
      break;
    case 32:
      rcx = (rcx & ~uint64_t{0xFFFFFFFF}) | count;
      break;
    default:
      rcx = count;
  }
}

void arrange_enter(Scene& scene) {
  if (scene.random.percent(20)) return;
  const auto& raw = scene.instruction().raw.raw;
  scene.concrete.bytes.data[raw.imm[0].offset + 1u] &= 1;
  scene.concrete.bytes.data[raw.imm[1].offset] &= static_cast<uint8_t>(scene.random.next() & 0x1F);
  decode(scene.instruction().mode, {scene.concrete.bytes.data.data(), scene.concrete.bytes.size},
         scene.concrete.instruction);
}

void arrange_interrupt(Scene& scene) {
  uint8_t& vector = scene.concrete.bytes.data[scene.instruction().raw.raw.imm[0].offset];
  if (scene.random.percent(20)) vector = static_cast<uint8_t>(scene.random.below(32));
  // The one gate that the operating system opens to programs.
  if (vector == 0x80) vector = 0x81;
}

void arrange_vector_addresses(Scene& scene, const ZydisDecodedOperand& operand) {
  const auto& memory = operand.mem;
  auto& zmm = scene.registers().vector.zmm[static_cast<size_t>(ZydisRegisterGetId(memory.index))];
  const auto mnemonic = scene.instruction().mnemonic();
  // VPGATHERQD and VGATHERQPS: the letter before the element's says how wide the addresses are.
  const std::string_view name = ZydisMnemonicGetString(mnemonic);
  const size_t letter = name.size() - (name.starts_with("vp") ? 2 : 3);
  const bool quadwords = name[letter] == 'q';
  const unsigned lane = quadwords ? 8 : 4;
  const int64_t reach = scene.random.percent(70) ? 2000 : 6000;
  for (size_t i = 0; i < zmm.size(); i += lane) {
    const int64_t offset = scene.random.between(-reach, reach) / std::max<int>(memory.scale, 1);
    std::memcpy(zmm.data() + i, &offset, lane);
  }
}

// A legal legacy region and header, so that the instruction gets past its checks.
void arrange_restore(Scene& scene) {
  if (scene.memory() == nullptr || scene.random.percent(15)) return;
  const uint64_t address = scene.memory_address();
  std::array<uint8_t, 160> legacy{};
  fill_x87(scene.random, false, legacy);
  const uint32_t mxcsr = random_mxcsr(scene.random, scene.random.percent(20));
  std::memcpy(legacy.data() + 24, &mxcsr, 4);
  scene.place(address, std::span(legacy).first(32));
  if (scene.instruction().mnemonic() != ZYDIS_MNEMONIC_XRSTOR &&
      scene.instruction().mnemonic() != ZYDIS_MNEMONIC_XRSTOR64)
    return;
  std::array<uint8_t, 64> header{};
  const uint64_t present = scene.random.next() & 0xE7;
  std::memcpy(header.data(), &present, 8);
  if (scene.random.percent(40)) {
    const uint64_t compact = present | uint64_t{1} << 63 | (scene.random.next() & 0xE7);
    std::memcpy(header.data() + 8, &compact, 8);
  }
  scene.place(address + 512, header);
}

// State components that a trial can see.
void arrange_components(Scene& scene) {
  scene.registers().gpr[x86::kRax] &= ~uint64_t{0xFFFFFF18};
  scene.registers().gpr[x86::kRdx] &= ~uint64_t{0xFFFFFFFF};
}

void arrange_mxcsr(Scene& scene) {
  if (scene.random.percent(15)) return;
  scene.place_value(scene.memory_address(), random_mxcsr(scene.random, scene.random.percent(30)));
}

void arrange_direct_store(Scene& scene) {
  const auto& operand = scene.instruction().operands[0];
  if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER) return;
  set(scene.registers(), named(operand.reg.value),
      choose_address(scene.random, 64, scene.wide(), false));
}

void arrange_extended_operand(Scene& scene) {
  const auto* memory = scene.memory();
  if (memory == nullptr || memory->element_type != ZYDIS_ELEMENT_TYPE_FLOAT80) return;
  std::array<uint8_t, 16> bytes{};
  fill(scene.random, Flavour::kExtended, bytes);
  scene.place(scene.memory_address(), std::span(bytes).first(10));
}

bool writes_segment(const soft::decode::Instruction& instruction) {
  const auto& operand = instruction.operands[0];
  return instruction.raw.operand_count > 0 && operand.type == ZYDIS_OPERAND_TYPE_REGISTER &&
         ZydisRegisterGetClass(operand.reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

void arrange_by_name(Scene& scene) {
  switch (scene.instruction().mnemonic()) {
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
      return arrange_selector(scene);
    case ZYDIS_MNEMONIC_MOV:
      if (writes_segment(scene.instruction())) arrange_selector(scene);
      return;
    case ZYDIS_MNEMONIC_POP:
      if (writes_segment(scene.instruction())) arrange_pop_segment(scene);
      return;
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
      return arrange_far_pointer(scene);
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_CALL:
      if (scene.instruction().raw.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return arrange_far_pointer(scene);
      return arrange_near_transfer(scene);
    case ZYDIS_MNEMONIC_RET:
      if (scene.instruction().raw.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return arrange_frame(scene, false);
      return arrange_near_transfer(scene);
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
      return arrange_frame(scene, true);
    case ZYDIS_MNEMONIC_INT:
      return arrange_interrupt(scene);
    case ZYDIS_MNEMONIC_DIV:
      return arrange_division(scene, false);
    case ZYDIS_MNEMONIC_IDIV:
      return arrange_division(scene, true);
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
      return arrange_compare_exchange(scene);
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
      return arrange_bit_string(scene);
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
      if (scene.random.percent(60)) scene.registers().gpr[x86::kRcx] = scene.random.below(3);
      return;
    case ZYDIS_MNEMONIC_ENTER:
      return arrange_enter(scene);
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
      if (scene.random.percent(70))
        scene.give(scene.instruction().operands[0], scene.random.next() >> 17);
      return;
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
      return arrange_mxcsr(scene);
    case ZYDIS_MNEMONIC_MOVDIR64B:
      return arrange_direct_store(scene);
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
      return arrange_restore(scene);
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
      arrange_components(scene);
      return arrange_restore(scene);
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
      return arrange_components(scene);
    default:
      return arrange_extended_operand(scene);
  }
}

}  // namespace

bool arrange(const Form&, const Image& image, Random& random, Concrete& concrete, Trial& trial) {
  Scene scene{image, random, concrete, trial};
  if (scene.instruction().has(ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
                              ZYDIS_ATTRIB_HAS_REPNE))
    arrange_count(scene);
  for (unsigned i = 0; i < scene.instruction().raw.operand_count; ++i) {
    const auto& operand = scene.instruction().operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY && operand.mem.type == ZYDIS_MEMOP_TYPE_VSIB)
      arrange_vector_addresses(scene, operand);
  }
  arrange_by_name(scene);
  return scene.usable;
}

}  // namespace limen::conformance
