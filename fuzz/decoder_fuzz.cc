// Any bytes that a guest can put at RIP: the decoder must answer, and its answer must be of one
// piece.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "soft/decode/decoder.h"

namespace {

using limen::soft::decode::CodeMode;
using limen::soft::decode::Instruction;
using limen::soft::decode::Outcome;

void require(bool condition) {
  if (!condition) std::abort();
}

void check_instruction(CodeMode mode, std::span<const uint8_t> bytes,
                       const Instruction& instruction) {
  const unsigned length = instruction.length();
  require(length >= 1 && length <= limen::soft::decode::kMaxInstructionLength);
  require(length <= bytes.size() && instruction.mode == mode);
  require(std::memcmp(instruction.bytes.data(), bytes.data(), length) == 0);
  require(instruction.raw.operand_count <= instruction.operands.size());
  // The same instruction without what stands behind it; and one byte less is not enough.
  Instruction alone;
  require(decode(mode, bytes.first(length), alone) == Outcome::kOk);
  require(alone.length() == length && alone.mnemonic() == instruction.mnemonic());
  require(decode(mode, bytes.first(length - 1), alone) == Outcome::kNeedMoreBytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const auto mode = static_cast<CodeMode>(data[0] % 3);
  const std::span bytes(data + 1, size - 1);
  Instruction instruction;
  const Outcome outcome = decode(mode, bytes, instruction);
  if (outcome == Outcome::kOk) check_instruction(mode, bytes, instruction);
  if (bytes.size() >= limen::soft::decode::kMaxInstructionLength)
    require(outcome != Outcome::kNeedMoreBytes);
  return 0;
}
