// Gathers and scatters: one access per active element, lowest first; an element that faults leaves
// those before it done and their mask bits cleared. No alignment checks (SDM Vol. 2C VGATHERDPS,
// VPGATHERDD, VPSCATTERDD).
#include <algorithm>
#include <bit>
#include <span>
#include <string_view>

#include "soft/interpret/native/checks.h"
#include "soft/interpret/native/special.h"
#include "soft/interpret/operand.h"
#include "soft/interpret/select.h"

namespace limen::soft::interpret::native {
namespace {

/// What the handlers need beyond the address; travels in Operation::immediate.
struct Form {
  uint8_t data = 0;  ///< Destination of a gather, source of a scatter.
  uint8_t index = 0;
  uint8_t mask = 0;  ///< A vector register (VEX) or an opmask register (EVEX).
  uint8_t lanes = 0;
  uint8_t data_size = 0;     ///< Bytes: 4 or 8.
  uint8_t index_size = 0;    ///< Bytes: 4 or 8.
  uint8_t vector_lanes = 0;  ///< Elements of the vector, of which the upper half may be idle.
  uint8_t unused = 0;
};
static_assert(sizeof(Form) == sizeof(Operation::immediate));

uint64_t element_linear(Cpu& cpu, const Operation& operation, const Form& form, unsigned lane,
                        AccessKind kind) {
  const uint8_t* at = cpu.vector.zmm[form.index].data() + lane * form.index_size;
  int64_t index;
  if (form.index_size == 4) {
    int32_t narrow;
    std::memcpy(&narrow, at, 4);
    index = narrow;
  } else {
    std::memcpy(&index, at, 8);
  }
  uint64_t address = cpu.gpr[operation.base] + (static_cast<uint64_t>(index) << operation.scale) +
                     static_cast<uint64_t>(static_cast<int64_t>(operation.displacement));
  if (operation.address_size == 4) address = static_cast<uint32_t>(address);
  return linear_address(cpu, operation.segment, address, form.data_size, kind);
}

void load_element(Cpu& cpu, const Form& form, unsigned lane, uint64_t linear) {
  auto& data = cpu.vector.zmm[form.data];
  const std::span element(data.data() + lane * form.data_size, form.data_size);
  cpu.mmu.read_bytes(linear, std::as_writable_bytes(element));
  // What is above the vectors goes with the first element, and stays so when another one faults.
  const size_t used = size_t{form.vector_lanes} * form.data_size;
  std::memset(data.data() + used, 0, data.size() - used);
}

void store_element(Cpu& cpu, const Form& form, unsigned lane, uint64_t linear) {
  const std::span element(cpu.vector.zmm[form.data].data() + lane * form.data_size, form.data_size);
  cpu.mmu.write_bytes(linear, std::as_bytes(element));
}

void clear_above(Cpu& cpu, const Form& form) {
  auto& data = cpu.vector.zmm[form.data];
  const size_t used = size_t{form.lanes} * form.data_size;
  std::memset(data.data() + used, 0, data.size() - used);
}

void gather_by_signs(Cpu& cpu, const Operation& operation) {
  check<Check::kAvx>(cpu);
  const auto form = std::bit_cast<Form>(operation.immediate);
  auto& mask = cpu.vector.zmm[form.mask];
  // What is left of the mask when an element faults is all ones or all zeros.
  for (unsigned lane = 0; lane < form.vector_lanes; ++lane) {
    uint8_t* element = mask.data() + lane * form.data_size;
    std::memset(element, element[form.data_size - 1] & 0x80 ? 0xFF : 0, form.data_size);
  }
  const size_t used = size_t{form.vector_lanes} * form.data_size;
  std::memset(mask.data() + used, 0, mask.size() - used);
  for (unsigned lane = 0; lane < form.lanes; ++lane) {
    uint8_t* element = mask.data() + lane * form.data_size;
    if (element[form.data_size - 1] & 0x80) {
      const uint64_t linear = element_linear(cpu, operation, form, lane, AccessKind::kRead);
      load_element(cpu, form, lane, linear);
    }
    std::memset(element, 0, form.data_size);
  }
  mask.fill(0);
  clear_above(cpu, form);
}

void gather_by_opmask(Cpu& cpu, const Operation& operation) {
  check<Check::kAvx512>(cpu);
  const auto form = std::bit_cast<Form>(operation.immediate);
  uint64_t& mask = cpu.vector.opmask[form.mask];
  for (unsigned lane = 0; lane < form.lanes; ++lane) {
    const uint64_t bit = uint64_t{1} << lane;
    if (!(mask & bit)) continue;
    load_element(cpu, form, lane, element_linear(cpu, operation, form, lane, AccessKind::kRead));
    mask &= ~bit;
  }
  mask = 0;
  clear_above(cpu, form);
}

void scatter(Cpu& cpu, const Operation& operation) {
  check<Check::kAvx512>(cpu);
  const auto form = std::bit_cast<Form>(operation.immediate);
  uint64_t& mask = cpu.vector.opmask[form.mask];
  for (unsigned lane = 0; lane < form.lanes; ++lane) {
    const uint64_t bit = uint64_t{1} << lane;
    if (!(mask & bit)) continue;
    store_element(cpu, form, lane, element_linear(cpu, operation, form, lane, AccessKind::kWrite));
    mask &= ~bit;
  }
  mask = 0;
}

uint8_t number_of(ZydisRegister reg) { return static_cast<uint8_t>(ZydisRegisterGetId(reg)); }

}  // namespace

Handler select_gather(const decode::Instruction& instruction, Operation& operation) {
  const auto& raw = instruction.raw;
  const ZydisDecodedOperand* memory = nullptr;
  const ZydisDecodedOperand* data = nullptr;
  for (unsigned i = 0; i < raw.operand_count_visible; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) memory = &operand;
    if (operand.encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) data = &operand;
  }
  if (!memory || memory->mem.type != ZYDIS_MEMOP_TYPE_VSIB || !data) return nullptr;

  // v(p)gatherDxx, v(p)scatterQxx: the letter behind the verb is the size of the indices.
  const std::string_view name = ZydisMnemonicGetString(instruction.mnemonic());
  const bool is_scatter = name.find("scatter") != name.npos;
  const size_t verb = is_scatter ? name.find("scatter") + 7 : name.find("gather") + 6;
  const bool evex = raw.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;

  Form form;
  form.data = number_of(data->reg.value);
  form.index = number_of(memory->mem.index);
  form.data_size = static_cast<uint8_t>(memory->element_size / 8);
  form.index_size = name[verb] == 'd' ? 4 : 8;
  const unsigned vector_bytes = raw.avx.vector_length / 8u;
  form.vector_lanes = static_cast<uint8_t>(vector_bytes / form.data_size);
  form.lanes = static_cast<uint8_t>(vector_bytes / std::max(form.data_size, form.index_size));
  if (evex) {
    form.mask = raw.raw.evex.aaa;
  } else {
    form.mask = static_cast<uint8_t>(~raw.raw.vex.vvvv & 15);
    if (instruction.mode != decode::CodeMode::k64) form.mask &= 7;
  }
  // Registers that must differ (SDM Vol. 2C, "If any pair of the index, mask, or destination ...").
  if (evex ? form.mask == 0 || (!is_scatter && form.data == form.index)
           : form.data == form.index || form.data == form.mask || form.index == form.mask)
    return invalid_opcode;

  operation.index = kZeroRegister;
  operation.immediate = std::bit_cast<uint64_t>(form);
  if (is_scatter) return scatter;
  return evex ? gather_by_opmask : gather_by_signs;
}

}  // namespace limen::soft::interpret::native
