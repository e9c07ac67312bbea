// Which format a file has, by its first bytes.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "block/file_layer.h"

namespace limen::block {

/// "qcow2", "vmdk", "vdi", "vhdx", "vpc", "qcow", "qed", "luks", or "raw" for what has no sign.
std::string probe_format(std::span<const std::byte> start);
Result<std::string> probe_format(FileLayer& file);

/// Fails for a format that is known by name and cannot be read, and for one that is not known.
Result<> check_format_supported(std::string_view format, const std::string& path);

}  // namespace limen::block
