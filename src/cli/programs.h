// The programs that one executable is, by the name it is called.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "machine/description.h"
#include "qemu/process_options.h"

namespace limen::cli {

/// Each takes the words behind the program's name and returns the exit status.
int system_main(const std::string& program, const std::vector<std::string>& arguments);
int image_main(const std::string& program, const std::vector<std::string>& arguments);
int limen_main(const std::string& program, const std::vector<std::string>& arguments);

/// Makes and runs the machine; says on standard error what went wrong.
int run_machine(const std::string& program, const machine::MachineDescription& description,
                const qemu::ProcessOptions& options = {});

/// One line on standard error; returns exit status 1.
int complain(std::string_view program, const Error& error);

/// `limen host`: says what this host offers. Exit status 0: `-accel kvm:soft` takes kvm here; 1:
/// soft; 2: an error.
int host_main(const std::string& program, bool json);
inline constexpr int kHostError = 2;

}  // namespace limen::cli
