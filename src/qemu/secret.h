// -object secret: a password or key that other options refer to.
#pragma once

#include <string>

#include "base/result.h"
#include "qemu/key_values.h"

namespace limen::qemu {

/// What data= or file= holds, decoded as format= says.
Result<std::string> load_secret(const KeyValues& values);

}  // namespace limen::qemu
