// The key=value lists of QEMU's command line and human monitor: "virtio-blk-pci,id=a,serial=b,,c".
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace limen {

using OptionList = std::vector<std::pair<std::string, std::string>>;

/// In order. A comma inside a value is doubled. The first part may leave its key out when the
/// option has an implied one (`implied_key`; empty: none); any other part without "=" is "on".
Result<OptionList> parse_option_list(std::string_view text, std::string_view implied_key);

}  // namespace limen
