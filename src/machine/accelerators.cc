#include "machine/accelerators.h"

#include <array>

#include "base/nearest.h"
#include "kvm/device.h"
#include "kvm/kvm_accelerator.h"
#include "soft/soft_accelerator.h"

namespace limen::machine {

namespace {

constexpr std::array<LogItem, 3> kLogItems = {
    {{"out_asm", "host code that each block of guest code is translated to"},
     {"in_asm", "guest code, when it is translated or decoded"},
     {"int", "interrupts and exceptions, when they are delivered"}}};

}  // namespace

std::span<const LogItem> log_items() { return kLogItems; }

std::optional<std::string> why_not_kvm() {
  const auto device = kvm::Device::open();
  if (device) return std::nullopt;
  return device.error().message;
}

Result<std::unique_ptr<vcpu::Accelerator>> create_accelerator(
    const MachineDescription& description) {
  constexpr std::array<std::string_view, 2> kNames = {"soft", "kvm"};
  const auto& name = description.accelerator;
  const auto& properties = description.accelerator_properties;
  if (name == "soft") {
    soft::SoftOptions options;
    if (const auto size = properties.find("tb-size"); size != properties.end())
      options.code_size = std::stoull(size->second) << 20;
    if (const auto tier = properties.find("tier"); tier != properties.end())
      if (tier->second == "interpreter") options.code_size = 0;
    const auto& log = description.log;
    const soft::TraceOptions trace{.in_asm = log.items.contains("in_asm"),
                                   .out_asm = log.items.contains("out_asm"),
                                   .interrupts = log.items.contains("int"),
                                   .file = log.file,
                                   .perf_map = log.perf_map};
    if (trace.any()) options.trace = LIMEN_TRY(soft::Trace::create(trace));
    return soft::make_soft_accelerator(std::move(options));
  }
  if (name == "kvm") {
    kvm::KvmOptions options;
    if (const auto chips = properties.find("kernel-irqchip"); chips != properties.end())
      options.irqchip = chips->second == "off"     ? kvm::IrqChip::kOff
                        : chips->second == "split" ? kvm::IrqChip::kSplit
                                                   : kvm::IrqChip::kOn;
    return kvm::make_kvm_accelerator(LIMEN_TRY(kvm::Device::open()), options);
  }
  return fail("invalid accelerator '{}'{}", name, choice_hint(name, kNames));
}

}  // namespace limen::machine
