#include "soft/translate/form_cache.h"

#include <algorithm>
#include <cstring>

#include "soft/interpret/block_cache.h"
#include "soft/translate/register_fields.h"

namespace limen::soft::translate {
namespace {

constexpr unsigned kMostKeyBytes = 7;

/// The bytes that say what the form is, of which `bytes` has the first, and for which kind of code;
/// 0: they do not fit. No key is 0: code at CPL 0 may use RDTSC.
uint64_t make_key(uint64_t bytes, uint8_t immediate, const decode::Layout& layout, CodeKind kind) {
  const unsigned size = layout.head + (layout.immediate_counts ? 1u : 0u);
  if (!layout.known() || size > kMostKeyBytes) return 0;
  uint64_t key = bytes & ((uint64_t{1} << (8 * layout.head)) - 1);
  if (layout.immediate_counts) key |= uint64_t{immediate} << (8 * layout.head);
  return key | uint64_t{kind.bits()} << (8 * kMostKeyBytes);
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
  const auto decode_anew = [&] {
    ++statistics_.decoded;
    return decode(kind, given, item);
  };
  decode::Layout layout;
  decode::find_layout(kind.mode(), item.bytes, layout);
  if (layout.length() > given) return decode_anew();
  const RegisterFields fields(item.bytes, layout);
  uint64_t head = 0;
  std::memcpy(&head, item.bytes.data(), sizeof head);
  head = fields.stand_in(head);
  const uint8_t immediate = item.bytes[layout.head + unsigned{layout.displacement}];
  const uint64_t key = make_key(head, immediate, layout, kind);
  if (key == 0) return decode_anew();
  Set& set = sets_[(key * 0x9E3779B97F4A7C15u) >> (64 - kSetBits)];
  const auto known = std::ranges::find(set, key, &Entry::key);
  if (known != set.end()) {
    ++statistics_.found;
    static_cast<Form&>(item) = known->form;
  } else {
    ++statistics_.decoded;
    decode::InstructionBytes bytes = item.bytes;
    std::memcpy(bytes.data(), &head, layout.head);
    decode::Instruction instruction;
    const auto outcome = classify_bytes(kind, std::span(bytes).first(given), item, instruction);
    if (outcome != decode::Outcome::kOk) return outcome;
    if (!stands_for_all(item, instruction, layout)) return decode(kind, given, item);
    set[1] = set[0];
    set[0] = {key, item};
  }
  fields.name(item);
  item.length = static_cast<uint8_t>(layout.length());
  read_values(item);
  return decode::Outcome::kOk;
}

decode::Outcome FormCache::decode(CodeKind kind, unsigned given, Item& item) const {
  decode::Instruction instruction;
  const auto outcome = classify_bytes(kind, std::span(item.bytes).first(given), item, instruction);
  if (outcome != decode::Outcome::kOk) return outcome;
  item.length = static_cast<uint8_t>(instruction.length());
  read_values(item);
  if (item.encoding == Encoding::kEvex)  // scales a displacement of 8 bits (SDM Vol. 2A 2.7.5)
    for (const auto& operand : std::span(instruction.operands).first(instruction.raw.operand_count))
      if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY)
        item.displacement = static_cast<int32_t>(operand.mem.disp.value);
  return outcome;
}

decode::Outcome FormCache::classify_bytes(CodeKind kind, std::span<const uint8_t> bytes, Form& form,
                                          decode::Instruction& instruction) const {
  const auto outcome = decode::decode(kind.mode(), bytes, instruction);
  if (outcome != decode::Outcome::kOk) return outcome;
  form = classify(instruction, kind, cpu_.cpuid);
  if (form.kind == Kind::kInterpret) {
    interpret::Operation operation;
    interpret::make_operation(cpu_, instruction, operation);
    form.ends_block =
        (operation.flags & (interpret::Operation::kEndsBlock | interpret::Operation::kSystem)) != 0;
  }
  return outcome;
}

}  // namespace limen::soft::translate
