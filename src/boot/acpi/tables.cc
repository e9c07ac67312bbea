#include "boot/acpi/tables.h"

#include <algorithm>
#include <cassert>
#include <string_view>

#include "boot/acpi/dsdt.h"
#include "boot/little_endian.h"
#include "boot/memory_map.h"
#include "device/tpm/crb.h"

namespace limen::boot::acpi {
namespace {

using Bytes = std::vector<std::byte>;

constexpr size_t kHeaderSize = 36;
constexpr size_t kLengthOffset = 4;
constexpr size_t kChecksumOffset = 9;
constexpr std::string_view kOemId = "LIMEN ";
constexpr uint64_t kRsdpAddress = 0xF'0000;
constexpr size_t kRsdpSize = 36;
constexpr uint32_t kTpmLogOffset = 68;  ///< Of its address in the table TPM2, its size in front.
constexpr size_t kRsdpFirstPart = 20;   ///< What ACPI 1.0 knows, with a checksum of its own.

void append_zeroes(Bytes& bytes, size_t count) { bytes.resize(bytes.size() + count); }

/// A system description table header (ACPI 6.5 5.2.6); finish() fills in length and checksum.
Bytes begin(std::string_view signature, uint8_t revision) {
  Bytes table;
  append_text(table, signature);
  append(table, uint32_t{0});
  append(table, revision);
  append(table, uint8_t{0});
  append_text(table, kOemId);
  append_text(table, "LIMENPC ");
  append(table, uint32_t{1});
  append_text(table, "LIMN");
  append(table, uint32_t{1});
  assert(table.size() == kHeaderSize);
  return table;
}

Bytes finish(Bytes table) {
  set_field(table, kLengthOffset, static_cast<uint32_t>(table.size()));
  table[kChecksumOffset] = std::byte{0};
  table[kChecksumOffset] = checksum(table);
  return table;
}

/// A generic address (5.2.3.2) of an I/O port. `access`: 1 byte, 2 word, 3 double word.
void set_port(Bytes& table, size_t offset, uint16_t port, unsigned bits, uint8_t access) {
  constexpr uint8_t kSystemIo = 1;
  set_field(table, offset, kSystemIo);
  set_field(table, offset + 1, static_cast<uint8_t>(bits));
  set_field(table, offset + 3, access);
  set_field(table, offset + 4, uint64_t{port});
}

/// ACPI 6.5 5.2.10: no header of the usual kind, no checksum.
Bytes facs() {
  Bytes table;
  append_text(table, "FACS");
  append(table, uint32_t{64});
  append_zeroes(table, 64 - table.size());
  set_field(table, 32, uint8_t{2});  // version
  return table;
}

/// ACPI 6.5 5.2.9, table 5.9; offsets as there.
Bytes fadt(const Board& board, uint64_t facs_address, uint64_t dsdt_address) {
  constexpr size_t kSize = 276;
  constexpr uint16_t kNoSuchState = 0xFFF;  // latency above the limit: no C2, no C3
  constexpr uint16_t kLegacyDevices = 1u << 0, kKeyboardController = 1u << 1,
                     kVgaNotPresent = 1u << 2, kNoRtc = 1u << 5;
  constexpr uint32_t kWbinvd = 1u << 0, kC1 = 1u << 2, kNoSleepButton = 1u << 5,
                     kNoFixedRtcWake = 1u << 6, kTimerIs32Bit = 1u << 8, kResetRegister = 1u << 10;
  const auto control_port = static_cast<uint16_t>(board.pm_base + kControlOffset),
             timer_port = static_cast<uint16_t>(board.pm_base + kTimerOffset),
             gpe0_port = static_cast<uint16_t>(board.pm_base + kGpe0Offset);
  Bytes table = begin("FACP", 6);
  append_zeroes(table, kSize - table.size());
  set_field(table, 36, static_cast<uint32_t>(facs_address));
  set_field(table, 40, static_cast<uint32_t>(dsdt_address));
  set_field(table, 46, uint16_t{kSciInterrupt});
  set_field(table, 48, uint32_t{kSmiCommandPort});
  set_field(table, 52, kAcpiEnable);
  set_field(table, 53, kAcpiDisable);
  set_field(table, 56, uint32_t{board.pm_base});
  set_field(table, 64, uint32_t{control_port});
  set_field(table, 76, uint32_t{timer_port});
  set_field(table, 80, uint32_t{gpe0_port});
  set_field(table, 88, uint8_t{4});
  set_field(table, 89, uint8_t{2});
  set_field(table, 91, uint8_t{4});
  set_field(table, 92, kGpe0Length);
  set_field(table, 96, kNoSuchState);
  set_field(table, 98, kNoSuchState);
  set_field(table, 108, kCenturyRegister);
  set_field(table, 109,
            static_cast<uint16_t>(kLegacyDevices | (board.vga ? 0 : kVgaNotPresent) |
                                  (board.keyboard_controller ? kKeyboardController : 0) |
                                  (board.rtc ? 0 : kNoRtc)));
  // The power button is a fixed feature: its bit in PM1_STS, no device in the DSDT.
  set_field(table, 112,
            kWbinvd | kC1 | kNoSleepButton | (board.suspend_to_ram ? 0 : kNoFixedRtcWake) |
                kTimerIs32Bit | kResetRegister);
  set_port(table, 116, kResetPort, 8, 1);
  set_field(table, 128, kResetValue);
  set_field(table, 131, uint8_t{5});  // minor version: ACPI 6.5
  set_field(table, 140, dsdt_address);
  set_port(table, 148, board.pm_base, 32, 2);
  set_port(table, 172, control_port, 16, 2);
  set_port(table, 208, timer_port, 32, 3);
  set_port(table, 220, gpe0_port, kGpe0Length * 8u, 1);
  return finish(std::move(table));
}

/// ACPI 6.5 5.2.12.
Bytes madt(const Board& board) {
  constexpr uint32_t kHas8259 = 1, kEnabled = 1;
  constexpr uint16_t kLevelActiveHigh = 0xD;
  constexpr unsigned kFirstX2ApicId = 255;
  Bytes table = begin("APIC", 5);
  append(table, static_cast<uint32_t>(kLocalApicBase));
  append(table, board.pic ? kHas8259 : 0);
  bool has_x2apic_ids = false;
  for (unsigned i = 0; i < board.vcpus; ++i) {
    const uint32_t id = board.apic_ids.empty() ? i : board.apic_ids[i];
    if (id < kFirstX2ApicId && i < kFirstX2ApicId) {
      append(table, uint16_t{0x0800});  // type 0, 8 bytes: local APIC
      append(table, static_cast<uint8_t>(i));
      append(table, static_cast<uint8_t>(id));
      append(table, kEnabled);
    } else {
      has_x2apic_ids = true;
      append(table, uint16_t{0x1009});  // type 9, 16 bytes: local x2APIC
      append(table, uint16_t{0});
      append(table, id);
      append(table, kEnabled);
      append(table, uint32_t{i});
    }
  }
  append(table, uint16_t{0x0C01});  // type 1, 12 bytes: I/O APIC
  append(table, uint16_t{0});       // its id
  append(table, static_cast<uint32_t>(kIoApicBase));
  append(table, uint32_t{0});  // first GSI
  const auto override_irq = [&table](uint8_t irq, uint32_t gsi, uint16_t flags) {
    append(table, uint16_t{0x0A02});  // type 2, 10 bytes: interrupt source override
    append(table, uint8_t{0});        // ISA
    append(table, irq);
    append(table, gsi);
    append(table, flags);
  };
  override_irq(0, 2, 0);
  override_irq(kSciInterrupt, kSciInterrupt, kLevelActiveHigh);
  if (board.chipset == Chipset::kI440fx)  // what the PIRQs may be routed to
    for (const uint8_t irq : {uint8_t{5}, uint8_t{10}, uint8_t{11}})
      override_irq(irq, irq, kLevelActiveHigh);
  append(table, uint16_t{0x0604});  // type 4, 6 bytes: local APIC NMI
  append(table, uint8_t{0xFF});     // of every processor
  append(table, uint16_t{0});
  append(table, uint8_t{1});  // LINT1
  if (has_x2apic_ids) {
    append(table, uint16_t{0x0C0A});  // type 10, 12 bytes: local x2APIC NMI
    append(table, uint16_t{0});
    append(table, UINT32_MAX);
    append(table, uint8_t{1});
    append_zeroes(table, 3);
  }
  return finish(std::move(table));
}

Bytes mcfg(uint64_t base) {
  constexpr uint64_t kBusSize = uint64_t{1} << 20;
  Bytes table = begin("MCFG", 1);
  append_zeroes(table, 8);
  append(table, base);
  append(table, uint16_t{0});  // segment group
  append(table, uint8_t{0});
  append(table, static_cast<uint8_t>(kEcamSize / kBusSize - 1));
  append_zeroes(table, 4);
  return finish(std::move(table));
}

Bytes hpet() {
  // Revision 1, three timers, 64-bit counter, legacy routing, PCI vendor 8086H: the low half of the
  // capability register (IA-PC HPET 1.0a 2.3.4).
  constexpr uint32_t kBlockId = 0x8086'A201;
  constexpr uint16_t kMinimumTick = 128;
  Bytes table = begin("HPET", 1);
  append(table, kBlockId);
  append(table, uint32_t{0});  // generic address in memory, no width or offset
  append(table, kHpetBase);
  append(table, uint8_t{0});
  append(table, kMinimumTick);
  append(table, uint8_t{0});
  return finish(std::move(table));
}

/// TCG ACPI Specification 1.2, 8.2; what starts a command is the interface's own.
Bytes tpm2(const Board& board) {
  constexpr uint32_t kMemoryMapped = 6, kCommandBuffer = 7;
  constexpr uint64_t kControlArea = device::TpmCrb::kBase + 0x40;  // CTRL_REQ
  const bool fifo = board.tpm == Board::Tpm::kTis;
  Bytes table = begin("TPM2", 4);
  append(table, uint32_t{0});  // of a client
  append(table, fifo ? uint64_t{0} : kControlArea);
  append(table, fifo ? kMemoryMapped : kCommandBuffer);
  append_zeroes(table, 12);
  assert(table.size() == kTpmLogOffset - 4);
  // Without firmware nobody writes a log.
  append(table, board.fw_cfg ? kTpmLogSize : uint32_t{0});
  append(table, uint64_t{0});
  return finish(std::move(table));
}

Bytes dsdt(const Board& board) {
  Bytes table = begin("DSDT", 2);
  const auto body = dsdt_body(board);
  table.insert(table.end(), body.bytes.begin(), body.bytes.end());
  return finish(std::move(table));
}

uint64_t address_of(const std::vector<Table>& tables, std::string_view signature) {
  const auto found = std::ranges::find(tables, signature, &Table::signature);
  return found == tables.end() ? 0 : found->address.value;
}

}  // namespace

std::vector<Table> build_tables(const Board& board, GuestPhysicalAddress start) {
  constexpr uint64_t kAlignment = 64;
  std::vector<Table> tables;
  GuestPhysicalAddress next = start;
  const auto place = [&](std::string_view signature, Bytes bytes,
                         std::vector<Table::Pointer> pointers = {}) {
    const uint64_t size = bytes.size();
    tables.push_back({std::string(signature), next, std::move(bytes), std::move(pointers)});
    next = next + ((size + kAlignment - 1) & ~(kAlignment - 1));
    return tables.back().address.value;
  };
  const uint64_t facs_address = place("FACS", facs());
  next = start + memory::kPageSize;  // the FACS has its own page: e820_map()
  const uint64_t dsdt_address = place("DSDT", dsdt(board));
  std::vector<uint64_t> listed = {
      place("FACP", fadt(board, facs_address, dsdt_address), {{36, 4}, {40, 4}, {140, 8}}),
      place("APIC", madt(board))};
  if (board.ecam_base != 0) listed.push_back(place("MCFG", mcfg(board.ecam_base)));
  if (board.hpet) listed.push_back(place("HPET", hpet()));
  if (board.tpm != Board::Tpm::kNone)
    listed.push_back(place("TPM2", tpm2(board),
                           board.fw_cfg ? std::vector<Table::Pointer>{{kTpmLogOffset, 8, true}}
                                        : std::vector<Table::Pointer>{}));
  Bytes rsdt = begin("RSDT", 1), xsdt = begin("XSDT", 1);
  std::vector<Table::Pointer> rsdt_pointers, xsdt_pointers;
  for (const uint64_t address : listed) {
    rsdt_pointers.push_back({static_cast<uint32_t>(rsdt.size()), 4});
    xsdt_pointers.push_back({static_cast<uint32_t>(xsdt.size()), 8});
    append(rsdt, static_cast<uint32_t>(address));
    append(xsdt, address);
  }
  place("RSDT", finish(std::move(rsdt)), std::move(rsdt_pointers));
  place("XSDT", finish(std::move(xsdt)), std::move(xsdt_pointers));
  return tables;
}

std::vector<std::byte> build_rsdp(const std::vector<Table>& tables) {
  Bytes rsdp;
  append_text(rsdp, "RSD PTR ");
  append(rsdp, uint8_t{0});
  append_text(rsdp, kOemId);
  append(rsdp, uint8_t{2});  // revision
  append(rsdp, static_cast<uint32_t>(address_of(tables, "RSDT")));
  append(rsdp, static_cast<uint32_t>(kRsdpSize));
  append(rsdp, address_of(tables, "XSDT"));
  append_zeroes(rsdp, 4);
  assert(rsdp.size() == kRsdpSize);
  rsdp[8] = checksum(std::span(rsdp).first(kRsdpFirstPart));
  rsdp[32] = checksum(rsdp);
  return rsdp;
}

Result<InstalledTables> install_tables(memory::GuestMemory& memory, const Board& board) {
  const auto start = acpi_region(memory);
  const auto tables = build_tables(board, start);
  const uint64_t size = (tables.back().address - start) + tables.back().bytes.size();
  if (size > kAcpiRegionSize)
    return fail("ACPI tables for {} processors need {} bytes: only {} are set aside", board.vcpus,
                size, kAcpiRegionSize);
  for (const auto& table : tables) LIMEN_TRY(memory.write(table.address, table.bytes));
  LIMEN_TRY(memory.write({kRsdpAddress}, build_rsdp(tables)));
  return InstalledTables{{kRsdpAddress}, start, size};
}

}  // namespace limen::boot::acpi
