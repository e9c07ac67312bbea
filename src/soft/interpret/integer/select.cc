#include "soft/interpret/select.h"

#include "soft/interpret/integer/forms.h"

namespace limen::soft::interpret {

std::mutex& bus_lock() {
  static std::mutex mutex;
  return mutex;
}

uint8_t register_of(const decode::Instruction& instruction, unsigned operand) {
  return register_number(instruction.operands[operand].reg.value);
}

uint8_t segment_of_hidden_memory(const decode::Instruction& instruction) {
  uint8_t segment = x86::kEs;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    segment = static_cast<uint8_t>(ZydisRegisterGetId(operand.mem.segment));
    // ES:rDI cannot be overridden: the other operand, if there is one, is what was meant.
    if (segment != x86::kEs) break;
  }
  return segment;
}

Handler select_integer(const decode::Instruction& instruction, Operation& operation) {
  using Select = Handler (*)(const decode::Instruction&, Operation&);
  static constexpr Select kGroups[] = {
      select_move, select_arithmetic, select_branch,   select_stack,    select_shift,
      select_bits, select_string,     select_exchange, select_multiply, select_flags};
  if (instruction.raw.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) return nullptr;
  for (const Select select : kGroups)
    if (const Handler handler = select(instruction, operation)) return handler;
  return nullptr;
}

}  // namespace limen::soft::interpret
