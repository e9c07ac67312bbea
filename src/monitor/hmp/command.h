// One command of the human monitor, and how it reads what stands behind its name.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "monitor/hmp/interpreter.h"

namespace limen::monitor {

/// The rest of a command's line.
class Words {
 public:
  Words(HumanInterpreter& interpreter, std::string_view rest)
      : interpreter_(interpreter), rest_(rest) {}

  [[nodiscard]] bool at_end();
  /// The next word; one in double quotes may have spaces. Empty at the end.
  std::string word();
  /// Everything that is left.
  std::string all();
  /// A number, or an expression of numbers and $registers.
  Result<int64_t> expression();
  /// "/4xw" if it is there.
  Result<HumanInterpreter::Format> format();
  /// Takes "-a" if it is there.
  bool flag(char letter);
  /// Fails if something is left.
  Result<> end();

 private:
  void skip_spaces();
  HumanInterpreter& interpreter_;
  std::string_view rest_;
};

struct HumanCommand {
  std::string_view name;  ///< "cont|c": both.
  std::string_view parameters;
  std::string_view help;
  /// The error is printed.
  Result<> (*run)(HumanInterpreter& interpreter, Words& words);
};

// One per file.
[[nodiscard]] std::span<const HumanCommand> control_commands();
[[nodiscard]] std::span<const HumanCommand> disk_commands();
[[nodiscard]] std::span<const HumanCommand> inspection_commands();
[[nodiscard]] std::span<const HumanCommand> plug_commands();
[[nodiscard]] std::span<const HumanCommand> input_device_commands();
[[nodiscard]] std::span<const HumanCommand> information_commands();       ///< Behind "info".
[[nodiscard]] std::span<const HumanCommand> part_information_commands();  ///< The same.

using HumanCommandGroups = std::vector<std::span<const HumanCommand>>;
[[nodiscard]] HumanCommandGroups top_level_groups();
[[nodiscard]] HumanCommandGroups information_groups();

[[nodiscard]] const HumanCommand* find_human_command(std::span<const HumanCommand> among,
                                                     std::string_view name);
[[nodiscard]] const HumanCommand* find_human_command(const HumanCommandGroups& among,
                                                     std::string_view name);

/// "info mice".
Result<> show_mice(HumanInterpreter& interpreter, Words& words);
/// "info vnc".
Result<> show_vnc(HumanInterpreter& interpreter, Words& words);

/// "info block".
Result<> show_block(HumanInterpreter& interpreter, Words& words);

/// Evaluates as QEMU does: + - * / % & | ^ ~, parentheses, 'c', 0x, $register.
Result<int64_t> evaluate(HumanInterpreter& interpreter, std::string_view& text);

/// The registers as QEMU prints them.
[[nodiscard]] std::string registers_text(const x86::CpuState& state);

}  // namespace limen::monitor
