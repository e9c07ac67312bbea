#include "pci/pci_bus.h"

#include <algorithm>
#include <charconv>

#include "pci/interrupt_routing.h"

namespace limen::pci {

namespace {
size_t slot(PciAddress address) { return address.device * PciBus::kFunctions + address.function; }

bool parse_hex(std::string_view text, unsigned limit, uint8_t& value) {
  if (text.starts_with("0x") || text.starts_with("0X")) text.remove_prefix(2);
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (error != std::errc{} || end != text.data() + text.size() || number >= limit) return false;
  value = static_cast<uint8_t>(number);
  return true;
}
}  // namespace

Result<PciAddress> parse_pci_address(std::string_view text) {
  PciAddress address;
  const size_t dot = text.find('.');
  if (!parse_hex(text.substr(0, dot), PciBus::kDevices, address.device) ||
      (dot != text.npos && !parse_hex(text.substr(dot + 1), PciBus::kFunctions, address.function)))
    return fail(
        "PCI address '{}' is not of the form 0x3 or 0x3.0x1 (device 0x0 to 0x1f, function "
        "0x0 to 0x7)",
        text);
  return address;
}

PciBus::PciBus(std::string name, const BusConnections& connections, unsigned devices)
    : name_(std::move(name)), connections_(connections), devices_(devices) {}

Result<PciAddress> PciBus::attach(PciFunction& function, std::string_view address) {
  const auto device_is_free = [this](unsigned device) {
    return std::all_of(functions_.begin() + device * kFunctions,
                       functions_.begin() + (device + 1) * kFunctions,
                       [](const PciFunction* other) { return other == nullptr; });
  };
  unsigned free = devices_ == kDevices ? 1 : 0;
  while (free < devices_ && !device_is_free(free)) ++free;

  PciAddress at{static_cast<uint8_t>(free), 0};
  if (!address.empty()) at = LIMEN_TRY(parse_pci_address(address));
  if (address.empty() && free == devices_)
    return fail("no free device on PCI bus {} for {}: all {} are taken", name_, function.name(),
                devices_ == kDevices ? kDevices - 1 : devices_);
  if (at.device >= devices_)
    return fail("slot {} is not valid for {}, parent device only allows plugging into slot 0",
                at.device, function.name());
  if (const PciFunction* other = functions_[slot(at)]) {
    const std::string hint =
        free < devices_ ? fmt::format("; the first free device is {:#x}", free) : std::string();
    return fail("PCI: slot {} function {} not available for {}, in use by {}{}", at.device,
                at.function, function.name(), other->name(), hint);
  }
  functions_[slot(at)] = &function;
  function.attach(at, connections_);
  connect_interrupt(function);
  if (interrupts_ != nullptr) function.connect_downstream_interrupts(*interrupts_);
  // A guest looks at functions 1 to 7 only where function 0 says that there are some.
  if (PciFunction* first = functions_[slot({at.device, 0})])
    for (uint8_t i = 1; i < kFunctions; ++i)
      if (functions_[slot({at.device, i})] != nullptr) first->set_multifunction();
  return at;
}

void PciBus::connect_interrupts(irq::InterruptSink& sink) {
  interrupts_ = &sink;
  for (PciFunction* function : functions_)
    if (function != nullptr) {
      connect_interrupt(*function);
      function->connect_downstream_interrupts(sink);
    }
}

void PciBus::detach(PciFunction& function) {
  for (auto& other : functions_)
    if (other == &function) other = nullptr;
  function.reset();  // which unmaps its BARs
}

const PciBus* PciBus::find_bus(uint8_t number) const {
  if (number == 0) return this;
  for (PciFunction* function : functions_)
    if (function != nullptr)
      if (const PciBus* bus = function->bus_behind(number)) return bus;
  return nullptr;
}

void PciBus::connect_interrupt(PciFunction& function) const {
  const uint8_t pin = function.interrupt_pin();
  if (interrupts_ != nullptr && pin != 0)
    function.connect_interrupt(*interrupts_, function.address().device * 4u + pin - 1u);
}

PciFunction* PciBus::function(PciAddress address) const {
  if (address.device >= kDevices || address.function >= kFunctions) return nullptr;
  return functions_[slot(address)];
}

std::vector<PciFunction*> PciBus::functions() const {
  std::vector<PciFunction*> all;
  std::ranges::copy_if(functions_, std::back_inserter(all),
                       [](const PciFunction* function) { return function != nullptr; });
  return all;
}

uint32_t PciBus::config_read(PciAddress address, uint16_t offset, unsigned size) const {
  PciFunction* target = function(address);
  return target != nullptr ? target->config_read(offset, size) : 0xFFFF'FFFF;
}

void PciBus::config_write(PciAddress address, uint16_t offset, unsigned size,
                          uint32_t value) const {
  if (PciFunction* target = function(address)) target->config_write(offset, size, value);
}

namespace {

struct Allocation {
  PciFunction* function;
  unsigned index;
  uint64_t size;
};

Result<> allocate(std::vector<Allocation>& wanted, ResourceWindow window, std::string_view kind) {
  // Largest first: every BAR is aligned to its size, so nothing is lost between them.
  std::ranges::stable_sort(wanted, std::ranges::greater{}, &Allocation::size);
  uint64_t next = window.start;
  for (const auto& [function, index, size] : wanted) {
    const uint64_t address = (next + size - 1) & ~(size - 1);
    if (address - window.start > window.size || size > window.size - (address - window.start))
      return fail("no room for BAR {} of {} ({:#x} bytes) in the PCI {} window {:#x}+{:#x}", index,
                  function->name(), size, kind, window.start, window.size);
    const auto offset = static_cast<uint16_t>(reg::kBar0 + 4 * index);
    function->config_write(offset, 4, static_cast<uint32_t>(address));
    if (function->bar(index).kind == BarKind::kMemory64)
      function->config_write(static_cast<uint16_t>(offset + 4), 4,
                             static_cast<uint32_t>(address >> 32));
    next = address + size;
  }
  return {};
}

}  // namespace

Result<> assign_resources(
    PciBus& bus, ResourceWindow mmio, ResourceWindow io,
    const std::function<unsigned(unsigned device, unsigned pin)>& interrupt_of) {
  std::vector<Allocation> memory_bars;
  std::vector<Allocation> io_bars;
  for (PciFunction* function : bus.functions())
    for (unsigned i = 0; i < PciFunction::kBarCount; ++i) {
      const Bar& bar = function->bar(i);
      if (bar.size == 0) continue;
      (bar.kind == BarKind::kIo ? io_bars : memory_bars).push_back({function, i, bar.size});
    }
  LIMEN_TRY(allocate(memory_bars, mmio, "memory"));
  LIMEN_TRY(allocate(io_bars, io, "I/O"));
  for (PciFunction* function : bus.functions()) {
    const auto decodes = [function](bool ports) {
      for (unsigned i = 0; i < PciFunction::kBarCount; ++i)
        if (function->bar(i).size != 0 && (function->bar(i).kind == BarKind::kIo) == ports)
          return true;
      return false;
    };
    auto enable = function->config_read(reg::kCommand, 2);
    if (decodes(false)) enable |= command::kMemory;
    if (decodes(true)) enable |= command::kIo;
    function->config_write(reg::kCommand, 2, enable);
    if (const uint8_t pin = function->interrupt_pin()) {
      const unsigned device = function->address().device;
      function->config_write(
          reg::kInterruptLine, 1,
          interrupt_of ? interrupt_of(device, pin - 1u) : intx_gsi(device, pin - 1u));
    }
  }
  return {};
}

}  // namespace limen::pci
