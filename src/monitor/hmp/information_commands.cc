// What stands behind "info".
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "machine/board.h"
#include "machine/device_catalog.h"
#include "machine/machine.h"
#include "monitor/guest_view.h"
#include "monitor/hmp/command.h"
#include "monitor/pci_view.h"

namespace limen::monitor {
namespace {

Result<> version(HumanInterpreter& interpreter, Words&) {
  if (const auto reply = interpreter.run("query-version")) {
    const auto& qemu = (*reply)["qemu"];
    interpreter.print("{}.{}.{} ({})\n", qemu["major"].get<int>(), qemu["minor"].get<int>(),
                      qemu["micro"].get<int>(), (*reply)["package"].get<std::string>());
  }
  return {};
}

Result<> name(HumanInterpreter& interpreter, Words&) {
  if (const auto& called = interpreter.machine().description().name; !called.empty())
    interpreter.print("{}\n", called);
  return {};
}

Result<> uuid(HumanInterpreter& interpreter, Words&) {
  if (const auto reply = interpreter.run("query-uuid"))
    interpreter.print("{}\n", (*reply)["UUID"].get<std::string>());
  return {};
}

Result<> usb(HumanInterpreter& interpreter, Words&) {
  auto* board = interpreter.machine().board();
  if (board == nullptr) return {};
  for (const auto& device : board->usb_devices())
    interpreter.print("  Device {}.{}, Port {}, Speed {} Mb/s, Product {}{}\n", device.bus,
                      device.address, device.port, device.speed, device.product,
                      device.id.empty() ? "" : ", ID: " + device.id);
  return {};
}

Result<> tpm(HumanInterpreter& interpreter, Words&) {
  auto* board = interpreter.machine().board();
  if (board == nullptr || board->tpms().empty()) {
    interpreter.print("TPM device not supported\n");
    return {};
  }
  interpreter.print("TPM device:\n");
  unsigned index = 0;
  for (const auto& tpm : board->tpms())
    if (!tpm.model.empty())
      interpreter.print(" tpm{}: model={}\n  \\ {}: type=emulator,chardev={}\n", index++, tpm.model,
                        tpm.description.id, tpm.description.character);
  return {};
}

Result<> status(HumanInterpreter& interpreter, Words&) {
  const auto state = interpreter.machine().run_state();
  const bool running = state == machine::RunState::kRunning;
  interpreter.print("VM status: {}", running ? "running" : "paused");
  if (!running && state != machine::RunState::kPaused)
    interpreter.print(" ({})", machine::run_state_name(state));
  interpreter.print("\n");
  return {};
}

Result<> kvm(HumanInterpreter& interpreter, Words&) {
  const auto reply = interpreter.run("query-kvm");
  if (reply)
    interpreter.print("kvm support: {}\n", !(*reply)["present"].get<bool>()  ? "not compiled"
                                           : (*reply)["enabled"].get<bool>() ? "enabled"
                                                                             : "disabled");
  return {};
}

Result<> cpus(HumanInterpreter& interpreter, Words&) {
  auto& processors = interpreter.machine().processors();
  for (unsigned i = 0; i < processors.size(); ++i)
    interpreter.print("{} CPU #{}: thread_id={}\n", i == interpreter.processor() ? '*' : ' ', i,
                      processors[i]->thread_id());
  return {};
}

Result<> registers(HumanInterpreter& interpreter, Words& words) {
  const bool all = words.flag('a');
  LIMEN_TRY(words.end());
  auto& machine = interpreter.machine();
  if (machine.processors().empty()) return fail("No CPU");
  machine.with_processors_held([&] {
    for (unsigned i = 0; i < machine.processors().size(); ++i)
      if (all || i == interpreter.processor())
        interpreter.print("\nCPU#{}\n{}", i,
                          registers_text(machine.processors()[i]->vcpu().state()));
  });
  return {};
}

/// Calls `show` with the memory as the chosen processor has it now.
Result<> with_view(HumanInterpreter& interpreter,
                   const std::function<void(const GuestView&)>& show) {
  auto& machine = interpreter.machine();
  if (machine.processors().empty()) return fail("No CPU");
  machine.with_processors_held([&] {
    const auto state = machine.processors()[interpreter.processor()]->vcpu().state();
    const GuestView view(*machine.memory(), state);
    bool any = false;
    view.for_each_mapping([&](const Mapping&) { any = true; });
    if (!any) interpreter.print("PG disabled\n");
    show(view);
  });
  return {};
}

Result<> tlb(HumanInterpreter& interpreter, Words& words) {
  LIMEN_TRY(words.end());
  return with_view(interpreter, [&](const GuestView& view) {
    view.for_each_mapping([&](const Mapping& mapping) {
      const auto mark = [&](unsigned bit, char letter) {
        return (mapping.entry >> bit & 1) != 0 ? letter : '-';
      };
      interpreter.print("{:016x}: {:016x} {}{}{}{}{}{}{}{}{}\n", mapping.linear, mapping.physical,
                        mapping.no_execute ? 'X' : '-', mark(8, 'G'),
                        mapping.size > memory::kPageSize ? 'P' : '-', mark(6, 'D'), mark(5, 'A'),
                        mark(4, 'C'), mark(3, 'T'), mark(2, 'U'), mark(1, 'W'));
    });
  });
}

Result<> mem(HumanInterpreter& interpreter, Words& words) {
  LIMEN_TRY(words.end());
  return with_view(interpreter, [&](const GuestView& view) {
    Mapping run;
    const auto print = [&] {
      if (run.size == 0) return;
      interpreter.print("{:016x}-{:016x} {:016x} {}r{}\n", run.linear, run.linear + run.size,
                        run.size, (run.entry & 4) != 0 ? 'u' : '-',
                        (run.entry & 2) != 0 ? 'w' : '-');
    };
    view.for_each_mapping([&](const Mapping& mapping) {
      if (run.size != 0 && run.linear + run.size == mapping.linear &&
          (run.entry & 6) == (mapping.entry & 6)) {
        run.size += mapping.size;
        return;
      }
      print();
      run = mapping;
    });
    print();
  });
}

Result<> mtree(HumanInterpreter& interpreter, Words& words) {
  static_cast<void>(words.flag('f'));
  LIMEN_TRY(words.end());
  auto& machine = interpreter.machine();
  if (machine.board() == nullptr) return fail("this machine has no memory");
  struct Line {
    uint64_t start, size;
    std::string text;
  };
  const auto print = [&](const char* title, std::vector<Line> lines, uint64_t end) {
    std::ranges::stable_sort(lines, {}, &Line::start);
    interpreter.print("address-space: {}\n  {:016x}-{:016x} (prio 0, i/o): {}\n", title, 0, end,
                      title);
    for (const auto& line : lines)
      interpreter.print("    {:016x}-{:016x} {}\n", line.start, line.start + line.size - 1,
                        line.text);
    interpreter.print("\n");
  };
  std::vector<Line> memory;
  for (const auto& region : machine.memory()->regions())
    memory.push_back({region.start.value, region.size,
                      fmt::format("(prio 0, ram): ram @{:#018x}", region.file_offset)});
  for (const auto& claim : machine.board()->mmio().claims())
    memory.push_back({claim.start, claim.size, "(prio 1, i/o): " + claim.owner});
  print("memory", std::move(memory), UINT64_MAX);
  std::vector<Line> ports;
  for (const auto& claim : machine.board()->ports().claims())
    ports.push_back({claim.start, claim.size, "(prio 0, i/o): " + claim.owner});
  print("I/O", std::move(ports), 0xFFFF);
  return {};
}

void print_functions(HumanInterpreter& interpreter, const std::vector<PciFunctionInfo>& functions) {
  for (const auto& function : functions) {
    interpreter.print("  Bus {:2}, device {:3}, function {}:\n    ", function.bus, function.slot,
                      function.function);
    if (function.class_name.empty())
      interpreter.print("Class {:04x}", function.class_code);
    else
      interpreter.print("{}", function.class_name);
    interpreter.print(": PCI device {:04x}:{:04x}\n", function.vendor, function.device);
    if (function.subsystem_vendor != 0)
      interpreter.print("      PCI subsystem {:04x}:{:04x}\n", function.subsystem_vendor,
                        function.subsystem);
    if (function.pin != 0)
      interpreter.print("      IRQ {}, pin {:c}\n", function.line, 'A' + function.pin - 1);
    if (const auto& bridge = function.bridge) {
      interpreter.print("      BUS {}.\n      secondary bus {}.\n      subordinate bus {}.\n",
                        bridge->primary, bridge->secondary, bridge->subordinate);
      interpreter.print("      IO range [{:#06x}, {:#06x}]\n", bridge->io.base, bridge->io.limit);
      interpreter.print("      memory range [{:#010x}, {:#010x}]\n", bridge->memory.base,
                        bridge->memory.limit);
      interpreter.print("      prefetchable memory range [{:#010x}, {:#010x}]\n",
                        bridge->prefetchable.base, bridge->prefetchable.limit);
    }
    for (const auto& region : function.regions) {
      const uint64_t address = region.address.value_or(UINT64_MAX);
      const uint64_t last = region.address ? address + region.size - 1 : region.size - 2;
      if (region.io)
        interpreter.print("      BAR{}: I/O at {:#06x} [{:#06x}].\n", region.bar, address & 0xFFFF,
                          last & 0xFFFF);
      else
        interpreter.print("      BAR{}: {} bit{} memory at {:#010x} [{:#010x}].\n", region.bar,
                          region.is_64_bit ? 64 : 32, region.prefetchable ? " prefetchable" : "",
                          address, last);
    }
    interpreter.print("      id \"{}\"\n", function.id);
    print_functions(interpreter, function.behind);
  }
}

Result<> pci(HumanInterpreter& interpreter, Words&) {
  if (interpreter.machine().board() == nullptr) return {};
  print_functions(interpreter, pci_functions(interpreter.machine()));
  return {};
}

Result<> chardev(HumanInterpreter& interpreter, Words&) {
  for (const auto& info : interpreter.machine().characters().list())
    interpreter.print("{}: filename={}\n", info.label, info.filename);
  return {};
}

Result<> jit(HumanInterpreter& interpreter, Words&) {
  auto& machine = interpreter.machine();
  machine.with_processors_held([&] {
    for (size_t i = 0; i < machine.processors().size(); ++i)
      interpreter.print("CPU#{}\n{}\n", i, machine.processors()[i]->vcpu().statistics());
  });
  return {};
}

Result<> qtree(HumanInterpreter& interpreter, Words&) {
  auto& machine = interpreter.machine();
  if (machine.board() == nullptr) return {};
  interpreter.print("bus: main-system-bus\n  type System\n");
  for (const char* bus : {"PCI", "virtio-serial-bus", "ISA"}) {
    interpreter.print("  bus: {}\n", bus == std::string_view("PCI") ? "pcie.0" : bus);
    interpreter.print("    type {}\n", bus);
    for (const auto& device : machine.devices()) {
      const auto* specification = machine::find_device(device.driver);
      if (specification == nullptr || specification->bus != bus) continue;
      const auto id = device.properties.find("id");
      interpreter.print("    dev: {}, id \"{}\"\n", device.driver,
                        id == device.properties.end() ? "" : id->second);
      for (const auto& [key, value] : device.properties)
        if (key != "id") interpreter.print("      {} = \"{}\"\n", key, value);
    }
  }
  return {};
}

Result<> memory_size(HumanInterpreter& interpreter, Words&) {
  if (const auto reply = interpreter.run("query-memory-size-summary"))
    interpreter.print("base memory: {}\nplugged memory: {}\n",
                      (*reply)["base-memory"].get<uint64_t>(),
                      (*reply)["plugged-memory"].get<uint64_t>());
  return {};
}

Result<> balloon(HumanInterpreter& interpreter, Words&) {
  if (const auto reply = interpreter.run("query-balloon"))
    interpreter.print("balloon: actual={}\n", (*reply)["actual"].get<int64_t>() >> 20);
  return {};
}

Result<> dump(HumanInterpreter& interpreter, Words&) {
  if (const auto reply = interpreter.run("query-dump"))
    interpreter.print("Status: {}\n", (*reply)["status"].get<std::string>());
  return {};
}

Result<> history(HumanInterpreter& interpreter, Words&) {
  for (size_t i = 0; i < interpreter.history.size(); ++i)
    interpreter.print("{}: '{}'\n", i, interpreter.history[i]);
  return {};
}

Result<> roms(HumanInterpreter& interpreter, Words&) {
  const auto& description = interpreter.machine().description();
  if (!description.kernel.empty()) interpreter.print("mem=ram name=\"{}\"\n", description.kernel);
  if (!description.initrd.empty()) interpreter.print("mem=ram name=\"{}\"\n", description.initrd);
  return {};
}

constexpr std::array kInformationCommands = {
    HumanCommand{"version", "", "show the version of QEMU that this stands for", version},
    HumanCommand{"name", "", "show the current VM name", name},
    HumanCommand{"uuid", "", "show the current VM UUID", uuid},
    HumanCommand{"status", "", "show the current VM status (running|paused)", status},
    HumanCommand{"kvm", "", "show KVM information", kvm},
    HumanCommand{"cpus", "", "show infos for each CPU", cpus},
    HumanCommand{"registers", "[-a]", "show the cpu registers (-a: of all CPUs)", registers},
    HumanCommand{"tlb", "", "show virtual to physical memory mappings", tlb},
    HumanCommand{"mem", "", "show the active virtual memory mappings", mem},
    HumanCommand{"mtree", "[-f]", "show memory tree", mtree},
    HumanCommand{"pci", "", "show PCI info", pci},
    HumanCommand{"block", "[-n] [-v] [device]", "show info of one block device or all", show_block},
    HumanCommand{"chardev", "", "show the character devices", chardev},
    HumanCommand{"jit", "", "show dynamic compiler info", jit},
    HumanCommand{"qtree", "", "show device tree", qtree},
    HumanCommand{"memory_size_summary", "", "show the amount of initially allocated memory",
                 memory_size},
    HumanCommand{"balloon", "", "show balloon information", balloon},
    HumanCommand{"dump", "", "show the latest dump status", dump},
    HumanCommand{"history", "", "show the command line history", history},
    HumanCommand{"mice", "", "show which guest mouse is receiving events", show_mice},
    HumanCommand{"tpm", "", "show the TPM device", tpm},
    HumanCommand{"usb", "", "show guest USB devices", usb},
    HumanCommand{"vnc", "", "show the vnc server status", show_vnc},
    HumanCommand{"roms", "", "show what was loaded into memory", roms},
};

}  // namespace

std::span<const HumanCommand> information_commands() { return kInformationCommands; }

}  // namespace limen::monitor
