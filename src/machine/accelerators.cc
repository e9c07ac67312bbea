#include "machine/accelerators.h"

#include <array>

#include "base/log.h"
#include "base/nearest.h"
#include "kvm/choice.h"
#include "kvm/device.h"
#include "kvm/kvm_accelerator.h"
#include "soft/soft_accelerator.h"

namespace limen::machine {

namespace {

constexpr std::array<std::string_view, 3> kAccelerators = {"soft", "tcg", "kvm"};

constexpr std::array<LogItem, 3> kLogItems = {
    {{"out_asm", "host code that each block of guest code is translated to"},
     {"in_asm", "guest code, when it is translated or decoded"},
     {"int", "interrupts and exceptions, when they are delivered"}}};

/// Found out once: a guest is run for it. Empty: it is the choice.
const std::string& why_not_kvm() {
  static const std::string reason = kvm::choose().why_not;
  return reason;
}

}  // namespace

std::span<const LogItem> log_items() { return kLogItems; }

std::span<const std::string_view> accelerator_names() { return kAccelerators; }

Result<std::string> choose_accelerator(std::string_view names) {
  std::string refused;
  for (;;) {
    const auto end = names.find(':');
    const auto name = names.substr(0, end);
    const bool last = end == std::string_view::npos;
    if (name == "soft" || name == "tcg") {
      if (!refused.empty()) log::warning("{}; going on with 'soft'", refused);
      return "soft";
    }
    if (name != "kvm")
      return fail("invalid accelerator '{}'{}", name, choice_hint(name, kAccelerators));
    if (last) {
      LIMEN_TRY(kvm::Device::open());
      return "kvm";
    }
    if (kvm_is_the_choice()) return "kvm";
    refused = why_not_kvm();
    names.remove_prefix(end + 1);
  }
}

bool kvm_is_the_choice() { return why_not_kvm().empty(); }

Result<std::unique_ptr<vcpu::Accelerator>> create_accelerator(
    const MachineDescription& description) {
  constexpr std::array<std::string_view, 2> kNames = {"soft", "kvm"};
  const auto& name = description.accelerator;
  const auto& properties = description.accelerator_properties;
  if (name == "soft") {
    LIMEN_TRY(soft::check_host_processor());
    soft::SoftOptions options;
    if (const auto size = properties.find("tb-size"); size != properties.end())
      options.code_size = std::stoull(size->second) << 20;
    if (const auto tier = properties.find("tier"); tier != properties.end())
      if (tier->second == "interpreter") options.code_size = 0;
    if (options.code_size != 0) LIMEN_TRY(soft::check_may_make_code());
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
    if (const auto size = properties.find("dirty-ring-size"); size != properties.end())
      options.dirty_ring_size = static_cast<unsigned>(std::stoul(size->second));
    return kvm::make_kvm_accelerator(LIMEN_TRY(kvm::Device::open()), options);
  }
  return fail("invalid accelerator '{}'{}", name, choice_hint(name, kNames));
}

}  // namespace limen::machine
