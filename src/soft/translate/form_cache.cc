#include "soft/translate/form_cache.h"

#include <cstring>

#include "soft/interpret/block_cache.h"

namespace limen::soft::translate {
namespace {

/// The bytes that say what the form is, and for which kind of code; 0: they do not fit.
uint64_t make_key(const decode::InstructionBytes& bytes, const decode::Layout& layout,
                  CodeKind kind) {
  constexpr unsigned kMostBytes = 7;
  constexpr uint8_t kUsed = 0x80;  // no key is 0
  const unsigned size = layout.head + (layout.immediate_counts ? 1u : 0u);
  if (!layout.known() || size > kMostBytes) return 0;
  uint64_t key = 0;
  std::memcpy(&key, bytes.data(), sizeof key);
  key &= (uint64_t{1} << (8 * layout.head)) - 1;
  if (layout.immediate_counts)
    key |= uint64_t{bytes[layout.head + layout.displacement]} << (8 * layout.head);
  return key | uint64_t{kind.bits() | unsigned{kUsed}} << (8 * kMostBytes);
}

int64_t read_signed(const uint8_t* from, unsigned size) {
  const auto read = [from]<typename T>(T value) {
    std::memcpy(&value, from, sizeof value);
    return int64_t{value};
  };
  switch (size) {
    case 1:
      return read(int8_t{});
    case 2:
      return read(int16_t{});
    case 4:
      return read(int32_t{});
    case 8:
      return read(int64_t{});
    default:
      return 0;
  }
}

/// Fills in what the bytes of this one instruction say.
void read_values(Item& item) {
  const uint8_t* const bytes = item.bytes.data();
  item.displacement = item.displacement_size > 4
                          ? 0  // an absolute address, which no form that we translate has
                          : static_cast<int32_t>(read_signed(bytes + item.displacement_offset,
                                                             item.displacement_size));
  item.immediate = read_signed(bytes + item.immediate_offset, item.immediate_size);
}

/// Whether `form` is that of all instructions that have the bytes in common of which make_key()
/// makes the key.
bool stands_for_all(const Form& form, const decode::Instruction& instruction,
                    const decode::Layout& layout) {
  const unsigned behind = unsigned{layout.head} + layout.displacement;
  return instruction.length() == layout.length() && instruction.raw.raw.imm[1].size == 0 &&
         form.displacement_size == layout.displacement &&
         (layout.displacement == 0 || form.displacement_offset == layout.head) &&
         form.immediate_size == layout.immediate &&
         (layout.immediate == 0 || form.immediate_offset == behind);
}

}  // namespace

decode::Outcome FormCache::find(CodeKind kind, unsigned given, Item& item) {
  const decode::Layout layout = decode::find_layout(item.bytes);
  const uint64_t key = layout.length() <= given ? make_key(item.bytes, layout, kind) : 0;
  Set& set = sets_[(key * 0x9E3779B97F4A7C15u) >> (64 - kSetBits)];
  if (key != 0)
    for (const Entry& entry : set)
      if (entry.key == key) {
        ++statistics_.found;
        static_cast<Form&>(item) = entry.form;
        item.length = static_cast<uint8_t>(layout.length());
        read_values(item);
        return decode::Outcome::kOk;
      }
  decode::Instruction instruction;
  const auto outcome = decode(kind, given, item, instruction);
  if (key != 0 && outcome == decode::Outcome::kOk && stands_for_all(item, instruction, layout)) {
    set[1] = set[0];
    set[0] = {key, item};
  }
  return outcome;
}

/// The long way.
decode::Outcome FormCache::decode(CodeKind kind, unsigned given, Item& item,
                                  decode::Instruction& instruction) {
  ++statistics_.decoded;
  const auto outcome =
      decode::decode(decode::CodeMode::k64, std::span(item.bytes).first(given), instruction);
  if (outcome != decode::Outcome::kOk) return outcome;
  static_cast<Form&>(item) = classify(instruction, kind, cpu_.cpuid);
  if (item.kind == Kind::kInterpret) {
    interpret::Operation operation;
    interpret::make_operation(cpu_, instruction, operation);
    item.ends_block =
        (operation.flags & (interpret::Operation::kEndsBlock | interpret::Operation::kSystem)) != 0;
  }
  item.length = static_cast<uint8_t>(instruction.length());
  read_values(item);
  if (item.encoding == Encoding::kEvex)  // scales a displacement of 8 bits (SDM Vol. 2A 2.7.5)
    for (const auto& operand : std::span(instruction.operands).first(instruction.raw.operand_count))
      if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY)
        item.displacement = static_cast<int32_t>(operand.mem.disp.value);
  return outcome;
}

}  // namespace limen::soft::translate
