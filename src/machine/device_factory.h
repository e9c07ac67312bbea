// Makes the devices that -device and -drive ask for and plugs them into a board.
#pragma once

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
  Result<> create_test_device(const DeviceDescription&, const DeviceProperties&);

  Result<> add_virtio(const DeviceDescription& description, const DeviceProperties& properties,
                      std::unique_ptr<virtio::VirtioDevice> device);
  Result<Drive*> take_drive(const std::string& id);
  Result<device::CharacterBackend*> backend_of(const DeviceProperties& properties);

  struct SerialBus {
    std::string id;
    virtio::Console* console;
  };
  Q35Board& board_;
  std::vector<SerialBus> serial_buses_;
};

}  // namespace limen::machine
