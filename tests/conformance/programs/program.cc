#include "conformance/programs/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "soft/decode/decoder.h"

namespace limen::conformance {

std::vector<uint32_t> Program::offsets() const {
  std::vector<uint32_t> result;
  result.reserve(pieces.size() + 1);
  uint32_t offset = start;
  for (const Piece& piece : pieces) {
    result.push_back(offset);
    offset += piece.size;
  }
  result.push_back(offset);
  return result;
}

uint32_t Program::size() const {
  uint32_t size = 0;
  for (const Piece& piece : pieces) size += piece.size;
  return size;
}

size_t Program::piece_count() const {
  return static_cast<size_t>(
      std::ranges::count_if(pieces, [](const Piece& piece) { return piece.size != 0; }));
}

std::array<uint8_t, kCodeSize> Program::assemble() const {
  std::array<uint8_t, kCodeSize> code;
  code.fill(0xCC);
  const auto offset = offsets();
  // Where `from` stands and `to` is meant, both in the code pages.
  const auto put = [&](uint32_t at, int32_t to, int32_t from) {
    const int32_t value = code32 ? to + static_cast<int32_t>(kProgramAddress) : to - from;
    std::memcpy(&code[at], &value, 4);
  };
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    if (piece.size == 0 || offset[i + 1] > kCodeSize) continue;
    std::memcpy(&code[offset[i]], piece.bytes.data(), piece.size);
    const auto next = static_cast<int32_t>(offset[i + 1]);
    const auto to = [&] {
      return static_cast<int32_t>(offset.at(static_cast<size_t>(piece.target)));
    };
    switch (piece.fix) {
      case Fix::kNone:
        break;
      case Fix::kBranch8:
        code[offset[i + 1] - 1] = static_cast<uint8_t>(std::clamp(to() - next, -128, 127));
        break;
      case Fix::kBranch32: {
        const int32_t relative = to() - next;
        std::memcpy(&code[offset[i + 1] - 4], &relative, 4);
        break;
      }
      case Fix::kWindow: {
        put(offset[i] + piece.at, piece.target - static_cast<int32_t>(kCodeOffset),
            next - piece.tail);
        break;
      }
      case Fix::kCode: {
        put(offset[i] + piece.at, to() + piece.addend, next - piece.tail);
        break;
      }
    }
  }
  return code;
}

std::string Program::listing() const {
  const auto code = assemble();
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  const uint64_t base = kWindows[0] + kCodeOffset;
  const uint32_t end = std::min(start + size(), kCodeSize);
  std::string text;
  for (uint32_t at = start; at < end;) {
    soft::decode::Instruction instruction;
    const std::span<const uint8_t> rest(code.data() + at, kCodeSize - at);
    std::string bytes;
    if (decode(mode(), rest, instruction) != soft::decode::Outcome::kOk) {
      text += fmt::format("  {:#x}: {:02x}  (bad)\n", base + at, code[at]);
      ++at;
      continue;
    }
    for (unsigned i = 0; i < instruction.length(); ++i)
      bytes += fmt::format("{:02x} ", code[at + i]);
    std::array<char, 128> line{};
    ZydisFormatterFormatInstruction(&formatter, &instruction.raw, instruction.operands.data(),
                                    instruction.raw.operand_count_visible, line.data(), line.size(),
                                    base + at, nullptr);
    text += fmt::format("  {:#x}: {:<36} {}\n", base + at, bytes, line.data());
    at += instruction.length();
  }
  return text;
}

}  // namespace limen::conformance
