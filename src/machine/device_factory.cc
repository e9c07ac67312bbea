#include "machine/device_factory.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "base/nearest.h"
#include "device/debug_ports.h"
#include "device/tpm/crb.h"
#include "device/tpm/swtpm.h"
#include "device/tpm/tis.h"
#include "pci/i6300esb.h"
#include "pci/pvpanic_pci.h"
#include "virtio/balloon/balloon.h"
#include "virtio/console/console.h"
#include "virtio/entropy/entropy.h"
#include "virtio/virtio_mmio.h"
#include "virtio/virtio_pci.h"

namespace limen::machine {

DeviceFactory::Create DeviceFactory::find(const std::string& driver) {
  static const std::map<std::string_view, Create> kFactories = {
      {"virtio-blk-pci", &DeviceFactory::create_block},
      {"e1000", &DeviceFactory::create_e1000},
      {"virtio-net-pci", &DeviceFactory::create_net},
      {"virtio-scsi-pci", &DeviceFactory::create_scsi_bus},
      {"scsi-hd", &DeviceFactory::create_scsi_disk},
      {"scsi-cd", &DeviceFactory::create_scsi_cd},
      {"ide-hd", &DeviceFactory::create_ide_disk},
      {"ide-cd", &DeviceFactory::create_ide_cd},
      {"ich9-ahci", &DeviceFactory::create_ahci},
      {"piix3-ide", &DeviceFactory::create_piix3_ide},
      {"nvme", &DeviceFactory::create_nvme},
      {"qemu-xhci", &DeviceFactory::create_xhci},
      {"usb-kbd", &DeviceFactory::create_usb_hid},
      {"usb-mouse", &DeviceFactory::create_usb_hid},
      {"usb-tablet", &DeviceFactory::create_usb_hid},
      {"usb-storage", &DeviceFactory::create_usb_storage},
      {"virtio-rng-pci", &DeviceFactory::create_entropy},
      {"virtio-balloon-pci", &DeviceFactory::create_balloon},
      {"pcie-root-port", &DeviceFactory::create_root_port},
      {"pvpanic", &DeviceFactory::create_pvpanic},
      {"pvpanic-pci", &DeviceFactory::create_pvpanic_pci},
      {"tpm-tis", &DeviceFactory::create_tpm},
      {"tpm-crb", &DeviceFactory::create_tpm},
      {"i6300esb", &DeviceFactory::create_watchdog},
      {"virtio-serial-pci", &DeviceFactory::create_serial_bus},
      {"virtconsole", &DeviceFactory::create_port},
      {"virtserialport", &DeviceFactory::create_port},
      {"isa-serial", &DeviceFactory::create_serial},
      {"isa-debug-exit", &DeviceFactory::create_debug_exit},
      {"isa-debugcon", &DeviceFactory::create_debug_console},
      {"VGA", &DeviceFactory::create_vga},
      {"bochs-display", &DeviceFactory::create_bochs_display},
      {"virtio-gpu-pci", &DeviceFactory::create_gpu},
      {"virtio-vga", &DeviceFactory::create_gpu},
      {"virtio-blk-device", &DeviceFactory::create_block},
      {"virtio-net-device", &DeviceFactory::create_net},
      {"virtio-scsi-device", &DeviceFactory::create_scsi_bus},
      {"virtio-rng-device", &DeviceFactory::create_entropy},
      {"virtio-balloon-device", &DeviceFactory::create_balloon},
      {"virtio-serial-device", &DeviceFactory::create_serial_bus},
      {"pc-testdev", &DeviceFactory::create_test_device},
  };
  const auto found = kFactories.find(driver);
  return found == kFactories.end() ? nullptr : found->second;
}

Result<> DeviceFactory::create_all(const MachineDescription& description) {
  vcpus_ = description.vcpus;
  LIMEN_TRY(create_board_storage(description));
  for (const auto& device : description.devices) LIMEN_TRY(create(device));
  // By number: a CD drive without a disc adds one.
  for (size_t i = 0; i < board_.drives_.size(); ++i) {
    const auto its = board_.drives_[i].description;
    if (board_.drives_[i].in_use) continue;
    if (its.interface == "ide") LIMEN_TRY(create_ide_drive(its));
    if (its.interface == "virtio")
      LIMEN_TRY(create({.driver = resolve_driver("virtio-blk", board_.pci()),
                        .properties = {{"drive", its.id}}}));
  }
  complete_ = true;
  return {};
}

Result<> DeviceFactory::create(const DeviceDescription& description) {
  LIMEN_TRY(check_device(description));
  const auto* specification = find_device(resolve_driver(description.driver, board_.pci()));
  if (const auto bus = specification->bus;
      (bus == "PCI" && !board_.pci()) || (bus == kVirtioBus && board_.pci()))
    return fail("-device {}: No '{}' bus found for device '{}'", description.driver, bus,
                specification->driver);
  const auto factory = find(std::string(specification->driver));
  if (factory == nullptr) return fail("device '{}' has no factory", specification->driver);
  path_ = description.properties.contains("id")
              ? "/machine/peripheral/" + description.properties.at("id")
              : fmt::format("/machine/peripheral-anon/device[{}]", devices_made_);
  ++devices_made_;
  driver_ = specification->driver;
  if (auto created = (this->*factory)(description, DeviceProperties(description)); !created) {
    Error error = std::move(created).error();
    error.message = "-device " + description.driver + ": " + error.message;
    return std::unexpected(std::move(error));
  }
  return {};
}

Result<> DeviceFactory::add_virtio(const DeviceDescription& description,
                                   const DeviceProperties& properties,
                                   std::unique_ptr<virtio::VirtioDevice> device) {
  if (!board_.pci()) return add_virtio_mmio(properties, std::move(device));
  virtio::VirtioPciProperties pci;
  pci.name = properties.text("id", description.driver);
  pci.vectors = static_cast<unsigned>(properties.number("vectors", 0));
  auto function = std::make_unique<virtio::VirtioPci>(pci, std::move(device), board_.memory_);
  LIMEN_TRY(take_doorbells(properties, *function));
  return add_function(properties, std::move(function));
}

Result<> DeviceFactory::take_doorbells(const DeviceProperties& properties,
                                       virtio::VirtioTransport& transport) {
  if (!board_.mmio_.takes_doorbells() || !properties.boolean("ioeventfd", true)) return {};
  return transport.take_doorbells(board_.loop_);
}

Result<> DeviceFactory::add_virtio_mmio(const DeviceProperties& properties,
                                        std::unique_ptr<virtio::VirtioDevice> device) {
  const auto place = LIMEN_TRY(board_.next_virtio_place());
  auto transport = std::make_unique<virtio::VirtioMmio>(
      properties.text("id", driver_), std::move(device), board_.memory_, board_.mmio_, place.base,
      board_.interrupts_->router().connect(place.line));
  LIMEN_TRY(take_doorbells(properties, *transport));
  board_.devices_.push_back(std::move(transport));
  return {};
}

/// Without chardev= the output goes nowhere.
Result<device::CharacterBackend*> DeviceFactory::backend_of(const DeviceProperties& properties) {
  const auto id = properties.text("chardev");
  if (id.empty()) return board_.nowhere_.get();
  return board_.characters_.take(id);
}

Result<> DeviceFactory::create_entropy(const DeviceDescription& description,
                                       const DeviceProperties& properties) {
  virtio::EntropyProperties entropy;
  entropy.max_bytes = properties.number("max-bytes", entropy.max_bytes);
  entropy.period_milliseconds =
      static_cast<uint32_t>(properties.number("period", entropy.period_milliseconds));
  return add_virtio(description, properties,
                    LIMEN_TRY(virtio::Entropy::create(entropy, board_.loop_)));
}

Result<> DeviceFactory::create_balloon(const DeviceDescription& description,
                                       const DeviceProperties& properties) {
  if (board_.balloon_ != nullptr) return fail("only one balloon device is supported");
  virtio::BalloonProperties balloon;
  balloon.deflate_on_oom = properties.boolean("deflate-on-oom", balloon.deflate_on_oom);
  balloon.free_page_reporting =
      properties.boolean("free-page-reporting", balloon.free_page_reporting);
  auto device = std::make_unique<virtio::Balloon>(balloon, board_.memory_, board_.loop_);
  auto* raw = device.get();
  LIMEN_TRY(add_virtio(description, properties, std::move(device)));
  board_.balloon_ = raw;
  return {};
}

Result<> DeviceFactory::create_pvpanic(const DeviceDescription&,
                                       const DeviceProperties& properties) {
  using device::IsaPvpanic;
  board_.devices_.push_back(std::make_unique<IsaPvpanic>(
      board_.ports_, static_cast<uint16_t>(properties.number("ioport", IsaPvpanic::kDefaultPort)),
      static_cast<uint8_t>(properties.number("events", device::PanicRegister::kEvents)),
      board_.callbacks_.panicked));
  return {};
}

Result<> DeviceFactory::create_pvpanic_pci(const DeviceDescription& description,
                                           const DeviceProperties& properties) {
  auto function = std::make_unique<pci::PvpanicPci>(
      properties.text("id", description.driver),
      static_cast<uint8_t>(properties.number("events", device::PanicRegister::kEvents)),
      board_.callbacks_.panicked);
  return add_function(properties, std::move(function));
}

Result<> DeviceFactory::create_tpm(const DeviceDescription&, const DeviceProperties& properties) {
  for (const auto& other : board_.tpms_)
    if (!other.model.empty()) return fail("at most one TPM device is permitted");
  const auto id = properties.text("tpmdev");
  if (id.empty()) return fail("'tpmdev' property is required");
  const auto tpm = std::ranges::find_if(board_.tpms_,
                                        [&](const Tpm& each) { return each.description.id == id; });
  if (tpm == board_.tpms_.end()) {
    std::vector<std::string_view> ids;
    ids.reserve(board_.tpms_.size());
    for (const auto& each : board_.tpms_) ids.push_back(each.description.id);
    return fail("there is no -tpmdev '{}'{}", id, choice_hint(id, ids));
  }
  tpm->model = driver_;
  if (driver_ == "tpm-tis") {
    board_.devices_.push_back(std::make_unique<device::TpmTis>(board_.mmio_, *tpm->backend));
    return {};
  }
  if (auto* process = dynamic_cast<device::Swtpm*>(tpm->backend.get()))
    process->set_buffer_bytes(device::TpmCrb::kBufferBytes);
  board_.devices_.push_back(std::make_unique<device::TpmCrb>(board_.mmio_, *tpm->backend));
  return {};
}

Result<> DeviceFactory::create_watchdog(const DeviceDescription& description,
                                        const DeviceProperties& properties) {
  auto function = std::make_unique<pci::I6300Esb>(
      properties.text("id", description.driver), board_.loop_,
      pci::I6300Esb::Callbacks{.expired = board_.callbacks_.watchdog_expired,
                               .machine_runs = board_.callbacks_.machine_runs});
  return add_function(properties, std::move(function));
}

Result<> DeviceFactory::create_serial_bus(const DeviceDescription& description,
                                          const DeviceProperties& properties) {
  virtio::ConsoleProperties console;
  console.max_ports = static_cast<unsigned>(properties.number("max_ports", console.max_ports));
  auto device = LIMEN_TRY(virtio::Console::create(console));
  auto* raw = device.get();
  LIMEN_TRY(add_virtio(description, properties, std::move(device)));
  serial_buses_.push_back({.id = properties.text("id"), .console = raw});
  return {};
}

/// The board has its serial ports already: isa-serial and -serial are one list.
Result<> DeviceFactory::create_serial(const DeviceDescription&, const DeviceProperties&) {
  return {};
}

Result<> DeviceFactory::create_port(const DeviceDescription& description,
                                    const DeviceProperties& properties) {
  if (serial_buses_.empty())
    return fail("No 'virtio-serial-bus' bus found for device: add -device virtio-serial-pci");
  virtio::ConsolePortProperties port;
  port.console = description.driver == "virtconsole";
  port.name = properties.text("name");
  port.number = static_cast<int>(properties.number("nr", UINT64_MAX));
  port.backend = LIMEN_TRY(backend_of(properties));
  if (const auto id = properties.text("id"); !id.empty() && board_.callbacks_.port_changed)
    port.guest_changed = [this, id](bool open) { board_.callbacks_.port_changed(id, open); };
  auto* where = &serial_buses_.back();
  if (const auto wanted = properties.text("bus"); !wanted.empty()) {
    const auto bus = std::ranges::find(serial_buses_, wanted,
                                       [](const SerialBus& each) { return each.id + ".0"; });
    if (bus == serial_buses_.end()) return fail("there is no virtio-serial bus '{}'", wanted);
    where = &*bus;
  }
  const auto id = properties.text("chardev");
  if (auto added = where->console->add_port(port); !added) {
    board_.characters_.give_back(id);
    return added;
  }
  if (!id.empty()) where->characters.push_back(id);
  return {};
}

Result<> DeviceFactory::create_debug_exit(const DeviceDescription&,
                                          const DeviceProperties& properties) {
  using device::IsaDebugExit;
  board_.devices_.push_back(std::make_unique<IsaDebugExit>(
      board_.ports_, static_cast<uint16_t>(properties.number("iobase", IsaDebugExit::kDefaultBase)),
      static_cast<uint16_t>(properties.number("iosize", IsaDebugExit::kDefaultSize)),
      board_.callbacks_.exit));
  return {};
}

Result<> DeviceFactory::create_debug_console(const DeviceDescription&,
                                             const DeviceProperties& properties) {
  using device::DebugConsole;
  auto* backend = LIMEN_TRY(backend_of(properties));
  board_.devices_.push_back(std::make_unique<DebugConsole>(
      board_.ports_, static_cast<uint16_t>(properties.number("iobase", DebugConsole::kDefaultPort)),
      *backend, static_cast<uint8_t>(properties.number("readback", DebugConsole::kReadback))));
  return {};
}

Result<> DeviceFactory::create_test_device(const DeviceDescription&, const DeviceProperties&) {
  std::array<irq::InterruptLine, device::PcTestdev::kLines> lines;
  for (unsigned line = 0; line < lines.size(); ++line)
    lines[line] = board_.interrupts_->router().connect(line);
  board_.devices_.push_back(
      std::make_unique<device::PcTestdev>(board_.ports_, board_.mmio_, lines));
  return {};
}

}  // namespace limen::machine
