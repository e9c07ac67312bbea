// Firmware: where its files are, and what it asks of the machine through fw_cfg.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "device/fw_cfg.h"
#include "machine/description.h"

namespace limen::machine {

/// Whether the machine starts at the reset vector: no kernel was given, or firmware by name.
[[nodiscard]] bool boots_firmware(const MachineDescription& description);

/// Flash chips of -drive if=pflash, and what they may have together.
inline constexpr unsigned kFlashes = 2;
inline constexpr uint64_t kMostFlash = uint64_t{8} << 20;

/// The file that `name` means: a path, or a name in the folders into which Debian's packages put
/// firmware. Fails with the package that has it, where that is known.
Result<std::string> find_firmware(const std::string& name);

/// The content of a file of at most `most` bytes.
Result<std::vector<std::byte>> read_firmware(const std::string& path, uint64_t most);
/// Of a card's expansion ROM.
inline constexpr uint64_t kMostRom = uint64_t{1} << 20;

/// The content of -bios, or of SeaBIOS: a multiple of 64 KiB, at most 16 MiB. Empty if the machine
/// boots no firmware, or boots it from flash.
Result<std::vector<std::byte>> read_bios(const MachineDescription& description);

/// Bytes that the description's machine needs beside RAM (GuestMemory::reserve()).
[[nodiscard]] uint64_t memory_beside_ram(const MachineDescription& description, size_t bios_bytes);

/// Menu, order and waiting times of -boot, kernel, items of -fw_cfg: what does not depend on the
/// board.
Result<> describe_boot(const MachineDescription& description, device::FwCfg& fw_cfg);

}  // namespace limen::machine
