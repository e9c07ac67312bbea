// The parts of a Board that tell pc and q35 apart, and firmware's view of it.
#include "machine/chipset.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>

#include "boot/acpi/loader.h"
#include "boot/memory_map.h"
#include "boot/smbios.h"
#include "device/acpi_pm.h"
#include "device/fw_cfg.h"
#include "device/pvpanic.h"
#include "device/system_control.h"
#include "machine/board.h"
#include "machine/device_catalog.h"
#include "machine/device_factory.h"
#include "machine/firmware.h"
#include "machine/microvm.h"
#include "pci/i440fx_host_bridge.h"
#include "pci/ich_lpc.h"
#include "pci/piix3_isa.h"
#include "pci/piix4_pm.h"
#include "pci/q35_host_bridge.h"
#include "pci/shadow_ram.h"
#include "storage/flash/parallel_flash.h"

namespace limen::machine {
namespace {

using Bytes = device::FwCfg::Bytes;

/// The most that the tables can be made to need: their file has a fixed size.
constexpr size_t kTablesSize = boot::kAcpiRegionSize;
constexpr uint64_t kGibibyte = uint64_t{1} << 30;
constexpr uint64_t kPciEnd = 0xFEBF'FFFF;
/// The lowest address below 4 GiB that firmware gives to PCI.
constexpr uint64_t kLowestWindow = 0x8000'0000;

Bytes as_bytes(std::span<const std::byte> content) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(content.data());
  return {bytes, bytes + content.size()};
}

uint64_t low_ram_end(const memory::GuestMemory& memory) {
  uint64_t end = 0;
  for (const auto& region : memory.regions())
    if (region.start.value < boot::kHighRamStart) end = region.start.value + region.size;
  return end;
}

uint64_t high_ram_end(const memory::GuestMemory& memory) {
  const auto& last = memory.regions().back();
  return std::max(last.start.value + last.size, boot::kHighRamStart);
}

/// The map of RAM, 20 bytes an entry: what firmware adds its own to.
Bytes e820_file(const memory::GuestMemory& memory) {
  Bytes file;
  const auto add = [&file](uint64_t start, uint64_t size) {
    for (unsigned i = 0; i < 8; ++i) file.push_back(static_cast<uint8_t>(start >> (8 * i)));
    for (unsigned i = 0; i < 8; ++i) file.push_back(static_cast<uint8_t>(size >> (8 * i)));
    for (unsigned i = 0; i < 4; ++i) file.push_back(i == 0 ? 1 : 0);  // RAM
  };
  add(0, low_ram_end(memory));
  if (const uint64_t end = high_ram_end(memory); end > boot::kHighRamStart)
    add(boot::kHighRamStart, end - boot::kHighRamStart);
  return file;
}

/// Where firmware put BARs above 4 GiB, or room for them.
boot::acpi::Window high_window(const pci::PciBus& bus, const memory::GuestMemory& memory,
                               unsigned physical_address_bits) {
  uint64_t first = UINT64_MAX, last = 0;
  for (const auto* function : bus.functions())
    for (unsigned i = 0; i < pci::PciFunction::kBarCount; ++i)
      if (const auto at = function->bar_mapping(i); at && *at >= boot::kHighRamStart) {
        first = std::min(first, *at);
        last = std::max(last, *at + function->bar(i).size - 1);
      }
  constexpr uint64_t kRoom = 32 * kGibibyte;
  if (last == 0) {
    first = (high_ram_end(memory) + kGibibyte - 1) / kGibibyte * kGibibyte;
    last = first + kRoom - 1;
  } else {
    first = first / kGibibyte * kGibibyte;
    last = (last / kGibibyte + 1) * kGibibyte - 1;
  }
  if (last >> physical_address_bits != 0) return {};
  return {first, last};
}

}  // namespace

Result<> Board::build_q35(device::ResetControl& reset_control) {
  auto host_bridge =
      std::make_unique<pci::Q35HostBridge>(*bus_, ports_, mmio_, &reset_control, shadow_ram_.get());
  auto lpc = std::make_unique<pci::IchLpc>(*pci_lines_, ports_, acpi_pm_);
  LIMEN_TRY(bus_->attach(*host_bridge, "0x0"));
  LIMEN_TRY(bus_->attach(*lpc, "0x1f"));
  bus_->connect_interrupts(*lpc);
  devices_.push_back(std::move(host_bridge));
  devices_.push_back(std::move(lpc));
  return {};
}

Result<> Board::build_pc(device::ResetControl& reset_control) {
  auto host_bridge =
      std::make_unique<pci::I440fxHostBridge>(*bus_, ports_, &reset_control, shadow_ram_.get());
  auto isa = firmware_ ? std::make_unique<pci::Piix3Isa>(*pci_lines_)
                       : std::make_unique<pci::Piix3Isa>(*pci_lines_, kPcPirqRoutes);
  auto pm = std::make_unique<pci::Piix4Pm>(ports_, *acpi_pm_,
                                           firmware_ ? uint16_t{0} : boot::acpi::kPm1aEventPort);
  piix4_pm_ = pm.get();
  LIMEN_TRY(bus_->attach(*host_bridge, "0x0"));
  LIMEN_TRY(bus_->attach(*isa, "0x1"));
  LIMEN_TRY(bus_->attach(*pm, "0x1.0x3"));
  bus_->connect_interrupts(*isa);
  devices_.push_back(std::move(host_bridge));
  devices_.push_back(std::move(isa));
  devices_.push_back(std::move(pm));
  return {};
}

Result<> Board::install_firmware(std::span<const std::byte> bios) {
  auto top = LIMEN_TRY(install_flash());
  if (top.empty()) {
    top = bios_ = LIMEN_TRY(memory_.reserve(bios.size()));
    std::memcpy(bios_.data(), bios.data(), bios.size());
    memory_.map({boot::kHighRamStart - bios_.size()}, bios_, false);
  }
  // What is less than 128 KiB shows at the end of the area.
  const size_t shown = std::min<size_t>(top.size(), pci::ShadowRam::kBiosSize);
  shadow_ram_ = std::make_unique<pci::ShadowRam>(
      memory_, mmio_, memory_.file_bytes(pci::ShadowRam::kStart, pci::ShadowRam::kSize),
      top.last(shown));
  return {};
}

Result<std::span<std::byte>> Board::install_flash() {
  std::map<unsigned, Drive*> units;
  for (auto& drive : drives_) {
    if (drive.description.interface != "pflash") continue;
    const unsigned unit = drive.description.index.value_or(
        drive.description.unit.value_or(static_cast<unsigned>(units.size())));
    if (unit >= kFlashes)
      return fail("machine type does not support if=pflash,bus=0,unit={}", unit);
    if (!units.emplace(unit, &drive).second)
      return fail("drive with bus=0, unit={} (index={}) exists", unit, unit);
  }
  if (units.empty()) return std::span<std::byte>{};
  if (!units.contains(0)) return fail("pflash1 requires pflash0");
  std::span<std::byte> first;
  uint64_t end = boot::kHighRamStart, total = 0;
  for (auto& [unit, drive] : units) {
    if (drive->image == nullptr) return fail("pflash{}: there is no image", unit);
    total += drive->image->size();
    if (total > kMostFlash)
      return fail("combined size of system firmware exceeds {} bytes", kMostFlash);
    auto flash = LIMEN_TRY(storage::ParallelFlash::create(fmt::format("system.flash{}", unit),
                                                          memory_, mmio_, *drive->image, end));
    drive->in_use = true;
    drive->user = flash.get();
    // A processor waits for what it programs: an error that stopped the machine would hold it.
    if (drive->errors != nullptr)
      drive->errors->set_actions(block::ErrorAction::kReport, block::ErrorAction::kReport);
    end = flash->start();
    if (unit == 0) first = flash->bytes();
    devices_.push_back(std::move(flash));
  }
  return first;
}

bool can_suspend_to_ram(const MachineDescription& description) {
  return description.suspend_to_ram && description.acpi && description.type != "microvm";
}

bool can_suspend_to_disk(const MachineDescription& description) {
  return description.suspend_to_disk && description.acpi && description.type != "microvm";
}

boot::acpi::Board acpi_board(const MachineDescription& description,
                             std::span<const uint32_t> apic_ids) {
  using boot::acpi::Chipset;
  // ACPI describes serial ports from COM1 on.
  constexpr unsigned kDescribedSerialPorts = 2;
  const auto gap = std::ranges::find(description.serials, "");
  const auto serials = static_cast<unsigned>(gap - description.serials.begin());
  boot::acpi::Board board;
  board.chipset = description.type == "pc" ? Chipset::kI440fx : Chipset::kQ35;
  if (!has_pci(description)) board.chipset = Chipset::kNone;
  board.vcpus = static_cast<unsigned>(apic_ids.size());
  board.apic_ids = apic_ids;
  board.hpet = description.hpet;
  board.suspend_to_ram = can_suspend_to_ram(description);
  board.suspend_to_disk = can_suspend_to_disk(description);
  board.serial_ports = std::min(serials, kDescribedSerialPorts);
  for (const auto& device : description.devices) {
    using Interface = boot::acpi::Board::Tpm;
    if (device.driver == "tpm-tis") board.tpm = Interface::kTis;
    if (device.driver == "tpm-crb") board.tpm = Interface::kCrb;
    if (device.driver == "pvpanic")
      board.panic_port = static_cast<uint16_t>(
          DeviceProperties(device).number("ioport", device::IsaPvpanic::kDefaultPort));
  }
  if (board.chipset != Chipset::kQ35) board.ecam_base = 0;
  if (description.type == "microvm") {
    board.keyboard_controller = false;
    board.rtc = description.microvm.rtc;
    board.pic = description.microvm.pic;
    if (!description.microvm.isa_serial) board.serial_ports = 0;
  }
  board.pit = description.pit;
  board.virtio = virtio_places(description);
  return board;
}

boot::acpi::Board Board::acpi_board(const MachineDescription& description) const {
  auto board = machine::acpi_board(description, apic_ids_);
  board.fw_cfg = true;
  board.vga = true;
  if (piix4_pm_ != nullptr && piix4_pm_->pm_base() != 0) board.pm_base = piix4_pm_->pm_base();
  const uint64_t start = std::max(low_ram_end(memory_), kLowestWindow);
  if (board.ecam_base == 0) {
    board.memory_windows = {{start, kPciEnd}};
  } else {
    if (start < board.ecam_base) board.memory_windows.push_back({start, board.ecam_base - 1});
    board.memory_windows.push_back({board.ecam_base + boot::kEcamSize, kPciEnd});
  }
  const auto* sizes = cpuid_.find(0x8000'0008, 0);
  board.high_window = high_window(
      *bus_, memory_, sizes != nullptr && (sizes->eax & 0xFF) != 0 ? sizes->eax & 0xFF : 36);
  return board;
}

Result<> Board::describe_to_firmware(const MachineDescription& description) {
  auto& fw_cfg = *fw_cfg_;
  fw_cfg.set_file("etc/e820", e820_file(memory_));
  if (description.acpi) {
    const auto files = boot::acpi::build_loader_files(acpi_board(description));
    if (files.tables.size() > kTablesSize)
      return fail("ACPI tables for {} processors need {} bytes: only {} are set aside",
                  apic_ids_.size(), files.tables.size(), kTablesSize);
    // Made when they are asked for: by then firmware has given PCI its addresses.
    fw_cfg.set_file(boot::acpi::kTablesFile, kTablesSize, [this, description] {
      auto tables = as_bytes(boot::acpi::build_loader_files(acpi_board(description)).tables);
      tables.resize(kTablesSize);
      return tables;
    });
    if (std::ranges::any_of(tpms_, [](const Tpm& tpm) { return !tpm.model.empty(); }))
      fw_cfg.set_file(boot::acpi::kTpmLogFile, Bytes(boot::acpi::kTpmLogSize));
    fw_cfg.set_file(boot::acpi::kRsdpFile, as_bytes(files.rsdp));
    fw_cfg.set_file(boot::acpi::kLoaderFile, as_bytes(files.script));
  }

  boot::smbios::Machine machine;
  machine.identity.product =
      type_ == "pc" ? "Standard PC (i440FX + PIIX, 1996)" : "Standard PC (Q35 + ICH9, 2009)";
  machine.identity.version = type_ == "pc" ? "pc-i440fx-7.2" : "pc-q35-7.2";
  machine.identity.chassis_version = machine.identity.processor_version = machine.identity.version;
  machine.identity.uuid = description.uuid;
  machine.memory_bytes = description.memory_bytes;
  machine.low_memory_bytes = low_ram_end(memory_);
  const auto topology =
      description.topology.value_or(x86::Topology{.cores = std::max(description.vcpus, 1u)});
  machine.sockets = topology.sockets;
  machine.cores = topology.cores;
  machine.threads = topology.threads;
  if (const auto* features = cpuid_.find(1, 0)) {
    machine.cpu_signature = features->eax;
    machine.cpu_features = features->edx;
  }
  const auto smbios = boot::smbios::build(machine);
  fw_cfg.set_file("etc/smbios/smbios-tables", as_bytes(smbios.structures));
  fw_cfg.set_file("etc/smbios/smbios-anchor", as_bytes(smbios.anchor));
  // By state the SLP_TYP of the DSDT, and bit 7 where the guest has it.
  const auto state = [](bool there, uint8_t type) {
    return static_cast<uint8_t>(type | (there ? 0x80 : 0));
  };
  fw_cfg.set_file(
      "etc/system-states",
      Bytes{0x80, 0, 0, state(can_suspend_to_ram(description), boot::acpi::kSuspendSleepType),
            state(can_suspend_to_disk(description), boot::acpi::kHibernateSleepType),
            state(true, boot::acpi::kSoftOffSleepType)});
  if (const auto order = factory_->boot_order(description.boot.strict); !order.empty()) {
    Bytes lines(order.begin(), order.end());
    lines.back() = 0;  // in place of the last line's end
    fw_cfg.set_file("bootorder", std::move(lines));
  }
  return describe_boot(description, fw_cfg);
}

}  // namespace limen::machine
