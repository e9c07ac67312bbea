// limen: sub-commands for people.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <array>
#include <climits>
#include <cstdio>

#include "base/log.h"
#include "base/nearest.h"
#include "base/size_text.h"
#include "cli/cloud_options.h"
#include "cli/disk_options.h"
#include "cli/network_options.h"
#include "cli/programs.h"
#include "machine/accelerators.h"
#include "machine/device_catalog.h"
#include "qemu/key_values.h"

namespace limen::cli {
namespace {

using Character = machine::CharacterDescription;

/// What `limen run` was given.
struct RunWords {
  std::vector<std::string> disks;
  std::vector<std::string> devices;
  std::string kernel, initrd, append, bios, name;
  std::string memory = "1G";
  std::string cpus = "1";
  std::string cpu = "max";
  std::string accelerator = "soft";
  std::string console = "stdio";
  SeedWords seed;
  NetworkWords network;
  bool append_given = false;
  bool read_only = false;
  bool no_reboot = false;
  bool verbose = false;
};

constexpr const char* kRunFooter = R"(
Without --kernel the machine boots by firmware, SeaBIOS or what --bios names.
Without --append the kernel's command line is "console=ttyS0", with a disk also
"root=/dev/vda rw", or the root partition of a GUID partition table.
--user-data and its kind give cloud-init what it sets the guest up with (NoCloud).
The guest reaches the world through this host; --publish leads the other way.
On the terminal, Ctrl-a x ends the machine and Ctrl-a h helps.

example:
  limen run --disk debian.raw --kernel vmlinuz --initrd initrd.img --memory 1G
  limen run --disk cloud.raw --kernel vmlinuz --initrd initrd.img \
    --user-data user.yaml --publish 2222:22)";

constexpr const char* kHostFooter = R"(
Runs a small guest on /dev/kvm, where there is one, and another on the software engine, which
takes about two seconds. Exit status 0: -accel kvm:soft takes kvm here; 1: soft; 2: an error.

example:
  limen host --json)";

constexpr const char* kFooter = R"(
examples:
  limen run --disk debian.raw --kernel vmlinuz --initrd initrd.img --memory 1G
  limen image create disk.img 20G
  limen host

QEMU's command lines: limen-system-x86_64 and limen-img.)";

Result<std::string> command_line(const RunWords& words,
                                 const std::vector<machine::DriveDescription>& disks) {
  if (words.append_given) return words.append;
  if (disks.empty()) return "console=ttyS0";
  return fmt::format("console=ttyS0 root={} rw", LIMEN_TRY(root_on(disks.front())));
}

/// `seed`: a file in memory, if cloud-init is to have one.
Result<machine::MachineDescription> describe(const RunWords& words, const UniqueFd& seed) {
  machine::MachineDescription description;
  if (words.kernel.empty()) {
    if (words.disks.empty()) return fail("there is nothing to boot: give --disk, or --kernel");
    if (!words.initrd.empty()) return fail("--initrd {}: needs --kernel", words.initrd);
    if (words.append_given) return fail("--append {}: needs --kernel", words.append);
  }
  auto memory = parse_size(words.memory, uint64_t{1} << 20);
  if (!memory) return fail("--memory {}: {}", words.memory, memory.error().message);
  constexpr uint64_t kPage = 4096;
  description.memory_bytes =
      *memory > UINT64_MAX - kPage ? *memory : (*memory + kPage - 1) & ~(kPage - 1);
  description.kernel = words.kernel;
  description.bios = words.bios;
  description.initrd = words.initrd;
  for (const auto& disk : words.disks) {
    auto drive = LIMEN_TRY(parse_disk(disk));
    drive.read_only = words.read_only;
    description.drives.push_back(std::move(drive));
  }
  if (!words.kernel.empty())
    description.append = LIMEN_TRY(command_line(words, description.drives));
  const auto cpus = machine::parse_number(words.cpus);
  if (!cpus) return fail("--cpus {}: {}", words.cpus, cpus.error().message);
  if (*cpus == 0) return fail("--cpus 0: a machine needs a processor");
  description.vcpus = static_cast<unsigned>(std::min<uint64_t>(*cpus, UINT_MAX));
  description.cpu = words.cpu;
  description.name = words.name;
  if (words.no_reboot) description.actions.reboot = machine::Actions::Reboot::kShutdown;
  auto accelerator = machine::choose_accelerator(words.accelerator);
  if (!accelerator) return fail("--accel {}: {}", words.accelerator, accelerator.error().message);
  description.accelerator = *std::move(accelerator);
  if (seed.valid()) {
    machine::DriveDescription drive;
    drive.file = fmt::format("/proc/self/fd/{}", seed.get());
    drive.format = "raw";
    drive.read_only = true;
    description.drives.push_back(std::move(drive));
  }
  for (const auto& text : words.devices) {
    const auto values = LIMEN_TRY(qemu::KeyValues::parse(text, "driver"));
    machine::DeviceDescription device;
    for (const auto& [key, value] : values.pairs())
      if (key == "driver")
        device.driver = value;
      else
        device.properties.emplace(key, value);
    if (auto checked = machine::check_device(device); !checked)
      return fail("--device {}: {}", text, checked.error().message);
    description.devices.push_back(std::move(device));
  }
  LIMEN_TRY(describe_network(words.network, description));

  Character console{.id = "console"};
  constexpr std::array<std::string_view, 3> kConsoles = {"stdio", "none", "file:"};
  if (words.console == "stdio") {
    console.kind = Character::Kind::kStdio;
    console.multiplexed = true;
    description.monitors.push_back({.id = "monitor", .character = console.id});
  } else if (words.console.starts_with("file:") && words.console.size() > 5) {
    console.kind = Character::Kind::kFile;
    console.path = words.console.substr(5);
  } else if (words.console != "none") {
    return fail("--console {}: no such console{}", words.console,
                choice_hint(words.console, kConsoles));
  }
  description.characters.push_back(console);
  description.serials.push_back(console.id);
  return description;
}

/// What `--device help` and `--device DRIVER,help` print; nothing when no device asks for help.
std::string device_help(const std::vector<std::string>& devices) {
  for (const auto& text : devices) {
    const auto values = qemu::KeyValues::parse(text, "driver");
    if (!values || !values->wants_help()) continue;
    const auto* device = machine::find_device(values->text("driver"));
    return device != nullptr ? machine::describe_properties(*device) : machine::describe_devices();
  }
  return {};
}

/// Everything CLI11 would say, as one line that names the nearest valid choice.
Error parse_error(CLI::App& app, const CLI::ParseError& error) {
  CLI::App* command = &app;
  std::string path;
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    path += command->get_name() + ": ";
  }
  std::vector<std::string> names;
  for (const auto* sub : command->get_subcommands({})) names.push_back(sub->get_name());
  std::vector<std::string> left = command->remaining(true);
  if (left.empty()) left = app.remaining(true);
  if (!left.empty()) {
    const auto& word = left.front();
    if (word.starts_with('-')) {
      names.clear();
      for (const auto* option : command->get_options())
        if (!option->get_lnames().empty()) names.push_back("--" + option->get_lnames().front());
    }
    const std::vector<std::string_view> choices(names.begin(), names.end());
    const auto name = word.substr(0, word.find('='));
    return {fmt::format("{}unknown {} '{}'{}", path,
                        word.starts_with('-') ? "option"
                        : choices.empty()     ? "word"
                                              : "command",
                        name, choice_hint(name, choices))};
  }
  if (!names.empty())
    return {fmt::format("{}a command is missing; valid choices: {}", path, fmt::join(names, ", "))};
  std::string message = error.what();
  std::ranges::replace(message, '\n', ' ');
  while (message.ends_with('.') || message.ends_with(' ')) message.pop_back();
  return {path + message};
}

}  // namespace

int limen_main(const std::string& program, const std::vector<std::string>& arguments) {
  CLI::App app("Limen: virtual machines on hosts with and without virtualization hardware",
               program);
  app.footer(kFooter);
  app.set_version_flag("-V,--version", fmt::format("Limen {}", LIMEN_VERSION));
  app.require_subcommand(1);

  RunWords run;
  auto* run_command = app.add_subcommand("run", "run a virtual machine");
  run_command->footer(kRunFooter);
  run_command
      ->add_option("-d,--disk", run.disks,
                   "disk image, qcow2 if its name ends so, else raw; may be given several times")
      ->type_name("FILE[,format=FORMAT]")
      ->allow_extra_args(false);
  run_command->add_option("-k,--kernel", run.kernel, "kernel: bzImage, PVH ELF or multiboot")
      ->type_name("FILE");
  run_command->add_option("--bios", run.bios, "firmware")->type_name("FILE");
  run_command->add_option("-i,--initrd", run.initrd, "initial RAM disk")->type_name("FILE");
  auto* append =
      run_command->add_option("-a,--append", run.append, "kernel command line")->type_name("TEXT");
  run_command->add_option("-m,--memory", run.memory, "memory (1G); without a letter in MiB")
      ->type_name("SIZE");
  run_command->add_option("-c,--cpus", run.cpus, "number of processors")->type_name("N");
  run_command->add_option("--cpu", run.cpu, "host, max or qemu64, then ,+feature or ,-feature")
      ->type_name("MODEL");
  run_command
      ->add_option("--accel", run.accelerator,
                   "what runs the guest: soft, kvm, or kvm:soft for what is better here")
      ->type_name("NAME");
  run_command->add_option("-n,--name", run.name, "name of the machine")->type_name("TEXT");
  run_command->add_option("--console", run.console, "serial port: stdio, none or file:PATH")
      ->type_name("WHERE");
  run_command->add_option("--device", run.devices, "a device, as QEMU's -device names it")
      ->type_name("DRIVER,...")
      ->allow_extra_args(false);
  add_network_options(*run_command, run.network);
  add_seed_options(*run_command, run.seed);
  run_command->add_flag("--read-only", run.read_only, "the guest cannot write to the disks");
  run_command->add_flag("--no-reboot", run.no_reboot, "end instead of rebooting");
  run_command->add_flag("-v,--verbose", run.verbose, "say more on standard error");

  // For the list of commands; image_main() has its own.
  app.add_subcommand("image", "make, look at, convert and repair disk images");

  auto* host = app.add_subcommand("host", "say what this host offers");
  host->footer(kHostFooter);
  bool host_json = false;
  host->add_flag("--json", host_json, "for programs");

  if (!arguments.empty() && arguments[0] == "image")
    return image_main(program + " image", {arguments.begin() + 1, arguments.end()});
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    complain(program, parse_error(app, error));
    return host->parsed() ? kHostError : 1;
  }

  if (host->parsed()) return host_main(program, host_json);
  if (run.verbose) log::set_level(log::Level::kInfo);
  if (const auto help = device_help(run.devices); !help.empty()) {
    fmt::print("{}", help);
    return 0;
  }
  run.append_given = append->count() > 0;
  UniqueFd seed_file;
  if (run.seed.given()) {
    auto made = seed_in_memory(run.seed);
    if (!made) return complain(program, made.error());
    seed_file = std::move(*made);
  }
  const auto description = describe(run, seed_file);
  if (!description) return complain(program, description.error());
  return run_machine(program, *description);
}

}  // namespace limen::cli
