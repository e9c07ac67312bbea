// Options that describe the machine itself: board, processor, memory, kernel, behaviour.
#include "qemu/builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <fstream>
#include <iterator>

#include "base/log.h"
#include "base/nearest.h"
#include "base/size_text.h"
#include "device/fw_cfg.h"
#include "machine/accelerators.h"
#include "machine/device_catalog.h"
#include "qemu/json_options.h"
#include "qemu/key_values.h"
#include "qemu/smp.h"

namespace limen::qemu {
namespace {

constexpr std::array<std::string_view, 6> kMachines = {"pc",         "pc-i440fx-7.2", "q35",
                                                       "pc-q35-7.2", "microvm",       "none"};
constexpr std::array<std::string_view, 7> kMicrovmOnly = {
    "pcie", "rtc", "isa-serial", "pic", "auto-kernel-cmdline", "x-option-roms", "ioapic2"};
constexpr uint64_t kMemoryGranularity = 8192;  // QEMU rounds -m up to this.

/// As -rtc base= has it, in UTC; seconds since 1970.
Result<int64_t> parse_date(const std::string& text) {
  for (const char* format : {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"}) {
    std::tm date{};
    const char* end = ::strptime(text.c_str(), format, &date);
    if (end != nullptr && *end == '\0') return ::timegm(&date);
  }
  return fail(
      "invalid datetime format '{}'; valid: utc, localtime, 2006-06-17T16:01:21 or 2006-06-17",
      text);
}

}  // namespace

Result<> Builder::machine(const std::string& argument) {
  auto values = LIMEN_TRY(KeyValues::parse(argument, "type"));
  values.write_keys_with_dashes();
  if (values.wants_help()) {
    print(
        "Supported machines are:\n"
        "microvm              no PCI, virtio devices with registers in memory\n"
        "none                 empty machine\n"
        "pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)\n"
        "pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)\n"
        "q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)\n"
        "pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)\n");
    return {};
  }
  std::vector<std::string_view> known = {
      "type",      "accel",   "hpet",           "pit",  "usb",           "dump-guest-core",
      "mem-merge", "vmport",  "memory-backend", "acpi", "kernel",        "initrd",
      "append",    "pflash0", "pflash1",        "smm",  "kernel-irqchip"};
  if (values.text("type", result_.machine.type) == "microvm")
    known.insert(known.end(), kMicrovmOnly.begin(), kMicrovmOnly.end());
  LIMEN_TRY(values.check(known));
  for (const std::string_view advice : {"dump-guest-core", "mem-merge"})
    LIMEN_TRY(values.boolean(advice, true));
  flash_[0] = values.text("pflash0", flash_[0]);
  flash_[1] = values.text("pflash1", flash_[1]);
  usb_ = LIMEN_TRY(values.boolean("usb", usb_));
  for (const std::string_view absent : {"vmport", "smm"})
    if (values.text(absent) != "auto" && LIMEN_TRY(values.boolean(absent, false)))
      return fail("{}={}: this board has none; use off", absent, values.text(absent));
  if (const auto type = values.find("type")) {
    if (std::ranges::find(kMachines, std::string_view(*type)) == kMachines.end())
      return fail("unsupported machine type '{}'{}", *type, choice_hint(*type, kMachines));
    result_.machine.type = *type == "none" || *type == "microvm" ? *type
                           : type->contains("q35")               ? "q35"
                                                                 : "pc";
  }
  if (result_.machine.type == "microvm") LIMEN_TRY(microvm(values));
  for (const auto& [key, into] :
       {std::pair{"kernel", &result_.machine.kernel}, std::pair{"initrd", &result_.machine.initrd},
        std::pair{"append", &result_.machine.append}})
    *into = values.text(key, *into);
  if (values.text("acpi") != "auto")
    result_.machine.acpi = LIMEN_TRY(values.boolean("acpi", result_.machine.acpi));
  const bool hpet = LIMEN_TRY(values.boolean("hpet", result_.machine.hpet));
  if (hpet && result_.machine.type == "microvm") return fail("hpet=on: board microvm has none");
  result_.machine.hpet = hpet;
  result_.machine.pit = LIMEN_TRY(values.boolean("pit", result_.machine.pit));
  result_.machine.memory_backend = values.text("memory-backend", result_.machine.memory_backend);
  return machine_accelerator(values);
}

/// What only board microvm has, which has no HPET.
Result<> Builder::microvm(const KeyValues& values) {
  auto& machine = result_.machine;
  auto& board = machine.microvm;
  machine.hpet = false;
  const auto set = [&values](std::string_view key, bool& into) -> Result<> {
    if (values.text(key) != "auto") into = LIMEN_TRY(values.boolean(key, into));
    return {};
  };
  LIMEN_TRY(set("pcie", board.pcie));
  LIMEN_TRY(set("rtc", board.rtc));
  LIMEN_TRY(set("isa-serial", board.isa_serial));
  LIMEN_TRY(set("pic", board.pic));
  LIMEN_TRY(set("auto-kernel-cmdline", board.auto_kernel_command_line));
  for (const std::string_view advice : {"x-option-roms", "ioapic2"})
    if (values.text(advice) != "auto") LIMEN_TRY(values.boolean(advice, true));
  return {};
}

Result<> Builder::cpu(const std::string& argument) {
  if (argument == "help" || argument == "?") {
    print(
        "Available CPUs:\n"
        "  max       everything that the accelerator can run here (default)\n"
        "  host      the same\n"
        "  qemu64    a plain 64-bit processor\n"
        "  IvyBridge, Opteron_G1\n\n"
        "Behind the model: ,+feature or ,feature=on adds, ,-feature or ,feature=off removes;\n"
        ",vendor=TEXT, ,phys-bits=N and ,host-phys-bits=on change what it is said to be;\n"
        ",kvm=off hides KVM's paravirtual interface.\n");
    return {};
  }
  if (argument.empty()) return fail("a processor model is missing; try -cpu help");
  result_.machine.cpu = argument;
  return {};
}

Result<> Builder::smp(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "cpus"));
  constexpr std::array<std::string_view, 7> kKnown = {"cpus",  "maxcpus", "sockets", "dies",
                                                      "cores", "threads", "clusters"};
  LIMEN_TRY(values.check(kKnown));
  SmpRequest request;
  for (const auto& [key, value] : values.pairs()) {
    const auto count = machine::parse_number(value);
    if (!count || *count == 0) return fail("{}={} is not a positive number", key, value);
    constexpr uint64_t kMost = 1u << 12;  // the product of four fits
    if (*count > kMost) return fail("{}={} is too many", key, value);
    request.counts[key] = *count;
  }
  const auto topology = LIMEN_TRY(complete_topology(request));
  result_.machine.vcpus = topology.processors();
  result_.machine.topology = topology;
  return {};
}

Result<> Builder::memory(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "size"));
  constexpr std::array<std::string_view, 1> kKnown = {"size"};
  LIMEN_TRY(values.check(kKnown));
  const uint64_t bytes = LIMEN_TRY(parse_size(values.text("size"), uint64_t{1} << 20));
  if (bytes == 0) return fail("a machine needs memory; write a size as in 512M or 2G");
  if (bytes > UINT64_MAX - kMemoryGranularity) return fail("too large a size");
  result_.machine.memory_bytes =
      (bytes + kMemoryGranularity - 1) / kMemoryGranularity * kMemoryGranularity;
  memory_chosen_ = true;
  return {};
}

Result<> Builder::kernel(const std::string& argument) {
  if (argument.empty()) return fail("the path of a kernel is missing");
  result_.machine.kernel = argument;
  return {};
}

Result<> Builder::initrd(const std::string& argument) {
  result_.machine.initrd = argument;
  return {};
}

Result<> Builder::append(const std::string& argument) {
  result_.machine.append = argument;
  return {};
}

/// There is no firmware that would look for a boot sector: what the order is changes nothing. A
/// wrong one is said all the same.
Result<> Builder::boot(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "order"));
  constexpr std::array<std::string_view, 7> kKnown = {
      "order", "once", "menu", "splash", "strict", "splash-time", "reboot-timeout"};
  LIMEN_TRY(values.check(kKnown));
  for (const auto* key : {"menu", "strict"}) LIMEN_TRY(values.boolean(key, false));
  for (const auto* key : {"order", "once"}) {
    const auto drives = values.text(key);
    for (size_t i = 0; i < drives.size(); ++i) {
      if (drives[i] < 'a' || drives[i] > 'p') return fail("Invalid boot device '{}'", drives[i]);
      if (drives.find(drives[i]) != i) return fail("Boot device '{}' was given twice", drives[i]);
    }
  }
  auto& boot = result_.machine.boot;
  boot.order = values.text("order", boot.order);
  boot.once = values.text("once", boot.once);
  boot.menu = LIMEN_TRY(values.boolean("menu", boot.menu));
  boot.strict = LIMEN_TRY(values.boolean("strict", boot.strict));
  const auto milliseconds = [&](const char* key, std::optional<uint64_t>& into) -> Result<> {
    if (const auto text = values.find(key); text && *text != "-1")
      into = LIMEN_TRY(machine::parse_number(*text));
    return {};
  };
  LIMEN_TRY(milliseconds("splash-time", boot.splash_time));
  LIMEN_TRY(milliseconds("reboot-timeout", boot.reboot_timeout));
  return {};
}

/// A back end that is silent serves every sound card there is.
Result<> Builder::audio_device(const std::string& argument) {
  const auto values = LIMEN_TRY(read_texts(argument, "driver"));
  constexpr std::array<std::string_view, 2> kKnown = {"driver", "id"};
  constexpr std::array<std::string_view, 1> kDrivers = {"none"};
  if (values.wants_help()) {
    print("Available audio drivers:\nnone\n");
    return {};
  }
  for (const auto key : kKnown)
    if (!values.find(key)) return fail("Parameter '{}' is missing", key);
  LIMEN_TRY(values.choice("driver", kDrivers, ""));
  LIMEN_TRY(values.check(kKnown));
  if (!audio_devices_.insert(values.text("id")).second)
    return fail("Duplicate ID '{}' for audiodev", values.text("id"));
  return {};
}

Result<> Builder::bios(const std::string& argument) {
  if (argument.empty()) return fail("a file is needed, as in -bios OVMF.fd");
  result_.machine.bios = argument;
  return {};
}

Result<> Builder::firmware_item(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "name"));
  constexpr std::array<std::string_view, 3> kKnown = {"name", "file", "string"};
  LIMEN_TRY(values.check(kKnown));
  machine::FirmwareItem item{.name = values.text("name"), .content = {}};
  if (item.name.empty()) return fail("name is needed, as in opt/org.example/answer");
  if (item.name.size() > device::FwCfg::kMostNameBytes)
    return fail("name '{}' has {} bytes: at most {} have a place", item.name, item.name.size(),
                device::FwCfg::kMostNameBytes);
  if (!item.name.starts_with("opt/"))
    log::warning("externally provided fw_cfg item names should be prefixed with \"opt/\"");
  const auto file = values.find("file"), text = values.find("string");
  if (file.has_value() == text.has_value())
    return fail("fw_cfg item '{}': either file= or string= is needed", item.name);
  if (text) {
    item.content.assign(text->begin(), text->end());
  } else {
    std::ifstream stream(*file, std::ios::binary);
    if (!stream) return fail("can't load {}", *file);
    item.content.assign(std::istreambuf_iterator<char>(stream), {});
  }
  result_.machine.firmware_items.push_back(std::move(item));
  return {};
}

Result<> Builder::vga(const std::string& argument) {
  constexpr std::array<std::string_view, 3> kKnown = {"none", "std", "virtio"};
  constexpr std::array<std::string_view, 5> kAbsent = {"cirrus", "vmware", "qxl", "cg3", "tcx"};
  if (argument == "help") {
    print(
        "none                 no graphic card\n"
        "std                  standard VGA\n"
        "virtio               Virtio VGA\n");
    return {};
  }
  if (std::ranges::find(kAbsent, argument) != kAbsent.end())
    return fail("graphics card '{}' is not there; valid choices: std, virtio, none", argument);
  if (std::ranges::find(kKnown, argument) == kKnown.end())
    return fail("unknown vga type: {}{}", argument, choice_hint(argument, kKnown));
  vga_ = argument;
  return {};
}

Result<> Builder::clock(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, ""));
  constexpr std::array<std::string_view, 3> kKnown = {"base", "clock", "driftfix"};
  LIMEN_TRY(values.check(kKnown));
  constexpr std::array<std::string_view, 1> kClocks = {"host"};
  constexpr std::array<std::string_view, 2> kFixes = {"none", "slew"};
  auto& clock = result_.machine.clock;
  using Base = machine::ClockDescription::Base;
  const auto base = values.text("base", "utc");
  if (base == "utc") {
    clock.base = Base::kUtc;
  } else if (base == "localtime") {
    clock.base = Base::kLocalTime;
  } else {
    clock.base = Base::kDate;
    clock.date = LIMEN_TRY(parse_date(base));
  }
  LIMEN_TRY(values.choice("clock", kClocks, "host"));
  clock.catch_up = LIMEN_TRY(values.choice("driftfix", kFixes, "none")) == "slew";
  return {};
}

Result<> Builder::name(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "guest"));
  constexpr std::array<std::string_view, 3> kKnown = {"guest", "process", "debug-threads"};
  LIMEN_TRY(values.check(kKnown));
  result_.machine.name = values.text("guest");
  return {};
}

Result<> Builder::no_acpi(const std::string&) {
  result_.machine.acpi = false;
  return {};
}

Result<> Builder::no_graphic(const std::string&) {
  no_graphic_ = true;
  if (result_.machine.display == machine::MachineDescription::Display::kDefault)
    result_.machine.display = machine::MachineDescription::Display::kNone;
  return {};
}

Result<> Builder::no_defaults(const std::string&) {
  no_defaults_ = true;
  return {};
}

Result<> Builder::no_reboot(const std::string&) {
  result_.machine.actions.reboot = machine::Actions::Reboot::kShutdown;
  return {};
}

Result<> Builder::no_shutdown(const std::string&) {
  result_.machine.actions.shutdown = machine::Actions::Shutdown::kPause;
  return {};
}

Result<> Builder::ignore(const std::string&) { return {}; }

Result<> Builder::version(const std::string&) {
  print(fmt::format("Limen {} ({})\n", LIMEN_VERSION, program_));
  return {};
}

Result<> Builder::help(const std::string&) {
  print(help_text(program_));
  return {};
}

}  // namespace limen::qemu
