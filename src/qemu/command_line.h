// The command line of qemu-system-x86_64, as far as Limen has what it names.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "machine/description.h"
#include "qemu/process_options.h"

namespace limen::qemu {

/// What the person asked for: a machine, or text to print.
struct CommandLine {
  std::optional<std::string> print;  ///< -help, -version, -device help and the like.
  machine::MachineDescription machine;
  ProcessOptions process;
};

/// `program` is the name the program was called by, for -help and -version. Options mean what
/// qemu-system-x86_64(1) says; both -option and --option are taken. An error begins with the option
/// and its argument. Things that are taken with a remark are said on standard error.
Result<CommandLine> parse_command_line(std::string_view program,
                                       std::span<const std::string> arguments);

}  // namespace limen::qemu
