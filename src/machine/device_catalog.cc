#include "machine/device_catalog.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "base/nearest.h"
#include "block/filters/error_policy.h"

namespace limen::machine {
namespace {

using enum PropertyType;

constexpr PropertySpecification kId = {"id", kText, "name of this device"};
constexpr PropertySpecification kBus = {"bus", kText,
                                        "bus to plug into: pcie.0, or id of a root port"};
constexpr PropertySpecification kAddress = {"addr", kText, "slot and function: 0x3 or 0x3.0x1"};
constexpr PropertySpecification kVectors = {"vectors", kNumber, "MSI-X vectors", 1, 2048};
constexpr PropertySpecification kIoEventFd = {"ioeventfd", kBoolean,
                                              "with kvm: notifications do not stop the processor"};
constexpr PropertySpecification kDisableLegacy = {"disable-legacy", kText,
                                                  "on or auto: only virtio 1 is there"};
constexpr PropertySpecification kDisableModern = {"disable-modern", kBoolean,
                                                  "off: only virtio 1 is there"};

constexpr PropertySpecification kDrive = {"drive", kText,
                                          "id of a -drive with if=none, or node of a -blockdev"};
constexpr PropertySpecification kIoThread = {"iothread", kText, "id of an -object iothread"};
constexpr PropertySpecification kBootIndex = {"bootindex", kNumber, "place in the order of booting",
                                              0, INT32_MAX};
constexpr PropertySpecification kLogicalBlock = {"logical_block_size", kNumber,
                                                 "bytes of a block, a power of two", 512, 32768};
constexpr PropertySpecification kPhysicalBlock = {"physical_block_size", kNumber,
                                                  "bytes that the disk writes at once", 512, 32768};
constexpr PropertySpecification kWriteCache = {"write-cache", kText,
                                               "the guest sees a write-back cache: on, off, auto"};
constexpr PropertySpecification kReadError = {"rerror", kText,
                                              "after a failed read: report, ignore, stop, auto"};
constexpr PropertySpecification kWriteError = {
    "werror", kText, "after a failed write: report, ignore, stop, enospc, auto"};

constexpr std::array kBlockProperties = {
    kId,
    kDrive,
    kIoThread,
    kBootIndex,
    kLogicalBlock,
    kPhysicalBlock,
    kReadError,
    kWriteError,
    PropertySpecification{"config-wce", kBoolean, "the guest may switch the write-back cache"},
    PropertySpecification{"serial", kText, "serial number, at most 20 bytes"},
    PropertySpecification{"num-queues", kNumber, "request queues", 1, 64},
    PropertySpecification{"queue-size", kNumber, "entries of a queue, a power of two", 4, 1024},
    kWriteCache,
    PropertySpecification{"discard", kBoolean, "the guest may discard blocks"},
    PropertySpecification{"write-zeroes", kBoolean, "the guest may ask for zeroed blocks"},
    kIoEventFd,
    kVectors,
    kBus,
    kAddress,
    kDisableLegacy,
    kDisableModern,
};
constexpr PropertySpecification kMac = {"mac", kText, "address, 52:54:00:12:34:56 and on"};
constexpr PropertySpecification kNetdev = {"netdev", kText, "id of a -netdev"};
constexpr PropertySpecification kRomFile = {"romfile", kText, "expansion ROM; empty: none"};
constexpr std::array kNetProperties = {
    kId,
    kMac,
    kNetdev,
    PropertySpecification{"mq", kBoolean, "several pairs of queues, as many as the netdev has"},
    PropertySpecification{"rx_queue_size", kNumber, "entries of a receive queue, a power of two",
                          64, 1024},
    PropertySpecification{"tx_queue_size", kNumber, "entries of a transmit queue, a power of two",
                          64, 1024},
    PropertySpecification{"host_mtu", kNumber, "MTU that the guest is told; 0: none", 0, 65535},
    PropertySpecification{"speed", kNumber, "Mbit/s that the guest is told", 0, INT32_MAX},
    PropertySpecification{"duplex", kText, "full or half: what the guest is told"},
    PropertySpecification{"csum", kBoolean, "the guest may leave checksums to the host"},
    PropertySpecification{"guest_csum", kBoolean, "the guest takes frames without checksums"},
    PropertySpecification{"gso", kBoolean, "the guest may send frames to be cut"},
    PropertySpecification{"host_tso4", kBoolean, "as gso, for TCP over IPv4"},
    PropertySpecification{"host_tso6", kBoolean, "as gso, for TCP over IPv6"},
    PropertySpecification{"host_ecn", kBoolean, "as gso, for TCP with ECN"},
    PropertySpecification{"host_ufo", kBoolean, "as gso, for UDP"},
    PropertySpecification{"guest_tso4", kBoolean, "the guest takes large frames: TCP over IPv4"},
    PropertySpecification{"guest_tso6", kBoolean, "the same, TCP over IPv6"},
    PropertySpecification{"guest_ecn", kBoolean, "the same, TCP with ECN"},
    PropertySpecification{"guest_ufo", kBoolean, "the same, UDP"},
    PropertySpecification{"mrg_rxbuf", kBoolean, "a frame may lie in several buffers"},
    PropertySpecification{"status", kBoolean, "the guest sees the link go up and down"},
    PropertySpecification{"ctrl_vq", kBoolean, "there is a control queue"},
    PropertySpecification{"ctrl_rx", kBoolean, "the guest chooses what it receives"},
    PropertySpecification{"ctrl_vlan", kBoolean, "the guest chooses VLANs"},
    PropertySpecification{"ctrl_rx_extra", kBoolean, "more ways to choose"},
    PropertySpecification{"ctrl_mac_addr", kBoolean, "the guest may change the address"},
    PropertySpecification{"guest_announce", kBoolean, "the guest can be asked to announce itself"},
    kBootIndex,
    kRomFile,
    kIoEventFd,
    kVectors,
    kBus,
    kAddress,
    kDisableLegacy,
    kDisableModern,
};
constexpr std::array kScsiBusProperties = {
    kId,
    kIoThread,
    PropertySpecification{"num_queues", kNumber, "request queues", 1, 64},
    PropertySpecification{"virtqueue_size", kNumber, "entries of a queue, a power of two", 8, 1024},
    PropertySpecification{"max_sectors", kNumber, "longest transfer, in 512 bytes", 8, UINT32_MAX},
    PropertySpecification{"cmd_per_lun", kNumber, "commands of a unit at once", 1, UINT32_MAX},
    PropertySpecification{"hotplug", kBoolean, "the guest hears of units that come and go"},
    PropertySpecification{"param_change", kBoolean, "the guest hears of units that changed"},
    kIoEventFd,
    kVectors,
    kBus,
    kAddress,
    kDisableLegacy,
    kDisableModern,
};
constexpr PropertySpecification kScsiBus = {"bus", kText, "SCSI bus: ID.0 of a virtio-scsi-pci"};
constexpr PropertySpecification kScsiChannel = {"channel", kNumber, "always 0", 0, 0};
constexpr PropertySpecification kScsiId = {"scsi-id", kNumber, "target on the bus", 0, 255};
constexpr PropertySpecification kScsiUnit = {"lun", kNumber, "logical unit of the target", 0,
                                             16383};
constexpr PropertySpecification kVendor = {"vendor", kText, "vendor that the guest sees"};
constexpr PropertySpecification kProduct = {"product", kText, "product that the guest sees"};
constexpr PropertySpecification kRevision = {"ver", kText, "revision that the guest sees"};
constexpr PropertySpecification kDeviceId = {"device_id", kText, "identification for page 83h"};
constexpr PropertySpecification kWwn = {"wwn", kNumber, "world wide name"};
constexpr PropertySpecification kScsiSerial = {"serial", kText, "serial number, at most 36 bytes"};
constexpr std::array kScsiDiskProperties = {
    kId,
    kDrive,
    kScsiBus,
    kScsiChannel,
    kScsiId,
    kScsiUnit,
    kScsiSerial,
    kVendor,
    kProduct,
    kRevision,
    kDeviceId,
    kWwn,
    kBootIndex,
    kLogicalBlock,
    kPhysicalBlock,
    kReadError,
    kWriteError,
    kWriteCache,
    PropertySpecification{"removable", kBoolean, "said to be removable"},
    PropertySpecification{"rotation_rate", kNumber, "turns in a minute; 1: does not turn", 0,
                          UINT16_MAX},
};
constexpr std::array kScsiCdProperties = {
    kId,      kDrive,    kScsiBus,  kScsiChannel, kScsiId,    kScsiUnit,  kScsiSerial, kVendor,
    kProduct, kRevision, kDeviceId, kWwn,         kBootIndex, kReadError, kWriteError,
};
constexpr PropertySpecification kIdeBus = {"bus", kText, "IDE bus: ide.0, or ID.0 of an ahci"};
constexpr PropertySpecification kIdeUnit = {"unit", kNumber, "place on the bus", 0, 1};
constexpr PropertySpecification kModel = {"model", kText, "model, at most 40 bytes"};
constexpr PropertySpecification kIdeSerial = {"serial", kText, "serial number, at most 20 bytes"};
constexpr PropertySpecification kRotation = {"rotation_rate", kNumber,
                                             "turns in a minute; 1: does not turn", 0, UINT16_MAX};
constexpr std::array kIdeDiskProperties = {
    kId,
    kDrive,
    kIdeBus,
    kIdeUnit,
    kModel,
    kIdeSerial,
    kRevision,
    kWwn,
    kBootIndex,
    kLogicalBlock,
    kPhysicalBlock,
    kReadError,
    kWriteError,
    kWriteCache,
    kRotation,
    PropertySpecification{"cyls", kNumber, "cylinders that older systems are told", 1, 65535},
    PropertySpecification{"heads", kNumber, "heads, the same", 1, 16},
    PropertySpecification{"secs", kNumber, "sectors of a track, the same", 1, 255},
};
constexpr std::array kIdeCdProperties = {
    kId,       kDrive, kIdeBus,    kIdeUnit,   kModel,      kIdeSerial,
    kRevision, kWwn,   kBootIndex, kReadError, kWriteError,
};
constexpr std::array kIdeControllerProperties = {kId, kBus, kAddress};
constexpr std::array kNvmeProperties = {
    kId,
    kDrive,
    PropertySpecification{"serial", kText, "serial number, at most 20 bytes; it must be given"},
    PropertySpecification{"max_ioqpairs", kNumber, "pairs of I/O queues", 1, 1535},
    PropertySpecification{"msix_qsize", kNumber, "MSI-X vectors", 1, 2048},
    PropertySpecification{"mdts", kNumber, "longest transfer: a power of two, in 4 KiB; 0: any", 0,
                          17},
    kBootIndex,
    kLogicalBlock,
    kPhysicalBlock,
    kReadError,
    kWriteError,
    kWriteCache,
    kBus,
    kAddress,
};
constexpr std::array kXhciProperties = {
    kId,
    PropertySpecification{"p2", kNumber, "ports for USB 2", 1, 15},
    PropertySpecification{"p3", kNumber, "ports for USB 3", 1, 15},
    PropertySpecification{"slots", kNumber, "devices at once", 1, 64},
    PropertySpecification{"intrs", kNumber, "interrupters, with an MSI-X vector each", 1, 16},
    kBus,
    kAddress,
};
constexpr PropertySpecification kUsbBus = {"bus", kText, "USB bus: ID.0 of a qemu-xhci"};
constexpr PropertySpecification kUsbPort = {"port", kText, "port, from 1 on; there are no hubs"};
constexpr PropertySpecification kUsbSerial = {"serial", kText, "serial number"};
constexpr std::array kUsbHidProperties = {
    kId,        PropertySpecification{"usb_version", kNumber, "1: full speed, 2: high speed", 1, 2},
    kUsbSerial, kUsbBus,
    kUsbPort,
};
constexpr std::array kUsbStorageProperties = {
    kId,
    kDrive,
    PropertySpecification{"removable", kBoolean, "said to be removable"},
    kUsbSerial,
    kBootIndex,
    kLogicalBlock,
    kPhysicalBlock,
    kReadError,
    kWriteError,
    kWriteCache,
    kUsbBus,
    kUsbPort,
};
constexpr std::array kE1000Properties = {
    kId, kMac, kNetdev, kBootIndex, kRomFile, kBus, kAddress,
};
constexpr std::array kEntropyProperties = {
    kId,
    PropertySpecification{"rng", kText, "id of an -object rng-random or rng-builtin"},
    PropertySpecification{"max-bytes", kNumber, "bytes given out in one period", 1, INT64_MAX},
    PropertySpecification{"period", kNumber, "length of a period in milliseconds", 1, UINT32_MAX},
    kIoEventFd,
    kVectors,
    kBus,
    kAddress,
    kDisableLegacy,
    kDisableModern,
};
constexpr std::array kBalloonProperties = {
    kId,
    PropertySpecification{"deflate-on-oom", kBoolean, "a guest out of memory takes it back"},
    PropertySpecification{"free-page-reporting", kBoolean, "the guest tells of unused pages"},
    kIoEventFd,
    kVectors,
    kBus,
    kAddress,
    kDisableLegacy,
    kDisableModern,
};
constexpr std::array kRootPortProperties = {
    kId,
    PropertySpecification{"port", kNumber, "number of the port", 0, 255},
    PropertySpecification{"chassis", kNumber, "number of its chassis", 0, 255},
    PropertySpecification{"slot", kNumber, "number of its slot", 0, 0x1FFF},
    PropertySpecification{"multifunction", kBoolean, "further functions may share its address"},
    kBus,
    kAddress,
};
constexpr PropertySpecification kPanicEvents = {"events", kNumber,
                                                "1: panic, 2: crash kernel loaded, 3: both", 0, 3};
constexpr std::array kPvpanicProperties = {
    kId,
    PropertySpecification{"ioport", kNumber, "port", 0, 0xFFFF},
    kPanicEvents,
};
constexpr std::array kPvpanicPciProperties = {kId, kPanicEvents, kBus, kAddress};
constexpr std::array kTpmProperties = {
    kId,
    PropertySpecification{"tpmdev", kText, "id of a -tpmdev"},
};
constexpr std::array kWatchdogProperties = {kId, kBus, kAddress};
constexpr std::array kSerialBusProperties = {
    kId,
    PropertySpecification{"max_ports", kNumber, "ports it can have", 1, 31},
    kIoEventFd,
    kVectors,
    kBus,
    kAddress,
    kDisableLegacy,
    kDisableModern,
};
constexpr std::array kPortProperties = {
    kId,
    PropertySpecification{"chardev", kText, "id of a -chardev"},
    PropertySpecification{"name", kText, "name that the guest sees"},
    PropertySpecification{"nr", kNumber, "number of the port", 0, 30},
    PropertySpecification{"bus", kText, "virtio-serial bus: ID.0 of a virtio-serial-pci"},
};
constexpr std::array kSerialProperties = {
    kId,
    PropertySpecification{"chardev", kText, "id of a -chardev"},
    PropertySpecification{"index", kNumber, "0: COM1, up to 3: COM4", 0, 3},
};
constexpr std::array kDebugExitProperties = {
    kId,
    PropertySpecification{"iobase", kNumber, "first port", 0, 0xFFFF},
    PropertySpecification{"iosize", kNumber, "number of ports", 1, 8},
};
constexpr std::array kDebugConsoleProperties = {
    kId,
    PropertySpecification{"chardev", kText, "id of a -chardev"},
    PropertySpecification{"iobase", kNumber, "port", 0, 0xFFFF},
    PropertySpecification{"readback", kNumber, "what a read of the port gives", 0, 0xFF},
};
constexpr std::array kTestDeviceProperties = {kId};
constexpr PropertySpecification kEdid = {"edid", kBoolean, "the guest can ask for the sizes"};
constexpr PropertySpecification kXres = {"xres", kNumber, "width that the guest prefers", 0, 4095};
constexpr PropertySpecification kYres = {"yres", kNumber, "height that the guest prefers", 0, 4095};
constexpr PropertySpecification kXmax = {"xmax", kNumber, "taken, without effect", 0, UINT32_MAX};
constexpr PropertySpecification kYmax = {"ymax", kNumber, "taken, without effect", 0, UINT32_MAX};
constexpr PropertySpecification kRefreshRate = {"refresh_rate", kNumber, "taken, without effect", 0,
                                                UINT32_MAX};
constexpr PropertySpecification kRomBar = {"rombar", kNumber, "0: the guest sees no option ROM", 0,
                                           UINT32_MAX};
constexpr std::array kVgaProperties = {
    kId,
    PropertySpecification{"vgamem_mb", kNumber, "MiB of video memory, a power of two", 1, 256},
    kEdid,
    kXres,
    kYres,
    kXmax,
    kYmax,
    kRefreshRate,
    kRomFile,
    kRomBar,
    kBus,
    kAddress,
};
constexpr PropertySpecification kMaxOutputs = {"max_outputs", kNumber, "screens: one", 1, 1};
constexpr PropertySpecification kMaxHostMemory = {"max_hostmem", kText,
                                                  "bytes for the guest's pictures"};
constexpr std::array kGpuProperties = {
    kId,     kMaxOutputs, kMaxHostMemory, kEdid,    kXres,          kYres,          kRomFile,
    kRomBar, kVectors,    kBus,           kAddress, kDisableLegacy, kDisableModern,
};
constexpr std::array kVirtioVgaProperties = {
    kId,
    PropertySpecification{"vgamem_mb", kNumber, "MiB of the VGA's memory", 1, 256},
    kMaxOutputs,
    kMaxHostMemory,
    kEdid,
    kXres,
    kYres,
    kRomFile,
    kRomBar,
    kVectors,
    kBus,
    kAddress,
    kDisableLegacy,
    kDisableModern,
};
constexpr std::array kBochsDisplayProperties = {
    kId,      PropertySpecification{"vgamem", kText, "bytes of video memory, 4M to 256M"},
    kEdid,    kXres,
    kYres,    kXmax,
    kYmax,    kRefreshRate,
    kRomFile, kRomBar,
    kBus,     kAddress,
};

/// A virtio device's properties that have nothing to do with its place on PCI, which come first.
constexpr std::span<const PropertySpecification> without_pci(
    std::span<const PropertySpecification> properties) {
  size_t count = 0;
  while (properties[count].name != kVectors.name) ++count;
  return properties.first(count);
}
constexpr std::string_view kMmioHelp = "the same with registers in memory: board microvm";

constexpr std::array kCatalog = {
    DeviceSpecification{"virtio-blk-pci", "virtio-blk", "PCI", "virtio disk", kBlockProperties},
    DeviceSpecification{"e1000", "e1000-82540em", "PCI", "Intel Gigabit Ethernet",
                        kE1000Properties},
    DeviceSpecification{"virtio-net-pci", "virtio-net", "PCI", "virtio network card",
                        kNetProperties},
    DeviceSpecification{"virtio-scsi-pci", "virtio-scsi", "PCI", "virtio SCSI adapter",
                        kScsiBusProperties},
    DeviceSpecification{"scsi-hd", "", "SCSI", "SCSI disk", kScsiDiskProperties},
    DeviceSpecification{"scsi-cd", "", "SCSI", "SCSI CD-ROM", kScsiCdProperties},
    DeviceSpecification{"ide-hd", "", "IDE", "ATA disk", kIdeDiskProperties},
    DeviceSpecification{"ide-cd", "", "IDE", "ATAPI CD-ROM", kIdeCdProperties},
    DeviceSpecification{"ich9-ahci", "ahci", "PCI", "AHCI controller: six SATA ports",
                        kIdeControllerProperties},
    DeviceSpecification{"piix3-ide", "", "PCI", "IDE controller: two channels",
                        kIdeControllerProperties},
    DeviceSpecification{"nvme", "", "PCI", "NVMe disk", kNvmeProperties},
    DeviceSpecification{"qemu-xhci", "nec-usb-xhci", "PCI", "USB controller (xHCI)",
                        kXhciProperties},
    DeviceSpecification{"usb-kbd", "", "usb-bus", "USB keyboard", kUsbHidProperties},
    DeviceSpecification{"usb-mouse", "", "usb-bus", "USB mouse", kUsbHidProperties},
    DeviceSpecification{"usb-tablet", "", "usb-bus", "USB tablet: absolute positions",
                        kUsbHidProperties},
    DeviceSpecification{"usb-storage", "", "usb-bus", "USB disk or CD-ROM drive",
                        kUsbStorageProperties},
    DeviceSpecification{"virtio-rng-pci", "virtio-rng", "PCI", "virtio entropy source",
                        kEntropyProperties},
    DeviceSpecification{"virtio-balloon-pci", "virtio-balloon", "PCI", "virtio memory balloon",
                        kBalloonProperties},
    DeviceSpecification{"pcie-root-port", "", "PCI", "PCI Express slot for hot-plug",
                        kRootPortProperties},
    DeviceSpecification{"pvpanic", "", "ISA", "a port at which a guest tells of its panic",
                        kPvpanicProperties},
    DeviceSpecification{"pvpanic-pci", "", "PCI", "the same behind PCI", kPvpanicPciProperties},
    DeviceSpecification{"tpm-tis", "", "ISA", "TPM 2.0 with the FIFO interface", kTpmProperties},
    DeviceSpecification{"tpm-crb", "", "ISA", "TPM 2.0 with a command response buffer",
                        kTpmProperties},
    DeviceSpecification{"i6300esb", "", "PCI", "watchdog timer", kWatchdogProperties},
    DeviceSpecification{"virtio-serial-pci", "virtio-serial", "PCI", "virtio console controller",
                        kSerialBusProperties},
    DeviceSpecification{"virtconsole", "", "virtio-serial-bus", "virtio console", kPortProperties},
    DeviceSpecification{"virtserialport", "", "virtio-serial-bus", "virtio byte stream",
                        kPortProperties},
    DeviceSpecification{"isa-serial", "", "ISA", "serial port (16550)", kSerialProperties},
    DeviceSpecification{"isa-debug-exit", "", "ISA", "a port that ends the machine",
                        kDebugExitProperties},
    DeviceSpecification{"isa-debugcon", "", "ISA", "a port that prints what is written",
                        kDebugConsoleProperties},
    DeviceSpecification{"VGA", "", "PCI", "VGA with Bochs' VBE: -vga std", kVgaProperties},
    DeviceSpecification{"bochs-display", "", "PCI", "linear frame buffer, no VGA",
                        kBochsDisplayProperties},
    DeviceSpecification{"virtio-gpu-pci", "virtio-gpu", "PCI", "virtio graphics card",
                        kGpuProperties},
    DeviceSpecification{"virtio-vga", "", "PCI", "the same with a VGA: -vga virtio",
                        kVirtioVgaProperties},
    DeviceSpecification{"virtio-blk-device", "", kVirtioBus, kMmioHelp,
                        without_pci(kBlockProperties)},
    DeviceSpecification{"virtio-net-device", "", kVirtioBus, kMmioHelp,
                        without_pci(kNetProperties)},
    DeviceSpecification{"virtio-scsi-device", "", kVirtioBus, kMmioHelp,
                        without_pci(kScsiBusProperties)},
    DeviceSpecification{"virtio-rng-device", "", kVirtioBus, kMmioHelp,
                        without_pci(kEntropyProperties)},
    DeviceSpecification{"virtio-balloon-device", "", kVirtioBus, kMmioHelp,
                        without_pci(kBalloonProperties)},
    DeviceSpecification{"virtio-serial-device", "", kVirtioBus, kMmioHelp,
                        without_pci(kSerialBusProperties)},
    DeviceSpecification{"pc-testdev", "", "ISA", "ports for test suites", kTestDeviceProperties},
};

constexpr std::array<std::string_view, 4> kTrue = {"on", "yes", "true", "y"};
constexpr std::array<std::string_view, 4> kFalse = {"off", "no", "false", "n"};

Result<> check_value(const PropertySpecification& property, std::string_view value) {
  switch (property.type) {
    case kText:
      if (property.name == kWriteCache.name && value != "auto" && !parse_boolean(value))
        return fail("not known; valid choices: on, off, auto");
      if (property.name == kReadError.name || property.name == kWriteError.name) {
        const bool read = property.name == kReadError.name;
        if (value != "auto" && (!block::parse_error_action(value) || (read && value == "enospc")))
          return fail("invalid {} error action; valid choices: {}report, ignore, stop, auto",
                      read ? "read" : "write", read ? "" : "enospc, ");
      }
      if (property.name == kUsbPort.name) {
        // Text, since with hubs it were a path, "1.2".
        constexpr uint64_t kMostPorts = 15;
        const auto port = parse_number(value);
        if (!port || *port < 1 || *port > kMostPorts)
          return fail("there are no hubs; valid: 1 to {}", kMostPorts);
      }
      if (property.name == kDisableLegacy.name && value != "on" && value != "auto")
        return fail("legacy virtio is not there; use on or auto");
      return {};
    case kBoolean:
      if (LIMEN_TRY(parse_boolean(value)) && property.name == kDisableModern.name)
        return fail("only modern virtio is there; use off");
      return {};
    case kNumber: {
      const auto number = LIMEN_TRY(parse_number(value));
      if (number < property.minimum || number > property.maximum)
        return fail("out of range; valid: {} to {}", property.minimum, property.maximum);
      return {};
    }
  }
  return {};
}

}  // namespace

std::span<const DeviceSpecification> device_catalog() { return kCatalog; }

const DeviceSpecification* find_device(std::string_view driver) {
  // virtio devices are modern alone, which is what QEMU calls so when one insists on it.
  if (driver.starts_with("virtio-") && driver.ends_with(kNonTransitional))
    driver.remove_suffix(kNonTransitional.size());
  for (const auto& device : kCatalog)
    if (device.driver == driver || (!device.alias.empty() && device.alias == driver))
      return &device;
  return nullptr;
}

Result<const PropertySpecification*> find_property(
    std::string_view owner, std::span<const PropertySpecification> properties,
    std::string_view name) {
  const auto found = std::ranges::find(properties, name, &PropertySpecification::name);
  if (found != properties.end()) return &*found;
  std::vector<std::string_view> names;
  names.reserve(properties.size());
  for (const auto& property : properties) names.push_back(property.name);
  return fail("Property '{}.{}' not found{}", owner, name, choice_hint(name, names));
}

std::string resolve_driver(std::string_view driver, bool pci) {
  const auto* device = find_device(driver);
  if (device == nullptr) return std::string(driver);
  std::string name(device->driver);
  if (!pci && driver == device->alias && name.starts_with("virtio-") && name.ends_with(kVirtioPci))
    name.replace(name.size() - kVirtioPci.size(), std::string::npos, kVirtioDevice);
  return name;
}

Result<> check_device(const DeviceDescription& device) {
  const auto* specification = find_device(device.driver);
  if (device.driver == "scsi-block" || device.driver == "scsi-generic")
    return fail(
        "device '{}' passes SCSI commands through to the host, which is not there; use scsi-hd",
        device.driver);
  if (specification == nullptr) {
    std::vector<std::string_view> drivers;
    drivers.reserve(kCatalog.size());
    for (const auto& known : kCatalog) drivers.push_back(known.driver);
    return fail("'{}' is not a valid device model name{}", device.driver,
                choice_hint(device.driver, drivers));
  }
  for (const auto& [name, value] : device.properties) {
    const auto* found =
        LIMEN_TRY(find_property(specification->driver, specification->properties, name));
    if (auto checked = check_value(*found, value); !checked)
      return fail("Property '{}.{}' doesn't take value '{}': {}", specification->driver, name,
                  value, checked.error().message);
  }
  return {};
}

std::string describe_devices() {
  std::string text;
  for (const auto& device : kCatalog)
    text += fmt::format("{:<18} bus {:<18} {}{}\n", device.driver, device.bus, device.help,
                        device.alias.empty() ? "" : fmt::format(" (alias {})", device.alias));
  return text;
}

std::string describe_properties(const DeviceSpecification& device) {
  std::string text = fmt::format("{} properties:\n", device.driver);
  for (const auto& property : device.properties) {
    const char* type = property.type == kBoolean  ? "on|off"
                       : property.type == kNumber ? "number"
                                                  : "text";
    text += fmt::format("  {:<16} <{}>  {}\n", property.name, type, property.help);
  }
  return text;
}

Result<bool> parse_boolean(std::string_view text) {
  if (std::ranges::find(kTrue, text) != kTrue.end()) return true;
  if (std::ranges::find(kFalse, text) != kFalse.end()) return false;
  return fail("expects 'on' or 'off', not '{}'", text);
}

Result<uint64_t> parse_number(std::string_view text) {
  int base = 10;
  std::string_view digits = text;
  if (digits.starts_with("0x") || digits.starts_with("0X")) {
    base = 16;
    digits.remove_prefix(2);
  } else if (digits.size() > 1 && digits.starts_with("0")) {
    base = 8;
    digits.remove_prefix(1);
  }
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error == std::errc::result_out_of_range) return fail("'{}' does not fit 64 bits", text);
  if (error != std::errc() || end != digits.data() + digits.size())
    return fail("'{}' is not a number", text);
  return value;
}

std::string DeviceProperties::text(const std::string& name, std::string_view otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::string(otherwise) : found->second;
}

bool DeviceProperties::boolean(const std::string& name, bool otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? otherwise : parse_boolean(found->second).value_or(otherwise);
}

uint64_t DeviceProperties::number(const std::string& name, uint64_t otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? otherwise : parse_number(found->second).value_or(otherwise);
}

}  // namespace limen::machine
