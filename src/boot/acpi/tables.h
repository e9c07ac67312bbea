// The ACPI tables of boards pc, q35 and microvm (ACPI 6.5 chapter 5; PCI Firmware
// Specification 3.3 4.1.2; IA-PC HPET 1.0a 3.2.4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "x86/address.h"

namespace limen::boot::acpi {

// The fixed hardware that the tables describe; machine/ places the devices accordingly.
inline constexpr uint16_t kPm1aEventPort = 0x600;    ///< PM1a_EVT_BLK, 4 bytes.
inline constexpr uint16_t kPm1aControlPort = 0x604;  ///< PM1a_CNT_BLK, 2 bytes.
inline constexpr uint16_t kPmTimerPort = 0x608;      ///< PM_TMR_BLK, 32 bits wide.
inline constexpr uint16_t kGpe0Port = 0x620;         ///< GPE0_BLK.
inline constexpr uint8_t kGpe0Length = 16;
inline constexpr uint16_t kSmiCommandPort = 0xB2;
inline constexpr uint8_t kAcpiEnable = 2;   ///< Written to kSmiCommandPort: SCI_EN becomes 1.
inline constexpr uint8_t kAcpiDisable = 3;  ///< SCI_EN becomes 0.
inline constexpr uint16_t kResetPort = 0xCF9;
inline constexpr uint8_t kResetValue = 0x0F;
inline constexpr uint8_t kSciInterrupt = 9;
/// SLP_TYP for S5: PM1_CNT with this in bits 10-12 and SLP_EN (bit 13) set powers the machine off.
inline constexpr uint8_t kSoftOffSleepType = 5;
/// The same for S3 and S4.
inline constexpr uint8_t kSuspendSleepType = 1, kHibernateSleepType = 2;
inline constexpr uint8_t kCenturyRegister = 0x32;  ///< CMOS index.

/// Where the parts of the power-management block stand, from its first port on.
inline constexpr uint16_t kControlOffset = 0x04, kTimerOffset = 0x08, kGpe0Offset = 0x20;

/// Addresses that PCI functions may have.
struct Window {
  uint64_t first = 0;
  uint64_t last = 0;
};

/// kNone: there is no PCI.
enum class Chipset : uint8_t { kQ35, kI440fx, kNone };

/// A virtio device with registers in memory.
struct MmioDevice {
  uint32_t base = 0;
  uint32_t size = 0;
  uint32_t line = 0;  ///< Of the board; where there is an I/O APIC, its input.
};

struct Board {
  Chipset chipset = Chipset::kQ35;
  uint16_t pm_base = kPm1aEventPort;
  std::vector<Window> memory_windows = {};  ///< Below 4 GiB; none: kPciWindowStart and on.
  Window high_window = {};                  ///< Above; {0, 0}: none.
  /// PCI Express configuration space, all 256 buses; 0: it is nowhere.
  uint64_t ecam_base = 0xB000'0000;
  bool fw_cfg = false;  ///< Describes the firmware configuration device, by which drivers find it.
  bool vga = false;     ///< There may be one.
  unsigned vcpus = 1;
  std::span<const uint32_t> apic_ids = {};  ///< One per vCPU; empty: APIC id = index.
  bool hpet = false;
  unsigned serial_ports = 1;  ///< COM1, COM2: described in the DSDT; at most 2.
  uint16_t panic_port = 0;    ///< Of pvpanic; 0: there is none.
  bool keyboard_controller = true;
  bool pic = true;
  bool pit = true;
  bool rtc = true;
  bool suspend_to_ram = false;   ///< There is S3, and the RTC's alarm ends it.
  bool suspend_to_disk = false;  ///< There is S4.
  std::vector<MmioDevice> virtio = {};
  enum class Tpm : uint8_t { kNone, kTis, kCrb } tpm = Tpm::kNone;
};

/// Bytes of the log that firmware keeps of what it measured.
inline constexpr uint32_t kTpmLogSize = 64 << 10;

struct InstalledTables {
  GuestPhysicalAddress rsdp;    ///< Below 1 MiB, where a kernel that is not told looks for it.
  GuestPhysicalAddress tables;  ///< Inside acpi_region().
  uint64_t size = 0;
};

/// Writes RSDP, XSDT, RSDT, FADT, FACS, MADT, MCFG, HPET (when present) and DSDT into RAM.
Result<InstalledTables> install_tables(memory::GuestMemory& memory, const Board& board);

/// One table as it lies in memory, header included.
struct Table {
  std::string signature;
  GuestPhysicalAddress address;
  std::vector<std::byte> bytes;
  /// Where addresses of other tables stand in it.
  struct Pointer {
    uint32_t offset = 0;
    uint8_t size = 4;
    bool tpm_log = false;  ///< It is the address of the TPM's event log, which firmware sets aside.
  };
  std::vector<Pointer> pointers = {};
};
/// All tables but the RSDP, laid out from `start`, with the checksums and pointers in place.
std::vector<Table> build_tables(const Board& board, GuestPhysicalAddress start);
/// The RSDP, revision 2, that points at the RSDT and XSDT of `tables`.
std::vector<std::byte> build_rsdp(const std::vector<Table>& tables);

}  // namespace limen::boot::acpi
