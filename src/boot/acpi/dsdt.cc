#include "boot/acpi/dsdt.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "boot/memory_map.h"
#include "device/tpm/crb.h"
#include "device/tpm/tis.h"
#include "pci/interrupt_routing.h"
#include "pci/piix3_isa.h"

namespace limen::boot::acpi {
namespace {

using namespace aml;

constexpr unsigned kPciDevices = 32;
constexpr unsigned kPciPins = 4;
/// Device and function of the ISA bridge.
constexpr uint64_t kLpcAddress = 0x001F'0000, kPiix3Address = 0x0001'0000;

std::string link_name(unsigned pirq) { return std::string("GSI") + static_cast<char>('A' + pirq); }

/// Negotiation of PCI Express features (PCI Firmware Specification 3.3 4.5.1): the operating system
/// gets the control of all that it asks for.
Code pci_osc() {
  constexpr uint64_t kUnrecognizedUuid = 1u << 2, kUnrecognizedRevision = 1u << 3,
                     kCapabilitiesMasked = 1u << 4;
  constexpr uint64_t kControls = 0x1F;  // hot-plug (both), PME, AER, capability structure
  const Code status = path("CDW1"), control = path("CDW3");
  const Code grant = create_dword_field(argument(3), 8, "CDW3") +
                     bit_and(control, integer(kControls), local(0)) +
                     if_then(logical_not(equal(argument(1), integer(1))),
                             bit_or(status, integer(kUnrecognizedRevision), status)) +
                     if_then(logical_not(equal(control, local(0))),
                             bit_or(status, integer(kCapabilitiesMasked), status)) +
                     store(local(0), control);
  return method(
      "_OSC", 4, true,
      create_dword_field(argument(3), 0, "CDW1") +
          if_then(equal(argument(0), uuid("33db4d5b-1ff7-401c-9657-7441c03dd766")), grant) +
          otherwise(bit_or(status, integer(kUnrecognizedUuid), status)) +
          return_value(argument(3)));
}

std::string piix_link_name(unsigned pirq) {
  return std::string("LNK") + static_cast<char>('A' + pirq);
}

/// One entry per device and pin, each through the link device of its PIRQ (ACPI 6.5 6.2.13).
Code pci_routing(const Board& board) {
  Code entries;
  for (unsigned device_number = 0; device_number < kPciDevices; ++device_number)
    for (unsigned pin = 0; pin < kPciPins; ++pin) {
      const uint64_t any_function = (uint64_t{device_number} << 16) | 0xFFFF;
      const auto link = board.chipset == Chipset::kQ35
                            ? link_name(pci::intx_pirq(device_number, pin))
                            : piix_link_name(pci::Piix3Isa::pirq(device_number, pin));
      entries +=
          package(4, integer(any_function) + integer(pin) + path("\\_SB." + link) + integer(0));
    }
  return name("_PRT", package(kPciDevices * kPciPins, entries));
}

/// The PIRQs of the PIIX3, which its registers 60h to 63h route to ISA interrupts
/// (ACPI 6.5 6.2.16): an operating system may choose among three. Bit 7 set: not routed.
Code piix_links() {
  constexpr std::array<uint32_t, 3> kChoices = {5, 10, 11};
  constexpr uint64_t kNotRouted = 0x80, kRoute = 0x0F;
  constexpr uint64_t kDisabled = 0x09, kEnabled = 0x0B;  // as _STA has it
  Code links;
  for (unsigned pirq = 0; pirq < pci::Piix3Isa::kPirqs; ++pirq) {
    const Code route = path("\\_SB.PCI0.ISA.PRQ" + std::to_string(pirq));
    const Code number = path("IRQN");
    links +=
        device(piix_link_name(pirq),
               name("_HID", eisa_id("PNP0C0F")) + name("_UID", integer(pirq)) +
                   name("_PRS", resource_template(interrupts_level_high_shared(kChoices))) +
                   method("_STA", 0, false,
                          if_then(bit_and(route, integer(kNotRouted), no_target()),
                                  return_value(integer(kDisabled))) +
                              return_value(integer(kEnabled))) +
                   method("_DIS", 0, false, bit_or(route, integer(kNotRouted), route)) +
                   method("_CRS", 0, true,
                          store(resource_template(interrupt_level_high_shared(0)), local(0)) +
                              create_dword_field(local(0), kFirstGsiOffset, "IRQN") +
                              bit_and(route, integer(kRoute), number) + return_value(local(0))) +
                   method("_SRS", 1, true,
                          create_dword_field(argument(0), kFirstGsiOffset, "IRQN") +
                              store(number, route)));
  }
  return links;
}

/// The PIRQs as I/O APIC inputs. A link device, not a bare number, because only it can say that the
/// input is active high.
Code interrupt_links() {
  Code links;
  for (unsigned pirq = 0; pirq < pci::kPirqCount; ++pirq) {
    const Code resources =
        resource_template(interrupt_level_high_shared(pci::kFirstPirqGsi + pirq));
    links += device(link_name(pirq), name("_HID", eisa_id("PNP0C0F")) +
                                         name("_UID", integer(pirq)) + name("_PRS", resources) +
                                         name("_CRS", resources) + method("_SRS", 1, false, {}));
  }
  return links;
}

Code simple_device(std::string_view device_name, std::string_view id, const Code& resources) {
  return device(device_name,
                name("_HID", eisa_id(id)) + name("_CRS", resource_template(resources)));
}

Code serial_port(unsigned index) {
  const uint16_t port = index == 0 ? 0x3F8 : 0x2F8;
  return device(fmt::format("COM{}", index + 1),
                name("_HID", eisa_id("PNP0501")) + name("_UID", integer(index + 1)) +
                    name("_CRS", resource_template(io(port, 8) + irq(index == 0 ? 4 : 3))));
}

Code tpm(const Board& board) {
  const Code registers = board.tpm == Board::Tpm::kTis
                             ? memory32_fixed(device::TpmTis::kBase, device::TpmTis::kSize)
                             : memory32_fixed(device::TpmCrb::kBase, device::TpmCrb::kSize);
  return device("TPM", name("_HID", string("MSFT0101")) + name("_STA", integer(0x0F)) +
                           name("_CRS", resource_template(registers)));
}

Code isa_bridge(const Board& board) {
  const bool q35 = board.chipset == Chipset::kQ35;
  Code body;
  if (board.chipset == Chipset::kNone)
    body += name("_HID", eisa_id("PNP0A05"));  // a container
  else
    body += name("_ADR", integer(q35 ? kLpcAddress : kPiix3Address));
  if (board.chipset == Chipset::kI440fx)
    body += operation_region("PRR", Space::kPciConfig, 0x60, 4) +
            byte_fields("PRR", std::array<std::string_view, 4>{"PRQ0", "PRQ1", "PRQ2", "PRQ3"});
  if (board.pic)
    body += simple_device("PIC", "PNP0000", io(0x20, 2) + io(0xA0, 2) + io(0x4D0, 2) + irq(2));
  if (board.pit) body += simple_device("TIMR", "PNP0100", io(0x40, 4) + irq(0));
  if (board.rtc) body += simple_device("RTC", "PNP0B00", io(0x70, 2) + irq(8));
  body += simple_device("SPKR", "PNP0800", io(0x61, 1));
  if (board.keyboard_controller) {
    body += simple_device("KBD", "PNP0303", io(0x60, 1) + io(0x64, 1) + irq(1));
    body += simple_device("MOU", "PNP0F13", irq(12));
  }
  for (unsigned i = 0; i < board.serial_ports && i < 2; ++i) body += serial_port(i);
  if (board.panic_port != 0)
    body += device("PEVT", name("_HID", string("QEMU0001")) +
                               name("_CRS", resource_template(io(board.panic_port, 1))));
  if (board.tpm != Board::Tpm::kNone) body += tpm(board);
  if (board.fw_cfg)
    body += device("FWCF", name("_HID", string("QEMU0002")) + name("_STA", integer(0x0B)) +
                               name("_CRS", resource_template(io(0x510, 12))));
  // The power-management block and the SMI command port: taken, by nobody that binds to them.
  body += device("PMIO", name("_HID", eisa_id("PNP0C02")) + name("_UID", integer(1)) +
                             name("_CRS", resource_template(io(board.pm_base, q35 ? 0x80 : 0x40) +
                                                            io(kSmiCommandPort, 2))));
  return device("ISA", body);
}

Code host_bridge(const Board& board) {
  constexpr uint16_t kConfigurationPorts = 0xCF8;
  Code resources =
      bus_window(0, 255) + io(kConfigurationPorts, 8) + io_window(0, kConfigurationPorts - 1) +
      io_window(kConfigurationPorts + 8, 0xFFFF) + memory_window(0xA'0000, 0xB'FFFF, true);
  auto windows = board.memory_windows;
  if (windows.empty()) windows.push_back({kPciWindowStart, kPciWindowEnd - 1});
  for (const auto& window : windows)
    resources += memory_window(static_cast<uint32_t>(window.first),
                               static_cast<uint32_t>(window.last), false);
  if (board.high_window.last != 0)
    resources += memory_window64(board.high_window.first, board.high_window.last);
  const Code identity = board.chipset == Chipset::kQ35
                            ? name("_HID", eisa_id("PNP0A08")) + name("_CID", eisa_id("PNP0A03"))
                            : name("_HID", eisa_id("PNP0A03"));
  return device("PCI0", identity + name("_SEG", integer(0)) + name("_BBN", integer(0)) +
                            name("_UID", integer(0)) + name("_CRS", resource_template(resources)) +
                            (board.chipset == Chipset::kQ35 ? pci_osc() : Code{}) +
                            pci_routing(board) + isa_bridge(board));
}

/// What finds a virtio device without PCI: its id is Linux's and QEMU's, the registers and the
/// interrupt are its resources.
Code virtio_devices(const Board& board) {
  Code code;
  for (unsigned i = 0; i < board.virtio.size(); ++i)
    code += device(
        fmt::format("VR{:02}", i),
        name("_HID", string("LNRO0005")) + name("_UID", integer(i)) + name("_CCA", integer(1)) +
            name("_CRS",
                 resource_template(memory32_fixed(board.virtio[i].base, board.virtio[i].size) +
                                   interrupt_level_high_shared(board.virtio[i].line))));
  return code;
}

/// ACPI 6.5 7.4.2.
Code sleep_state(std::string_view state, uint8_t type) {
  return name(state, package(4, integer(type) + integer(type) + integer(0) + integer(0)));
}

Code processors(const Board& board) {
  Code code;
  for (unsigned i = 0; i < board.vcpus; ++i)
    code += device(fmt::format("C{:03X}", i),
                   name("_HID", string("ACPI0007")) + name("_UID", integer(i)));
  return code;
}

}  // namespace

Code dsdt_body(const Board& board) {
  Code system_bus;
  switch (board.chipset) {
    case Chipset::kQ35:
      system_bus += host_bridge(board) + interrupt_links();
      break;
    case Chipset::kI440fx:
      system_bus += host_bridge(board) + piix_links();
      break;
    case Chipset::kNone:
      system_bus += isa_bridge(board) + virtio_devices(board);
      break;
  }
  system_bus += processors(board);
  // Linux uses the ECAM window only if it is reserved here or in the E820 map.
  if (board.ecam_base != 0)
    system_bus += device(
        "MBRD",
        name("_HID", eisa_id("PNP0C02")) + name("_UID", integer(0)) +
            name("_CRS", resource_template(memory32_fixed(static_cast<uint32_t>(board.ecam_base),
                                                          static_cast<uint32_t>(kEcamSize)))));
  if (board.hpet)
    system_bus += device("HPET", name("_HID", eisa_id("PNP0103")) + name("_UID", integer(0)) +
                                     name("_CRS", resource_template(memory32_fixed(
                                                      static_cast<uint32_t>(kHpetBase), 0x400))));
  Code states;
  if (board.suspend_to_ram) states += sleep_state("_S3", kSuspendSleepType);
  if (board.suspend_to_disk) states += sleep_state("_S4", kHibernateSleepType);
  states += sleep_state("_S5", kSoftOffSleepType);
  return scope("\\_SB", system_bus) + states;
}

}  // namespace limen::boot::acpi
