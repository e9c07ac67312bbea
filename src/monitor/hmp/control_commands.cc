// Commands that do something to the machine.
#include <fmt/format.h>

#include <array>

#include "display/picture_file.h"
#include "machine/machine.h"
#include "monitor/hmp/command.h"

namespace limen::monitor {
namespace {

void list(HumanInterpreter& interpreter, std::span<const HumanCommand> commands,
          std::string_view prefix) {
  for (const auto& command : commands)
    interpreter.print("{}{}{}{} -- {}\n", prefix, command.name,
                      command.parameters.empty() ? "" : " ", command.parameters, command.help);
}

Result<> help(HumanInterpreter& interpreter, Words& words) {
  const auto name = words.word();
  if (name.empty()) {
    for (const auto& group : top_level_groups()) list(interpreter, group, "");
    return {};
  }
  if (name == "info") {
    const auto which = words.word();
    if (which.empty()) {
      for (const auto& group : information_groups()) list(interpreter, group, "info ");
      return {};
    }
    if (const auto* command = find_human_command(information_groups(), which)) {
      list(interpreter, {command, 1}, "info ");
      return {};
    }
    return fail("unknown command: 'info {}'", which);
  }
  const auto* command = find_human_command(top_level_groups(), name);
  if (command == nullptr) return fail("unknown command: '{}'", name);
  list(interpreter, {command, 1}, "");
  return {};
}

template <const char* kCommand>
Result<> run(HumanInterpreter& interpreter, Words& words) {
  LIMEN_TRY(words.end());
  interpreter.perform(kCommand);
  return {};
}
constexpr char kStop[] = "stop", kCont[] = "cont", kReset[] = "system_reset",
               kPowerDown[] = "system_powerdown", kWakeUp[] = "system_wakeup", kQuit[] = "quit",
               kNmi[] = "inject-nmi";

Result<> watchdog_action(HumanInterpreter& interpreter, Words& words) {
  const std::string action(words.word());
  LIMEN_TRY(words.end());
  if (action.empty()) return fail("parameter 'action' is missing");
  interpreter.perform("watchdog-set-action", {{"action", action}});
  return {};
}

Result<> choose_processor(HumanInterpreter& interpreter, Words& words) {
  const int64_t index = LIMEN_TRY(words.expression());
  LIMEN_TRY(words.end());
  return interpreter.choose_processor(index);
}

Result<> save_memory(HumanInterpreter& interpreter, Words& words, const char* command) {
  const int64_t address = LIMEN_TRY(words.expression());
  const int64_t size = LIMEN_TRY(words.expression());
  const auto file = words.word();
  if (file.empty()) return fail("{}: filename expected", command);
  LIMEN_TRY(words.end());
  Json arguments = {{"val", static_cast<uint64_t>(address)},
                    {"size", static_cast<uint64_t>(size)},
                    {"filename", file}};
  if (command == std::string_view("memsave")) arguments["cpu-index"] = interpreter.processor();
  interpreter.perform(command, arguments);
  return {};
}
Result<> memsave(HumanInterpreter& interpreter, Words& words) {
  return save_memory(interpreter, words, "memsave");
}
Result<> pmemsave(HumanInterpreter& interpreter, Words& words) {
  return save_memory(interpreter, words, "pmemsave");
}

/// filename [-f format] [device [head]]
Result<> screendump(HumanInterpreter& interpreter, Words& words) {
  const auto file = words.word();
  if (file.empty()) return fail("screendump: filename expected");
  Json arguments = {{"filename", file}};
  if (words.flag('f')) {
    const auto format = words.word();
    if (format.empty()) return fail("screendump: value expected for -f");
    if (!display::parse_picture_format(format))
      return fail("Error: invalid parameter value: {}", format);
    arguments["format"] = format;
  }
  if (!words.at_end()) arguments["device"] = words.word();
  if (!words.at_end()) arguments["head"] = LIMEN_TRY(words.expression());
  LIMEN_TRY(words.end());
  interpreter.perform("screendump", arguments);
  return {};
}

Result<> dump(HumanInterpreter& interpreter, Words& words) {
  const bool paging = words.flag('p');
  const bool detach = words.flag('d');
  const auto file = words.word();
  if (file.empty()) return fail("dump-guest-memory: filename expected");
  LIMEN_TRY(words.end());
  interpreter.perform("dump-guest-memory",
                      {{"paging", paging}, {"detach", detach}, {"protocol", "file:" + file}});
  return {};
}

Result<> chardev_remove(HumanInterpreter& interpreter, Words& words) {
  const auto id = words.word();
  if (id.empty()) return fail("chardev-remove: string expected");
  LIMEN_TRY(words.end());
  interpreter.perform("chardev-remove", {{"id", id}});
  return {};
}

Result<> ringbuf_read(HumanInterpreter& interpreter, Words& words) {
  const auto device = words.word();
  const int64_t size = LIMEN_TRY(words.expression());
  LIMEN_TRY(words.end());
  if (const auto read = interpreter.run("ringbuf-read", {{"device", device}, {"size", size}}))
    interpreter.print("{}\n", read->get<std::string>());
  return {};
}

Result<> ringbuf_write(HumanInterpreter& interpreter, Words& words) {
  const auto device = words.word();
  const auto data = words.all();
  interpreter.perform("ringbuf-write", {{"device", device}, {"data", data}});
  return {};
}

Result<> commit(HumanInterpreter&, Words& words) {
  const auto device = words.word();
  if (device == "all") return {};  // no disk has anything to commit
  return fail("Error: Device '{}' has no backing file to commit to", device);
}

Result<> no_snapshots(HumanInterpreter&, Words&) {
  return fail("Error: saving and loading the state of a machine is not there yet");
}

Result<> no_logging(HumanInterpreter&, Words&) {
  return fail("Error: what is logged is chosen at the start, with -d and -D");
}

constexpr std::array kControlCommands = {
    HumanCommand{"help|?", "[cmd]", "show the help", help},
    HumanCommand{"quit|q", "", "quit the emulator", run<kQuit>},
    HumanCommand{"stop|s", "", "stop emulation", run<kStop>},
    HumanCommand{"cont|c", "", "resume emulation", run<kCont>},
    HumanCommand{"system_reset", "", "reset the system", run<kReset>},
    HumanCommand{"system_powerdown", "", "send system power down event", run<kPowerDown>},
    HumanCommand{"system_wakeup", "", "wake the guest up from suspend", run<kWakeUp>},
    HumanCommand{"watchdog_action", "[reset|shutdown|poweroff|pause|debug|none|inject-nmi]",
                 "change watchdog action", watchdog_action},
    HumanCommand{"nmi", "", "inject an NMI", run<kNmi>},
    HumanCommand{"cpu", "index", "set the default CPU", choose_processor},
    HumanCommand{"memsave", "addr size file",
                 "save to disk virtual memory dump starting at 'addr' of size 'size'", memsave},
    HumanCommand{"pmemsave", "addr size file",
                 "save to disk physical memory dump starting at 'addr' of size 'size'", pmemsave},
    HumanCommand{"screendump", "filename [-f format] [device [head]]",
                 "save what the display shows as 'filename' (formats: ppm, png)", screendump},
    HumanCommand{"dump-guest-memory", "[-p] [-d] filename",
                 "dump guest memory into an ELF core file (-p: by virtual address, -d: in the "
                 "background)",
                 dump},
    HumanCommand{"chardev-remove", "id", "remove chardev", chardev_remove},
    HumanCommand{"ringbuf_read", "device size", "read from a ring buffer character device",
                 ringbuf_read},
    HumanCommand{"ringbuf_write", "device data", "write to a ring buffer character device",
                 ringbuf_write},
    HumanCommand{"commit", "device|all", "commit changes to the disk images", commit},
    HumanCommand{"savevm", "tag", "save a VM snapshot (not there yet)", no_snapshots},
    HumanCommand{"loadvm", "tag", "restore a VM snapshot (not there yet)", no_snapshots},
    HumanCommand{"delvm", "tag", "delete a VM snapshot (not there yet)", no_snapshots},
    HumanCommand{"log", "item1[,...]", "activate logging of the specified items (see -d)",
                 no_logging},
    HumanCommand{"logfile", "filename", "output logs to 'filename' (see -D)", no_logging},
};

}  // namespace

std::span<const HumanCommand> control_commands() { return kControlCommands; }

}  // namespace limen::monitor
