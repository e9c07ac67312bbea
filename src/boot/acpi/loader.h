// The tables as firmware takes them from fw_cfg: files, and a script that says how they are to be
// put into memory and linked. The format is what SeaBIOS (src/fw/romfile_loader.h) and OVMF
// SeaBIOS' src/fw/romfile_loader.h and OVMF's QemuLoader.h).
#pragma once

#include <cstddef>
#include <vector>

#include "boot/acpi/tables.h"

namespace limen::boot::acpi {

inline constexpr const char* kTablesFile = "etc/acpi/tables";
inline constexpr const char* kRsdpFile = "etc/acpi/rsdp";
inline constexpr const char* kLoaderFile = "etc/table-loader";
/// kTpmLogSize zeroes; in the script where there is a TPM.
inline constexpr const char* kTpmLogFile = "etc/tpm/log";

struct LoaderFiles {
  std::vector<std::byte> tables;
  std::vector<std::byte> rsdp;
  std::vector<std::byte> script;
};
/// The sizes depend only on which tables there are, not on the addresses in them.
LoaderFiles build_loader_files(const Board& board);

}  // namespace limen::boot::acpi
