// Commands that show the guest's memory, ports and numbers.
#include <Zydis/Zydis.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "base/delayed_library.h"
#include "machine/board.h"
#include "machine/machine.h"
#include "monitor/guest_view.h"
#include "monitor/hmp/command.h"

namespace limen::monitor {
namespace {

using Format = HumanInterpreter::Format;

std::string character(uint8_t byte) {
  switch (byte) {
    case '\'':
      return "'\\''";
    case '\\':
      return "'\\\\'";
    case '\n':
      return "'\\n'";
    case '\r':
      return "'\\r'";
    default:
      return byte >= 32 && byte <= 126 ? fmt::format("'{:c}'", byte)
                                       : fmt::format("'\\x{:02x}'", byte);
  }
}

std::string unit_text(uint64_t value, const Format& format) {
  const unsigned bits = format.size * 8;
  const unsigned decimal_digits = (bits * 10 + 32) / 33;
  switch (format.letter) {
    case 'o':
      return fmt::format(" {:#0{}o}", value, (bits + 2) / 3 + 1);
    case 'u':
      return fmt::format(" {:{}}", value, decimal_digits);
    case 'd': {
      const auto shift = 64 - bits;
      const auto with_sign = static_cast<int64_t>(value << shift) >> shift;
      return fmt::format(" {:{}}", with_sign, decimal_digits);
    }
    case 'c':
      return " " + character(static_cast<uint8_t>(value & 0xFF));
    default:
      return fmt::format(" {:#0{}x}", value, bits / 4 + 2);
  }
}

Result<> disassemble(HumanInterpreter& interpreter, const GuestView& view,
                     const x86::CpuState& state, uint64_t address, uint64_t count, bool physical) {
  const auto& code = state.system.segments[x86::kCs];
  const bool wide = view.long_code();
  const auto mode = wide                 ? ZYDIS_MACHINE_MODE_LONG_64
                    : code.default_big() ? ZYDIS_MACHINE_MODE_LEGACY_32
                                         : ZYDIS_MACHINE_MODE_LEGACY_16;
  const auto width = wide                 ? ZYDIS_STACK_WIDTH_64
                     : code.default_big() ? ZYDIS_STACK_WIDTH_32
                                          : ZYDIS_STACK_WIDTH_16;
  LIMEN_TRY(load_library(LIMEN_ZYDIS_LIBRARY));
  ZydisDecoder decoder;
  ZydisFormatter formatter;
  ZydisDecoderInit(&decoder, mode, width);
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_ATT);
  for (; count > 0; --count) {
    std::array<std::byte, ZYDIS_MAX_INSTRUCTION_LENGTH> bytes{};
    size_t available = bytes.size();
    const auto read = [&](size_t size) {
      const auto into = std::span(bytes).first(size);
      return physical ? view.read_physical(address, into) : view.read_linear(address, into);
    };
    while (available > 0 && !read(available)) --available;
    if (available == 0) {
      interpreter.print("{:#010x}:  Cannot access memory\n", address);
      return {};
    }
    ZydisDecodedInstruction instruction;
    std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
    std::array<char, 128> text{};
    unsigned length = 1;
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes.data(), available, &instruction,
                                            operands.data()))) {
      length = instruction.length;
      ZydisFormatterFormatInstruction(&formatter, &instruction, operands.data(),
                                      instruction.operand_count_visible, text.data(), text.size(),
                                      address, nullptr);
    } else {
      fmt::format_to_n(text.data(), text.size() - 1, ".byte {:#04x}",
                       std::to_integer<unsigned>(bytes[0]));
    }
    std::string raw;
    for (unsigned i = 0; i < length; ++i)
      raw += fmt::format("{:02x} ", std::to_integer<unsigned>(bytes[i]));
    interpreter.print("{:#010x}:  {:<24} {}\n", address, raw, text.data());
    address += length;
  }
  return {};
}

Result<> show_memory(HumanInterpreter& interpreter, Words& words, bool physical) {
  Format format = LIMEN_TRY(words.format());
  auto address = static_cast<uint64_t>(LIMEN_TRY(words.expression()));
  LIMEN_TRY(words.end());
  const auto state = LIMEN_TRY(interpreter.state());
  auto* const board = interpreter.machine().board();
  const GuestView view(*interpreter.machine().memory(), state,
                       physical && board != nullptr ? &board->mmio() : nullptr);
  if (format.letter == 'i')
    return disassemble(interpreter, view, state, address, format.count, physical);
  if (format.letter == 'c') format.size = 1;
  const uint64_t line = format.size == 1 ? 8 : 16;
  uint64_t left = format.size * format.count;
  while (left > 0) {
    std::array<std::byte, 16> bytes{};
    const auto part = std::span(bytes).first(std::min(left, line));
    interpreter.print("{:016x}:", address);
    if (!(physical ? view.read_physical(address, part) : view.read_linear(address, part))) {
      interpreter.print(" Cannot access memory\n");
      return {};
    }
    for (size_t at = 0; at < part.size(); at += format.size) {
      uint64_t value = 0;
      for (unsigned i = format.size; i-- > 0;)
        value = value << 8 | std::to_integer<uint64_t>(part[at + i]);
      interpreter.print("{}", unit_text(value, format));
    }
    interpreter.print("\n");
    address += part.size();
    left -= part.size();
  }
  return {};
}

Result<> show_linear(HumanInterpreter& interpreter, Words& words) {
  return show_memory(interpreter, words, false);
}
Result<> show_physical(HumanInterpreter& interpreter, Words& words) {
  return show_memory(interpreter, words, true);
}

Result<> print_value(HumanInterpreter& interpreter, Words& words) {
  const auto format = LIMEN_TRY(words.format());
  const int64_t value = LIMEN_TRY(words.expression());
  LIMEN_TRY(words.end());
  switch (format.letter) {
    case 'o':
      interpreter.print("{:#o}\n", static_cast<uint64_t>(value));
      break;
    case 'u':
      interpreter.print("{}\n", static_cast<uint64_t>(value));
      break;
    case 'd':
      interpreter.print("{}\n", value);
      break;
    case 'c':
      interpreter.print("{}\n", character(static_cast<uint8_t>(value & 0xFF)));
      break;
    default:
      interpreter.print("{:#x}\n", static_cast<uint64_t>(value));
      break;
  }
  return {};
}

Result<machine::Board*> board_of(HumanInterpreter& interpreter) {
  auto* board = interpreter.machine().board();
  if (board == nullptr) return fail("this machine has no ports");
  return board;
}

Result<> port_read(HumanInterpreter& interpreter, Words& words) {
  const auto format = LIMEN_TRY(words.format());
  const auto port = static_cast<uint16_t>(LIMEN_TRY(words.expression()) & 0xFFFF);
  LIMEN_TRY(words.end());
  auto* board = LIMEN_TRY(board_of(interpreter));
  const unsigned size = std::min(format.size, 4u);
  const char letter = size == 1 ? 'b' : size == 2 ? 'w' : 'l';
  interpreter.print("port{}[{:#06x}] = {:#0{}x}\n", letter, port, board->ports().read(port, size),
                    2 * size + 2);
  return {};
}

Result<> port_write(HumanInterpreter& interpreter, Words& words) {
  const auto format = LIMEN_TRY(words.format());
  const auto port = static_cast<uint16_t>(LIMEN_TRY(words.expression()) & 0xFFFF);
  const int64_t value = LIMEN_TRY(words.expression());
  LIMEN_TRY(words.end());
  auto* board = LIMEN_TRY(board_of(interpreter));
  const unsigned size = std::min(format.size, 4u);
  const uint64_t mask = size == 4 ? 0xFFFF'FFFF : (uint64_t{1} << 8 * size) - 1;
  board->ports().write(port, size, static_cast<uint64_t>(value) & mask);
  return {};
}

Result<> to_physical(HumanInterpreter& interpreter, Words& words) {
  const auto address = static_cast<uint64_t>(LIMEN_TRY(words.expression()));
  LIMEN_TRY(words.end());
  const auto state = LIMEN_TRY(interpreter.state());
  const GuestView view(*interpreter.machine().memory(), state);
  if (const auto physical = view.physical_of(address))
    interpreter.print("gpa: {:#x}\n", *physical);
  else
    interpreter.print("Unmapped\n");
  return {};
}

Result<> info(HumanInterpreter& interpreter, Words& words) {
  const auto name = words.word();
  if (name.empty()) {
    for (const auto& group : information_groups())
      for (const auto& command : group)
        interpreter.print("info {}{}{} -- {}\n", command.name,
                          command.parameters.empty() ? "" : " ", command.parameters, command.help);
    return {};
  }
  const auto* command = find_human_command(information_groups(), name);
  if (command == nullptr) return fail("unknown command: 'info {}'", name);
  return command->run(interpreter, words);
}

constexpr std::array kInspectionCommands = {
    HumanCommand{"info", "[subcommand]", "show various information about the system state", info},
    HumanCommand{"x", "/fmt addr", "virtual memory dump starting at 'addr'", show_linear},
    HumanCommand{"xp", "/fmt addr", "physical memory dump starting at 'addr'", show_physical},
    HumanCommand{"print|p", "/fmt expr",
                 "print expression value (use $reg for CPU register access)", print_value},
    HumanCommand{"i", "/fmt addr", "I/O port read", port_read},
    HumanCommand{"o", "/fmt addr value", "I/O port write", port_write},
    HumanCommand{"gva2gpa", "addr", "print the guest physical address of a guest virtual address",
                 to_physical},
};

}  // namespace

std::span<const HumanCommand> inspection_commands() { return kInspectionCommands; }

}  // namespace limen::monitor
