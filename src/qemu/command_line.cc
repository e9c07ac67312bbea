#include "qemu/command_line.h"

#include <algorithm>

#include "base/nearest.h"
#include "qemu/builder.h"

namespace limen::qemu {

Result<CommandLine> parse_command_line(std::string_view program,
                                       std::span<const std::string> arguments) {
  Builder builder(program);
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (!word.starts_with('-')) {  // a disk, as in QEMU
      if (auto applied = builder.hard_disk_a(word); !applied)
        return fail("'{}', taken for a disk: {}", word, applied.error().message);
      continue;
    }
    const std::string_view name = std::string_view(word).substr(word.starts_with("--") ? 2 : 1);
    const auto all = options();
    const auto option = std::ranges::find(all, name, &Option::name);
    if (option == all.end()) {
      std::vector<std::string> spelled;
      for (const auto& known : all) spelled.push_back("-" + std::string(known.name));
      const std::vector<std::string_view> choices(spelled.begin(), spelled.end());
      return fail("{}: invalid option{}", word, choice_hint("-" + std::string(name), choices));
    }
    std::string argument;
    if (!option->argument.empty()) {
      if (i + 1 == arguments.size()) return fail("option '{}' needs an argument", word);
      argument = arguments[++i];
    }
    if (auto applied = (builder.*option->apply)(argument); !applied) {
      Error error = std::move(applied).error();
      error.message = "-" + std::string(name) + " " + argument + ": " + error.message;
      return std::unexpected(std::move(error));
    }
    if (builder.printing()) break;
  }
  return builder.finish();
}

}  // namespace limen::qemu
