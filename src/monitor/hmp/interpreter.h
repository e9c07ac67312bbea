// Carries out the commands that a person types, in QEMU's language.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "monitor/qmp/command_table.h"
#include "monitor/qmp/descriptor_store.h"
#include "monitor/shared.h"
#include "x86/cpu_state.h"

namespace limen::monitor {

class HumanInterpreter {
 public:
  HumanInterpreter(machine::Machine& machine, Shared& shared)
      : machine_(machine), shared_(shared) {}

  /// What the line's command prints, with "\r\n" at the end of its lines.
  std::string execute(std::string_view line);
  /// What the word at the end of `line` may become.
  [[nodiscard]] std::vector<std::string> completions(std::string_view line) const;
  /// The processor whose registers and memory commands show.
  Result<> choose_processor(int64_t index);

  // For commands.

  template <typename... Arguments>
  void print(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    output_ += fmt::format(format, std::forward<Arguments>(arguments)...);
  }
  /// Runs a QMP command and prints the error, if it is one.
  Reply run(const std::string& command, const Json& arguments = Json::object());
  /// The same for one whose answer says nothing.
  void perform(const std::string& command, const Json& arguments = Json::object()) {
    [[maybe_unused]] const auto reply = run(command, arguments);
  }
  [[nodiscard]] machine::Machine& machine() { return machine_; }
  /// For what QMP and this have in common.
  [[nodiscard]] Context context() { return {machine_, CommandTable::all(), descriptors_, shared_}; }
  [[nodiscard]] Shared& shared() { return shared_; }
  [[nodiscard]] unsigned processor() const { return processor_; }
  /// Registers of the chosen processor. Fails for a machine without one.
  Result<x86::CpuState> state();
  /// How x and xp showed memory the last time: the letter and the bytes of a unit.
  struct Format {
    uint64_t count = 1;
    char letter = 'x';
    unsigned size = 4;
  };
  Format last_format = {};
  std::deque<std::string> history = {};

 private:
  machine::Machine& machine_;
  Shared& shared_;
  DescriptorStore descriptors_;
  unsigned processor_ = 0;
  std::string output_;
};

}  // namespace limen::monitor
