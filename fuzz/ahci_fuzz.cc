// AHCI under a hostile driver: registers, command lists, tables and frames in any order, before a
// disk and a CD drive.
#include "base/log.h"
#include "fuzz/storage_fuzz.h"
#include "pci/pci_bus.h"
#include "storage/ahci/ahci.h"
#include "storage/ata/disk.h"
#include "storage/ata/packet_drive.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limen;
  using fuzz::require;
  constexpr uint64_t kRam = 64 << 10;
  constexpr uint32_t kLists = 0x1000, kReceived = 0x2000, kTables = 0x4000;
  log::set_level(log::Level::kError);
  const memory::GuestMemory::Layout layout{{0}, kRam};
  static auto memory = *memory::GuestMemory::create(std::span(&layout, 1));
  const auto ram = memory->span({0}, kRam);
  std::memset(ram.data(), 0, ram.size());

  memory::IoSpace ports("ports"), mmio("mmio");
  fuzz::NullMsi msi;
  fuzz::Disk disk(false), disc(true);
  pci::PciBus bus("pcie.0", {.ports = &ports, .mmio = &mmio, .msi = &msi});
  storage::Ahci controller("fuzz", *memory);
  require(
      controller
          .attach_drive(0, *storage::ata::Disk::create({.identity = {.serial_ata = true}}, disk))
          .has_value());
  auto owned = *block::scsi::Cd::create({}, &disc);
  auto* const cd = owned.get();
  require(controller
              .attach_drive(
                  1, *storage::ata::PacketDrive::create({.serial_ata = true}, std::move(owned)))
              .has_value());
  require(bus.attach(controller).has_value());
  require(pci::assign_resources(bus, {0xC000'0000, 1 << 20}, {0xC000, 0x1000}).has_value());
  controller.config_write(4, 2, 7);
  const uint64_t base = *controller.bar_mapping(storage::Ahci::kRegisterBar);
  const auto put = [&](unsigned port, uint32_t offset, uint64_t value) {
    mmio.write(base + 0x100 + port * 0x80 + offset, 4, value);
  };
  // A driver that behaves up to here, so that most inputs reach the drives.
  const auto start = [&] {
    mmio.write(base + 4, 4, 2);
    for (unsigned port = 0; port < 2; ++port) {
      put(port, 0x00, kLists + port * 0x400);
      put(port, 0x08, kReceived + port * 0x100);
      put(port, 0x14, ~0u);
      put(port, 0x18, 0x10);
      put(port, 0x18, 0x11);
    }
  };
  start();

  fuzz::Reader input{{data, size}};
  while (!input.left.empty()) {
    switch (const uint64_t what = input.take(1); what % 8) {
      case 0:
        put(static_cast<unsigned>(what / 8 % 3), static_cast<uint32_t>(input.take(1) % 0x80) & ~3u,
            input.take(4));
        break;
      case 1:
        mmio.write(base + input.take(2) % 0x1000, 1u << what / 8 % 4, input.take(4));
        break;
      case 2:
        mmio.read(base + input.take(2) % 0x1000, 1u << what / 8 % 4);
        break;
      case 3:
        input.scribble(ram);
        break;
      case 4:
        switch (input.take(1) % 7) {
          case 0:
            disk.hold = disc.hold = true;
            break;
          case 1:
            disk.release();
            disc.release();
            break;
          case 2:
            disk.error = disc.error = disk.error == 0 ? 5 : 0;
            break;
          case 3:
            (void)cd->open_tray(true);
            break;
          case 4:
            cd->close_tray();
            break;
          case 5:
            start();
            break;
          default:
            controller.reset();
            controller.config_write(0x24, 4, static_cast<uint32_t>(base));
            controller.config_write(4, 2, 7);
            start();
        }
        break;
      default: {  // a command in a slot of its own
        const auto port = static_cast<unsigned>(what / 8 % 2);
        const uint64_t slot = what / 16 % 8, table = kTables + slot * 0x200;
        const uint64_t regions = input.take(1) % 8;
        const uint64_t header = 5 | regions << 16;
        std::memcpy(ram.data() + kLists + port * 0x400 + slot * 32, &header, 8);
        std::memcpy(ram.data() + kLists + port * 0x400 + slot * 32 + 8, &table, 8);
        ram[table] = std::byte{0x27};
        ram[table + 1] = std::byte{0x80};
        input.take_into(ram.subspan(table + 2, 14));
        if (port == 1 && (what & 0x40) != 0) {
          ram[table + 2] = std::byte{0xA0};
          input.take_into(ram.subspan(table + 0x40, 12));
        }
        for (uint64_t i = 0; i < regions; ++i) {
          const uint64_t where = input.take(2), length = input.take(2);
          std::memcpy(ram.data() + table + 0x80 + 16 * i, &where, 8);
          std::memcpy(ram.data() + table + 0x8C + 16 * i, &length, 4);
        }
        put(port, 0x34, uint64_t{1} << slot);
        put(port, 0x38, uint64_t{1} << slot);
      }
    }
  }
  disk.release();
  disc.release();
  return 0;
}
