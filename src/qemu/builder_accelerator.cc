// Accelerators and what they are told: -accel, -enable-kvm, and their part of -machine.
#include <algorithm>
#include <array>
#include <ranges>

#include "base/log.h"
#include "base/nearest.h"
#include "base/size_text.h"
#include "machine/accelerators.h"
#include "machine/device_catalog.h"
#include "qemu/builder.h"

namespace limen::qemu {
namespace {

using Properties = std::map<std::string, std::string>;

/// Between colons.
std::vector<std::string> names_in(std::string_view list) {
  std::vector<std::string> names;
  for (const auto name : list | std::views::split(':'))
    names.emplace_back(name.begin(), name.end());
  return names;
}

bool is_known(std::string_view name) {
  return std::ranges::find(machine::accelerator_names(), name) !=
         machine::accelerator_names().end();
}

Error unknown(std::string_view name) {
  return Error{fmt::format("invalid accelerator '{}'{}", name,
                           choice_hint(name, machine::accelerator_names()))};
}

/// Which interrupt controllers are the kernel's, with 'kvm'.
Result<> take_kernel_irqchip(const KeyValues& values, Properties& properties) {
  constexpr std::array<std::string_view, 3> kWays = {"on", "split", "off"};
  if (values.find("kernel-irqchip"))
    properties["kernel-irqchip"] = LIMEN_TRY(values.choice("kernel-irqchip", kWays, "on"));
  return {};
}

/// What tells QEMU how to do things that are done in one way here.
Result<> check_advice(const KeyValues& values) {
  constexpr std::array<std::string_view, 2> kThreads = {"single", "multi"};
  constexpr std::array<std::string_view, 3> kNotify = {"run", "internal-error", "disable"};
  LIMEN_TRY(values.choice("thread", kThreads, "multi"));
  LIMEN_TRY(values.choice("notify-vmexit", kNotify, "run"));
  LIMEN_TRY(values.boolean("split-wx", false));
  for (const std::string_view key : {"kvm-shadow-mem", "notify-window"})
    if (const auto value = values.find(key)) LIMEN_TRY(parse_size(*value, 1));
  return {};
}

}  // namespace

Result<> Builder::machine_accelerator(const KeyValues& values) {
  LIMEN_TRY(take_kernel_irqchip(values, result_.machine.accelerator_properties));
  const auto list = values.find("accel");
  if (!list) return {};
  // As in QEMU, a list may name what only other builds have.
  Accelerators wanted{.option = "-machine accel=" + *list, .names = {}, .properties = {}};
  const auto names = names_in(*list);
  for (const auto& name : names)
    if (is_known(name)) wanted.names.push_back(name);
  if (wanted.names.empty()) return std::unexpected(unknown(names.front()));
  for (const auto& name : names)
    if (!is_known(name)) log::warning("{}: {}", wanted.option, unknown(name).message);
  machine_accelerators_ = std::move(wanted);
  return {};
}

Result<> Builder::accelerator(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "accel"));
  if (values.wants_help()) {
    print(
        "Accelerators supported:\n"
        "soft                 Limen's own engine; needs nothing of the host (default)\n"
        "kvm                  the kernel's hypervisor; needs /dev/kvm\n"
        "tcg                  another name for soft\n");
    return {};
  }
  constexpr std::array<std::string_view, 11> kKnown = {
      "accel",  "tier",     "stats",          "tb-size",       "kernel-irqchip", "dirty-ring-size",
      "thread", "split-wx", "kvm-shadow-mem", "notify-vmexit", "notify-window"};
  LIMEN_TRY(values.check(kKnown));
  LIMEN_TRY(check_advice(values));
  Accelerators wanted{
      .option = "-accel " + argument, .names = names_in(values.text("accel")), .properties = {}};
  for (const auto& name : wanted.names)
    if (!is_known(name)) return std::unexpected(unknown(name));
  auto& properties = wanted.properties;
  constexpr std::array<std::string_view, 2> kTiers = {"translator", "interpreter"};
  properties["tier"] = LIMEN_TRY(values.choice("tier", kTiers, "translator"));
  properties["stats"] = LIMEN_TRY(values.boolean("stats", false)) ? "on" : "off";
  if (const auto size = values.find("tb-size")) {
    const uint64_t bytes = LIMEN_TRY(parse_size(*size, uint64_t{1} << 20));
    constexpr uint64_t kLeast = 1, kMost = 1024;
    if (bytes >> 20 < kLeast || bytes >> 20 > kMost)
      return fail("-accel tb-size={}: should be {} to {} (MiB)", *size, kLeast, kMost);
    properties["tb-size"] = std::to_string(bytes >> 20);
  }
  if (const auto size = values.find("dirty-ring-size")) {
    const auto entries = machine::parse_number(*size);
    constexpr uint64_t kMost = 1u << 16;
    if (!entries || *entries > kMost || (*entries & (*entries - 1)) != 0)
      return fail("-accel dirty-ring-size={}: should be a power of two up to {}, or 0 for none",
                  *size, kMost);
    properties["dirty-ring-size"] = std::to_string(*entries);
  }
  LIMEN_TRY(take_kernel_irqchip(values, properties));
  accelerators_.push_back(std::move(wanted));
  return {};
}

Result<> Builder::enable_kvm(const std::string&) {
  accelerators_.push_back({.option = "-enable-kvm", .names = {"kvm", "soft"}, .properties = {}});
  return {};
}

/// The first that is there, with what it was told itself.
Result<> Builder::finish_accelerator() {
  if (accelerators_.empty() && machine_accelerators_)
    accelerators_.push_back(*machine_accelerators_);
  if (accelerators_.empty()) return {};
  std::string names;
  for (const auto& each : accelerators_)
    for (const auto& name : each.names) names += (names.empty() ? "" : ":") + name;
  auto chosen = machine::choose_accelerator(names);
  if (!chosen) {
    chosen.error().message = accelerators_.back().option + ": " + chosen.error().message;
    return std::unexpected(std::move(chosen).error());
  }
  auto& machine = result_.machine;
  machine.accelerator = *chosen;
  const auto names_it = [&](const Accelerators& each) {
    return std::ranges::any_of(each.names, [&](std::string_view name) {
      return name == *chosen || (name == "tcg" && *chosen == "soft");
    });
  };
  for (const auto& [key, value] : std::ranges::find_if(accelerators_, names_it)->properties)
    machine.accelerator_properties[key] = value;
  return {};
}

}  // namespace limen::qemu
