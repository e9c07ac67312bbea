#include "conformance/trial_maker.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "conformance/aim.h"
#include "conformance/operands.h"
#include "conformance/situation.h"
#include "conformance/values.h"
#include "conformance/vary.h"

namespace limen::conformance {
namespace {

using soft::decode::CodeMode;
using soft::decode::Instruction;

Flavour flavour_of(const Instruction& instruction) {
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    switch (instruction.operands[i].element_type) {
      case ZYDIS_ELEMENT_TYPE_FLOAT16:
        return Flavour::kHalf;
      case ZYDIS_ELEMENT_TYPE_FLOAT32:
        return Flavour::kSingle;
      case ZYDIS_ELEMENT_TYPE_FLOAT64:
        return Flavour::kDouble;
      case ZYDIS_ELEMENT_TYPE_FLOAT80:
        return Flavour::kExtended;
      default:
        break;
    }
  }
  return Flavour::kBits;
}

// Control transfers run under the trap flag: what is at their target must not matter.
bool transfers_control(const Instruction& instruction) {
  switch (instruction.raw.meta.category) {
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSRET:
      return true;
    default:
      return false;
  }
}

// A trap that is pending when a gather faults half-way is taken in the fault's place (SDM Vol. 2C
// VGATHERDPS), which a debugger alone would notice.
bool has_vector_addresses(const Instruction& instruction) {
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i)
    if (instruction.operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
        instruction.operands[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
      return true;
  return false;
}

// #AC or #GP for an area that is not aligned: either is right (SDM Vol. 2B XRSTOR, FXSAVE).
bool may_raise_either(const Instruction& instruction) {
  return instruction.raw.meta.category == ZYDIS_CATEGORY_XSAVE ||
         instruction.raw.meta.isa_set == ZYDIS_ISA_SET_FXSAVE ||
         instruction.raw.meta.isa_set == ZYDIS_ISA_SET_FXSAVE64;
}

// Past the end of a segment of 4 GiB there may be a fault or the segment's start (SDM Vol. 3A 5.3).
bool crosses_limit(const Concrete& concrete, const Registers& registers) {
  if (concrete.instruction.mode == CodeMode::k64) return false;
  for (unsigned i = 0; i < concrete.instruction.raw.operand_count; ++i) {
    const auto& operand = concrete.instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    const uint64_t size = std::max<uint64_t>(operand.size / 8u, 1);
    const auto start = static_cast<uint32_t>(linear_address(operand, concrete, registers));
    if (start + size > uint64_t{1} << 32) return true;
  }
  return false;
}

bool locks_bus(const Instruction& instruction) {
  // XCHG does without being told (SDM Vol. 3A 8.1.2.1).
  return instruction.has(ZYDIS_ATTRIB_HAS_LOCK) || instruction.mnemonic() == ZYDIS_MNEMONIC_XCHG;
}

// Locked accesses across cache lines stop the whole machine, or the program that does it.
bool locks_two_lines(const Concrete& concrete, const Registers& registers) {
  if (!locks_bus(concrete.instruction)) return false;
  for (unsigned i = 0; i < concrete.instruction.raw.operand_count; ++i) {
    const auto& operand = concrete.instruction.operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY &&
        linear_address(operand, concrete, registers) % 64 + operand.size / 8u > 64)
      return true;
  }
  return false;
}

uint64_t choose_rip(Random& random, unsigned length) {
  const uint64_t end = kCodeAddress + kPage;
  switch (random.below(24)) {
    case 0:
      return end - length;
    case 1:
      return end - 1 - random.below(length);
    default:
      return kCodeAddress + 0x100 + random.below(0xD00);
  }
}

uint64_t choose_flags(Random& random, bool single_step) {
  using namespace x86::rflags;
  uint64_t flags = kAlwaysSet | kInterrupt | (random.next() & (kArithmetic | kDirection));
  if (random.percent(3)) flags |= kAlignmentCheck;
  if (random.percent(5)) flags |= kIdentification;
  if (random.percent(2)) flags |= kNestedTask;
  if (random.percent(5)) flags |= kResume;
  if (single_step) flags |= kTrap;
  return flags;
}

void make_registers(Random& random, const Instruction& instruction, bool single_step,
                    Registers& registers) {
  for (auto& reg : registers.gpr) reg = random_integer(random);
  registers.gpr[x86::kRsp] = kDataAddress + 0x800 + (random.below(0x800) & ~uint64_t{7});
  if (random.percent(50)) registers.gpr[x86::kRbp] = kDataAddress + 0x600 + random.below(0x200);
  registers.rflags = choose_flags(random, single_step);
  const bool wide = instruction.mode == CodeMode::k64;
  const uint16_t data = 0x2B;
  registers.selectors = {data, static_cast<uint16_t>(wide ? 0x33 : 0x23), data, data, 0, 0};
  if (wide) {
    registers.fs_base = random.next() & 0x7FFF'FFFF'FFFF;
    registers.gs_base = random.next() & 0x7FFF'FFFF'FFFF;
  } else {
    if (random.percent(80)) registers.selectors[x86::kFs] = data;
    if (random.percent(80)) registers.selectors[x86::kGs] = data;
    registers.fs_base = registers.gs_base = 0;
  }
  fill_vectors(random, flavour_of(instruction), random.percent(12), registers.vector);
}

void aim_operands(Random& random, Concrete& concrete, Registers& registers) {
  const bool wide = concrete.instruction.mode == CodeMode::k64;
  for (unsigned i = 0; i < concrete.instruction.raw.operand_count; ++i) {
    const auto operand = concrete.instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    if (operand.mem.type == ZYDIS_MEMOP_TYPE_AGEN && random.percent(50)) continue;
    // Byte masks may or may not keep a page fault away (SDM Vol. 2B MASKMOVQ): no page's end.
    const bool masked =
        std::string_view(ZydisMnemonicGetString(concrete.instruction.mnemonic())).find("askmov") !=
            std::string_view::npos &&
        concrete.instruction.raw.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX;
    const bool careful = locks_bus(concrete.instruction) || masked;
    aim(operand, choose_address(random, operand.size / 8u, wide, careful), random, concrete,
        registers);
  }
}

}  // namespace

void make_image(const Form& form, Random& random, Image& image) {
  Concrete concrete;
  vary(form, random, concrete);
  const Flavour flavour = flavour_of(concrete.instruction);
  for (size_t i = 0; i < image.size(); i += 64)
    fill(random, random.percent(75) ? flavour : static_cast<Flavour>(random.below(2)),
         std::span(image).subspan(i, 64));
}

void make_trial(const Form& form, const Image& image, Random& random, Trial& trial) {
  Concrete concrete;
  bool usable = false;
  while (!usable) {
    vary(form, random, concrete);
    const bool single_step = transfers_control(concrete.instruction) ||
                             (random.percent(50) && !has_vector_addresses(concrete.instruction));
    trial.patches = {};
    make_registers(random, concrete.instruction, single_step, trial.before);
    trial.before.rip = choose_rip(random, concrete.instruction.length());
    aim_operands(random, concrete, trial.before);
    if (may_raise_either(concrete.instruction))
      trial.before.rflags &= ~x86::rflags::kAlignmentCheck;
    usable = arrange(form, image, random, concrete, trial) &&
             !crosses_limit(concrete, trial.before) && !locks_two_lines(concrete, trial.before);
  }
  // Upper halves are not defined outside of 64-bit mode (SDM Vol. 1 3.4.1.1).
  if (concrete.instruction.mode != CodeMode::k64)
    for (auto& reg : trial.before.gpr) reg &= 0xFFFFFFFF;
  trial.code_size = static_cast<uint16_t>(concrete.bytes.size);
  std::copy_n(concrete.bytes.data.begin(), concrete.bytes.size, trial.code.begin());
}

}  // namespace limen::conformance
