// What -chardev, -serial, -monitor and -qmp say about character back ends.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "machine/description.h"
#include "qemu/key_values.h"

namespace limen::qemu {

/// The argument of -chardev.
Result<machine::CharacterDescription> parse_character(std::string_view argument);

/// The short form of -serial and -monitor ("unix:PATH,server=on,wait=off", "telnet::4444,server",
/// "mon:stdio", "pty", "file:PATH", ...): a back end called `label`.
Result<machine::CharacterDescription> parse_short_character(std::string_view argument,
                                                            std::string_view label);

}  // namespace limen::qemu
