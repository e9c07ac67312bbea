// Makes the devices that -device and -drive ask for and plugs them into a board.
#pragma once

#include <array>
#include <set>
#include <string>

#include "base/result.h"
#include "machine/description.h"
#include "machine/device_catalog.h"
#include "machine/q35_board.h"

namespace limen::virtio {
class VirtioDevice;
}

namespace limen::machine {

class DeviceFactory {
 public:
  explicit DeviceFactory(Q35Board& board) : board_(board) {}

  /// Every device of the description, then a virtio disk for every drive with interface "virtio".
  Result<> create_all(const MachineDescription& description);

  /// The back end with that id, for one user: a second one is refused.
  Result<device::CharacterBackend*> take_character(const std::string& id);

 private:
  using Create = Result<> (DeviceFactory::*)(const DeviceDescription&, const DeviceProperties&);
  static Create find(const std::string& driver);

  Result<> create(const DeviceDescription& description);
  Result<> create_block(const DeviceDescription&, const DeviceProperties&);
  Result<> create_entropy(const DeviceDescription&, const DeviceProperties&);
  Result<> create_serial_bus(const DeviceDescription&, const DeviceProperties&);
  Result<> create_port(const DeviceDescription&, const DeviceProperties&);
  Result<> create_debug_exit(const DeviceDescription&, const DeviceProperties&);
  Result<> create_debug_console(const DeviceDescription&, const DeviceProperties&);
  Result<> create_e1000(const DeviceDescription&, const DeviceProperties&);
  Result<> create_net(const DeviceDescription&, const DeviceProperties&);
  Result<> create_test_device(const DeviceDescription&, const DeviceProperties&);

  Result<> add_virtio(const DeviceDescription& description, const DeviceProperties& properties,
                      std::unique_ptr<virtio::VirtioDevice> device);
  Result<std::array<uint8_t, net::kMacBytes>> mac_of(const DeviceProperties& properties);
  Result<net::Network*> network();
  /// Plugs a PCI function into the bus that `properties` names.
  Result<> add_function(const DeviceProperties& properties,
                        std::unique_ptr<pci::PciFunction> function);
  Result<Drive*> take_drive(const std::string& id);
  Result<device::CharacterBackend*> backend_of(const DeviceProperties& properties);

  struct SerialBus {
    std::string id;
    virtio::Console* console;
  };
  Q35Board& board_;
  std::vector<SerialBus> serial_buses_;
  std::set<uint8_t> macs_;  ///< Last bytes of 52:54:00:12:34:XX that are taken.
};

}  // namespace limen::machine
