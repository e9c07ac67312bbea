// Starting a kernel without firmware: the Linux boot protocol (Documentation/arch/x86/boot.rst),
// the Xen PVH protocol (xen/include/public/arch-x86/hvm/start_info.h) and Multiboot 0.6.96.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "boot/memory_map.h"
#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

namespace limen::boot {

enum class Protocol : uint8_t { kLinux64, kLinux32, kPvh, kMultiboot };
[[nodiscard]] std::string_view protocol_name(Protocol protocol);

/// What a person gave, and what the board adds.
struct LoadRequest {
  std::string kernel;        ///< Path.
  std::string initrd;        ///< Path; empty: none. Multiboot: "module arguments,module arguments".
  std::string command_line;  ///< -append.
  std::vector<E820Entry> e820;
  GuestPhysicalAddress rsdp;            ///< ACPI root pointer; 0: no ACPI.
  uint32_t cpu_signature = 0;           ///< CPUID.1:EAX.
  unsigned physical_address_bits = 40;  ///< CPUID.80000008H:EAX[7:0], for the MTRR masks.
};

struct LoadedGuest {
  Protocol protocol = Protocol::kLinux64;
  x86::CpuState cpu;  ///< Of the boot processor; the others wait for SIPI.
};

/// Puts the kernel, initrd and their tables into RAM. The kernel's format is found by its magic
/// numbers. Errors name the path, what is wrong with it, the value found and the one expected;
/// the contents of RAM are then unspecified.
Result<LoadedGuest> load_kernel(memory::GuestMemory& memory, const LoadRequest& request);

/// Puts code at F000:FFF0, where a kernel jumps to that restarts the machine by way of the BIOS
/// (Linux: reboot=bios, its last means). It resets by port CF9H. Fails where there is no RAM.
Result<> install_restart_code(memory::GuestMemory& memory);

/// The boot processor as firmware hands it back after S3: in real mode at the waking vector that
/// the guest wrote into the FACS, which acpi/ puts at acpi_region() (ACPI 6.5 5.2.10). Fails where
/// it wrote none.
Result<x86::CpuState> waking_state(const memory::GuestMemory& memory, uint32_t cpu_signature,
                                   unsigned physical_address_bits);

/// As load_kernel(), from the bytes of the files: for tests and fuzzing. `request.kernel` only
/// names it in errors; `request.initrd` is not used.
struct Module {
  std::string path;          ///< Names it in errors.
  std::string command_line;  ///< Multiboot module string.
  std::span<const std::byte> bytes;
};
Result<LoadedGuest> load_kernel_image(memory::GuestMemory& memory, const LoadRequest& request,
                                      std::span<const std::byte> kernel,
                                      std::span<const Module> modules);

}  // namespace limen::boot
