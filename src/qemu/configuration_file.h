// The files of -readconfig: sections [group "id"], and key = "value" in them.
#pragma once

#include <istream>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace limen::qemu {

struct ConfigurationSection {
  unsigned line = 0;  ///< Of its heading, for messages.
  std::string group = {};
  std::vector<std::pair<std::string, std::string>> values =
      {};  ///< An id in the heading is the first.
};

/// Errors begin with the line's number.
Result<std::vector<ConfigurationSection>> parse_configuration(std::istream& text);

}  // namespace limen::qemu
