// Keys of a keyboard by the names that QEMU's monitors take.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limen::machine {
class Machine;
}

namespace limen::monitor {

/// Presses the keys together and lets them go in reverse: names such as "ctrl", "alt", "f1", "a",
/// "ret", or the scan code in hexadecimal with 0x before it.
Result<> send_keys(machine::Machine& machine, std::span<const std::string> keys);
/// The names, for completion.
[[nodiscard]] std::vector<std::string_view> key_names();

}  // namespace limen::monitor
