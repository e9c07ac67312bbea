// SMBIOS tables, which tell a guest what machine it runs on (DMTF DSP0134 3.6).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace limen::boot::smbios {

/// What is not empty replaces what stands here; as QEMU's -smbios type=N has it.
struct Identity {
  std::string bios_vendor = {}, bios_version = {}, bios_date = {};  ///< Type 0.
  std::string manufacturer = "QEMU";                                ///< Type 1, as the rest.
  std::string product = {}, version = {}, serial = {}, sku = {}, family = {};
  std::string uuid = {};  ///< In QEMU's form; "": all zeroes.
  std::string board_manufacturer = {}, board_product = {}, board_version = {}, board_serial = {},
              board_asset = {};  ///< Type 2; there is one if any is not empty.
  std::string chassis_manufacturer = "QEMU", chassis_version = {}, chassis_serial = {},
              chassis_asset = {}, chassis_sku = {};                     ///< Type 3.
  std::string processor_manufacturer = "QEMU", processor_version = {};  ///< Type 4.
  std::vector<std::string> oem_strings = {};                            ///< Type 11.
};

struct Machine {
  Identity identity = {};
  uint64_t memory_bytes = 0;
  uint64_t low_memory_bytes = 0;                 ///< Below 4 GiB.
  unsigned sockets = 1, cores = 1, threads = 1;  ///< Cores of a socket, threads of a core.
  uint32_t cpu_signature = 0, cpu_features = 0;  ///< CPUID.1: EAX and EDX.
};

struct Tables {
  std::vector<std::byte> structures;
  std::vector<std::byte> anchor;  ///< Entry point, 64-bit (5.2.2), the address left to firmware.
};
Tables build(const Machine& machine);

}  // namespace limen::boot::smbios
