// The list of what is not compared: not_covered.md, read as it is written for people.
#pragma once

#include <set>
#include <string>

#include "base/result.h"

namespace limen::conformance {

/// Every name in backquotes between "- " and ":" in the file.
Result<std::set<std::string>> read_not_covered(const std::string& path);

}  // namespace limen::conformance
