// virtio-serial: consoles and named byte streams (virtio 1.2 §5.3), with multiple ports.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "device/character_backend.h"
#include "virtio/virtio_device.h"

namespace limen::virtio {

/// Properties of -device virtio-serial-pci.
struct ConsoleProperties {
  unsigned max_ports = 31;  ///< 1 to 31.
};

/// Properties of -device virtconsole and virtserialport.
struct ConsolePortProperties {
  bool console = true;  ///< virtconsole; false: virtserialport.
  std::string name{};   ///< Seen by the guest as /dev/virtio-ports/NAME; "" for none.
  int number = -1;      ///< "nr"; -1: the first free (0 is kept for a console).
  device::CharacterBackend* backend = nullptr;  ///< Null: output is dropped. Outlives the device.
  /// A program in the guest opened the port, or closed it. Called on any thread.
  std::function<void(bool open)> guest_changed{};
};

class Console final : public VirtioDevice {
 public:
  static Result<std::unique_ptr<Console>> create(const ConsoleProperties& properties);
  ~Console() override;

  /// Adds a port, before the machine runs or on the event loop's thread while no processor does; a
  /// driver that is there is told. Fails when the number is taken or out of range.
  Result<> add_port(const ConsolePortProperties& properties);

  DeviceType type() const override { return DeviceType::kConsole; }
  uint32_t pci_class() const override { return 0x078000; }
  uint64_t features() const override;
  unsigned queue_count() const override { return 2 * (properties_.max_ports + 1); }
  uint16_t queue_size(unsigned index) const override;
  size_t configuration_size() const override;
  void read_configuration(size_t offset, std::span<std::byte> into) override;
  void write_configuration(size_t offset, std::span<const std::byte> from) override;
  void connect(Transport& transport) override { transport_ = &transport; }
  void queue_notified(unsigned index) override;
  void reset() override;

 private:
  struct Port;
  struct ControlMessage {
    uint32_t port = 0;
    uint16_t event = 0;
    uint16_t value = 0;
    std::string text{};
  };

  explicit Console(const ConsoleProperties& properties);
  [[nodiscard]] bool multiport() const;
  void take_control();
  void handle_control(uint32_t port, uint16_t event, uint16_t value);
  void queue_control_locked(ControlMessage message);
  void send_control();
  void host_changed(Port& port, bool open);
  void set_guest_open(Port& port, bool open);
  void take_output(unsigned number, Port* port);
  size_t room(Port& port);
  void deliver(Port& port, std::span<const uint8_t> bytes);

  ConsoleProperties properties_;
  Transport* transport_ = nullptr;
  std::vector<std::unique_ptr<Port>> ports_;  ///< By number; null where there is none. Fixed.
  std::mutex mutex_;
  std::deque<ControlMessage> control_;  // guarded by mutex_: to the driver
};

}  // namespace limen::virtio
