// Which drive a command means, and QEMU's errors when there is none.
#pragma once

#include <expected>
#include <string>

#include "machine/block_control.h"
#include "monitor/qmp/command_table.h"

namespace limen::monitor {

struct FoundDrive {
  machine::Drive* drive;
  std::string called;  ///< As the user called it.
};

/// By 'device', the drive's own id, or 'id', the device's that has it: exactly one of them.
[[nodiscard]] std::expected<FoundDrive, Failure> find_backend(Context& context,
                                                              const Json& arguments);
/// By 'device' or 'node-name'.
[[nodiscard]] std::expected<FoundDrive, Failure> find_drive_or_node(Context& context,
                                                                    const std::string& device,
                                                                    const std::string& node);
/// A result without a value, as a command answers.
[[nodiscard]] Reply answer(Result<> result);

}  // namespace limen::monitor
