// Makes the devices that -device and -drive ask for and plugs them into a board.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "machine/board.h"
#include "machine/description.h"
#include "machine/device_catalog.h"

namespace limen::storage::ata {
class Device;
struct Identity;
}  // namespace limen::storage::ata
namespace limen::virtio {
class Scsi;
class VirtioDevice;
class VirtioTransport;
}  // namespace limen::virtio
namespace limen::usb {
class UsbDevice;
class Xhci;
}  // namespace limen::usb
namespace limen::block::scsi {
class Cd;
struct DiskProperties;
class LogicalUnit;
}  // namespace limen::block::scsi

namespace limen::machine {

/// Bytes that the description's displays take of GuestMemory::reserve().
[[nodiscard]] uint64_t display_memory(const MachineDescription& description);
/// It makes a picture; such a device stays where it is while the machine runs.
[[nodiscard]] bool is_display(std::string_view driver);

class DeviceFactory {
 public:
  explicit DeviceFactory(Board& board) : board_(board) {}

  /// Every device of the description, then a virtio disk for every drive with interface "virtio".
  Result<> create_all(const MachineDescription& description);

  /// One more, into the slot of a root port, and tells the guest.
  Result<> plug(const DeviceDescription& description);
  /// Paths of what has a bootindex=, a line each, as firmware takes them from fw_cfg; `strict`: and
  /// then nothing else.
  [[nodiscard]] std::string boot_order(bool strict) const;
  /// Takes SCSI unit `id` out at once; false: there is none.
  bool unplug_scsi(const std::string& id);
  /// The same for a USB device.
  bool unplug_usb(const std::string& id);
  [[nodiscard]] std::vector<UsbInformation> usb_devices() const;
  /// Before the end of a function that is unplugged: gives back what it had.
  void forget(pci::PciFunction& function);

 private:
  using Create = Result<> (DeviceFactory::*)(const DeviceDescription&, const DeviceProperties&);
  static Create find(const std::string& driver);

  Result<> create(const DeviceDescription& description);
  Result<> create_block(const DeviceDescription&, const DeviceProperties&);
  Result<> create_scsi_bus(const DeviceDescription&, const DeviceProperties&);
  Result<> create_scsi_disk(const DeviceDescription&, const DeviceProperties&);
  Result<> create_scsi_cd(const DeviceDescription&, const DeviceProperties&);
  Result<> create_ide_disk(const DeviceDescription&, const DeviceProperties&);
  Result<> create_ide_cd(const DeviceDescription&, const DeviceProperties&);
  Result<> create_ahci(const DeviceDescription&, const DeviceProperties&);
  Result<> create_piix3_ide(const DeviceDescription&, const DeviceProperties&);
  Result<> create_nvme(const DeviceDescription&, const DeviceProperties&);
  Result<> create_entropy(const DeviceDescription&, const DeviceProperties&);
  Result<> create_balloon(const DeviceDescription&, const DeviceProperties&);
  Result<> create_pvpanic(const DeviceDescription&, const DeviceProperties&);
  Result<> create_watchdog(const DeviceDescription&, const DeviceProperties&);
  Result<> create_tpm(const DeviceDescription&, const DeviceProperties&);
  Result<> create_pvpanic_pci(const DeviceDescription&, const DeviceProperties&);
  Result<> create_serial_bus(const DeviceDescription&, const DeviceProperties&);
  Result<> create_serial(const DeviceDescription&, const DeviceProperties&);
  Result<> create_port(const DeviceDescription&, const DeviceProperties&);
  Result<> create_debug_exit(const DeviceDescription&, const DeviceProperties&);
  Result<> create_debug_console(const DeviceDescription&, const DeviceProperties&);
  Result<> create_e1000(const DeviceDescription&, const DeviceProperties&);
  Result<> create_net(const DeviceDescription&, const DeviceProperties&);
  Result<> create_test_device(const DeviceDescription&, const DeviceProperties&);
  // In usb_factory.cc:
  struct UsbBus;
  struct UsbUnit;
  Result<> create_xhci(const DeviceDescription&, const DeviceProperties&);
  Result<> create_usb_hid(const DeviceDescription&, const DeviceProperties&);
  Result<> create_usb_storage(const DeviceDescription&, const DeviceProperties&);
  Result<UsbBus*> find_usb_bus(const DeviceProperties& properties);
  Result<UsbUnit*> add_usb_device(const DeviceProperties& properties,
                                  std::unique_ptr<usb::UsbDevice> device);
  Result<> plug_usb(const DeviceDescription& description);
  void forget_usb(const pci::PciFunction& controller);
  // In display_factory.cc:
  Result<> create_vga(const DeviceDescription&, const DeviceProperties&);
  Result<> create_bochs_display(const DeviceDescription&, const DeviceProperties&);
  Result<> create_gpu(const DeviceDescription&, const DeviceProperties&);
  Result<> add_display(const DeviceProperties& properties,
                       std::unique_ptr<pci::PciFunction> function, display::Source& source);

  // In boot_devices.cc:
  void note_boot(const DeviceProperties& properties, const std::string& path);
  [[nodiscard]] std::string card_path(std::string_view name,
                                      const pci::PciFunction& function) const;
  void note_card(const DeviceProperties& properties, const pci::PciFunction& function);
  void note_scsi_unit(const DeviceProperties& properties, const virtio::Scsi& adapter,
                      unsigned target, unsigned number);
  void note_ide_drive(const DeviceProperties& properties, const pci::PciFunction& controller,
                      unsigned channel, unsigned unit);
  /// The card's ROM, where firmware boots.
  Result<> give_rom(const DeviceProperties& properties, pci::PciFunction& function);

  Result<> create_root_port(const DeviceDescription&, const DeviceProperties&);
  /// The bus that bus= names, and the root port that it is behind, if it is.
  Result<pci::PciBus*> bus_of(const DeviceProperties& properties, pci::RootPort*& port);
  /// Plugs a PCI function into the bus that `properties` names.
  Result<> add_function(const DeviceProperties& properties,
                        std::unique_ptr<pci::PciFunction> function);
  Result<> add_virtio(const DeviceDescription& description, const DeviceProperties& properties,
                      std::unique_ptr<virtio::VirtioDevice> device);
  /// Where the accelerator does that, and the user wants it.
  Result<> take_doorbells(const DeviceProperties& properties, virtio::VirtioTransport& transport);
  Result<> add_virtio_mmio(const DeviceProperties& properties,
                           std::unique_ptr<virtio::VirtioDevice> device);
  Result<std::array<uint8_t, net::kMacBytes>> mac_of(const DeviceProperties& properties);
  Result<> keep_mac(std::span<const uint8_t> mac, Result<> added);
  Result<net::Network*> network();
  Result<Drive*> take_drive(const std::string& id);
  /// An adapter is about to go, with its units.
  void forget_adapter(const virtio::VirtioDevice& device);
  // In disk_factory.cc:
  /// A drive with an image, its werror= and rerror= as the device says.
  Result<Drive*> take_disk(const DeviceProperties& properties);
  /// write-cache=on|off|auto; auto is what the drive's cache= says.
  static bool write_cache(const DeviceProperties& properties, const DriveDescription& drive);
  static void set_error_actions(const Drive& drive, const DeviceProperties& properties);
  Result<LoopThread*> find_io_thread(const DeviceProperties& properties);
  /// The drive of a CD device: what drive= names, or an empty one of its own.
  Result<Drive*> take_cd_drive(const DeviceProperties& properties);
  Result<std::unique_ptr<block::scsi::Cd>> make_cd(const DeviceProperties& properties,
                                                   const Drive& drive, std::string_view product);
  void attach(Drive& drive, const DeviceProperties& properties, const void* user,
              std::string_view below = "") const;
  static Result<block::scsi::DiskProperties> scsi_disk_properties(
      const DeviceProperties& properties, const Drive& drive);
  Result<> plug_scsi(const DeviceDescription& description);
  struct ScsiBus;
  Result<ScsiBus*> find_scsi_bus(const DeviceProperties& properties);
  Result<> add_scsi_unit(const DeviceProperties& properties, Drive& drive,
                         std::unique_ptr<block::scsi::LogicalUnit> unit);
  // In storage_factory.cc:
  struct IdeBus;
  /// The controller that the board has, for drives with if=ide.
  Result<> create_board_storage(const MachineDescription& description);
  /// The device for a drive with if=ide.
  Result<> create_ide_drive(const DriveDescription& drive);
  Result<> add_ide_controller(const DeviceProperties& properties,
                              std::unique_ptr<pci::PciFunction> function,
                              std::vector<IdeBus> buses);
  struct IdePlace;
  Result<IdePlace> find_ide_place(const DeviceProperties& properties);
  Result<storage::ata::Identity> ata_identity(const DeviceProperties& properties,
                                              const Drive& drive, std::string_view model,
                                              bool serial_ata);
  Result<device::CharacterBackend*> backend_of(const DeviceProperties& properties);

  struct SerialBus {
    std::string id;
    virtio::Console* console;
    std::vector<std::string> characters = {};  ///< Back ends that its ports took.
  };
  struct ScsiBus {
    std::string name;  ///< As -device's bus= has it: "scsi0.0".
    virtio::Scsi* adapter;
    LoopThread* thread;
    bool hotplug;
  };
  struct ScsiUnit {
    std::string id;
    virtio::Scsi* adapter;
    unsigned target;
    unsigned number;
    const block::scsi::LogicalUnit* unit;
  };
  struct UsbBus {
    std::string name;  ///< As -device's bus= has it: "usb.0".
    unsigned index;    ///< In the order of making.
    usb::Xhci* controller;
  };
  struct UsbUnit {
    std::string id;
    usb::Xhci* controller;
    unsigned connector;
    usb::UsbDevice* device;
    const block::scsi::LogicalUnit* unit = nullptr;  ///< Of usb-storage.
  };
  struct IdeBus {
    std::string name;  ///< As -device's bus= has it: "ide.0".
    const pci::PciFunction* controller;
    unsigned channel;  ///< Of the controller, or its port.
    bool serial_ata;
    std::function<Result<>(unsigned unit, std::unique_ptr<storage::ata::Device>)> attach;
    std::vector<const void*> users = {};  ///< By unit; null: nothing is there.
  };
  struct IdePlace {
    IdeBus* bus;
    unsigned unit;
  };
  Board& board_;
  unsigned vcpus_ = 1;
  std::vector<SerialBus> serial_buses_;
  std::set<uint8_t> macs_;  ///< Last bytes of 52:54:00:12:34:XX that are taken.
  std::map<const pci::PciFunction*, uint8_t> plugged_macs_;  ///< Those of cards in slots.
  std::vector<ScsiBus> scsi_buses_;
  std::vector<ScsiUnit> scsi_units_;
  std::vector<UsbBus> usb_buses_;
  std::vector<UsbUnit> usb_units_;
  unsigned usb_buses_made_ = 0;
  std::vector<IdeBus> ide_buses_;
  size_t ide_buses_named_ = 0;    ///< "ide.0" and so on.
  unsigned ide_drives_made_ = 0;  ///< For serial numbers that nobody gave.
  size_t devices_made_ = 0;
  std::multimap<uint64_t, std::string> boot_paths_;
  bool complete_ = false;  ///< What comes now is plugged into a machine that runs.
  std::string driver_;     ///< Of the device that is being made.
  std::string path_;       ///< Of the device that is being made, among QOM's objects.
};

}  // namespace limen::machine
