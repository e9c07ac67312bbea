// IDE registers of a hostile guest: a disk and a CD drive on one channel, data by PIO and by the
// bus master with its tables in memory.
#include "base/log.h"
#include "fuzz/storage_fuzz.h"
#include "pci/pci_bus.h"
#include "storage/ata/disk.h"
#include "storage/ata/packet_drive.h"
#include "storage/ide/piix3_ide.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limen;
  using fuzz::require;
  constexpr uint64_t kRam = 64 << 10;
  constexpr uint16_t kCommand = 0x1F0, kControl = 0x3F6, kMaster = 0xC000;
  log::set_level(log::Level::kError);
  const memory::GuestMemory::Layout layout{{0}, kRam};
  static auto memory = *memory::GuestMemory::create(std::span(&layout, 1));
  const auto ram = memory->span({0}, kRam);
  std::memset(ram.data(), 0, ram.size());

  memory::IoSpace ports("ports"), mmio("mmio");
  fuzz::Disk disk(false), disc(true);
  pci::PciBus bus("pci.0", {.ports = &ports, .mmio = &mmio});
  storage::Piix3Ide function("fuzz", *memory, ports, {});
  require(function.attach_drive(0, 0, *storage::ata::Disk::create({}, disk)).has_value());
  auto owned = *block::scsi::Cd::create({}, &disc);
  auto* const cd = owned.get();
  require(function.attach_drive(0, 1, *storage::ata::PacketDrive::create({}, std::move(owned)))
              .has_value());
  require(bus.attach(function).has_value());
  require(pci::assign_resources(bus, {0xC000'0000, 1 << 20}, {kMaster, 0x1000}).has_value());
  function.config_write(4, 2, 5);

  fuzz::Reader input{{data, size}};
  while (!input.left.empty()) {
    switch (const uint64_t what = input.take(1); what % 10) {
      case 0:
      case 1:
        ports.write(kCommand + input.take(1) % 8, 1, input.take(1));
        break;
      case 2:
        ports.write(kCommand, 1u << what / 10 % 3, input.take(4));
        break;
      case 3:
        ports.read(kCommand + what / 10 % 8, 1u << input.take(1) % 3);
        break;
      case 4: {  // a whole data request
        for (uint64_t left = input.take(1) * 8; left != 0; --left)
          if ((what & 0x80) != 0)
            ports.read(kCommand, 4);
          else
            ports.write(kCommand, 4, left);
        break;
      }
      case 5:
        ports.write(kControl, 1, input.take(1));
        break;
      case 6:
        ports.write(kMaster + what / 10 % 8, 1u << input.take(1) % 3, input.take(4));
        break;
      case 7:
        input.scribble(ram);
        break;
      case 8: {  // a packet
        ports.write(kCommand + 6, 1, 0x10);
        ports.write(kCommand + 1, 1, what >> 7);
        ports.write(kCommand + 7, 1, 0xA0);
        for (unsigned i = 0; i < 3; ++i) ports.write(kCommand, 4, input.take(4));
        break;
      }
      default:
        switch (input.take(1) % 6) {
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
          default:
            function.reset();
            function.config_write(0x20, 4, kMaster);
            function.config_write(4, 2, 5);
        }
    }
  }
  disk.release();
  disc.release();
  return 0;
}
