// What stands behind "info" of networks, objects and interrupt controllers.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "machine/board.h"
#include "machine/machine.h"
#include "monitor/hmp/command.h"

namespace limen::monitor {
namespace {

/// "user: net=10.0.2.0" as QEMU has it: "type=user,net=10.0.2.0".
std::string client_text(const net::Network::Summary& client) {
  std::string type = "nic";
  std::string rest = client.description;
  if (const auto colon = rest.find(": "); !client.card && colon != std::string::npos) {
    type = rest.substr(0, colon);
    rest.erase(0, colon + 2);
  } else if (rest.starts_with("hub ")) {
    type = "hubport";
  }
  return fmt::format("{}: index=0,type={},{}{}\n", client.id, type, rest,
                     client.link ? "" : ",link=off");
}

Result<> network(HumanInterpreter& interpreter, Words& words) {
  LIMEN_TRY(words.end());
  auto* board = interpreter.machine().board();
  if (board == nullptr || board->network() == nullptr) return {};
  const auto clients = board->network()->list();
  for (const auto& client : clients) {
    // A back end of a card is shown below it.
    const auto peer = std::ranges::find(clients, client.peer, &net::Network::Summary::id);
    if (!client.card && peer != clients.end() && peer->card) continue;
    interpreter.print("{}", client_text(client));
    if (client.card && peer != clients.end()) interpreter.print(" \\ {}", client_text(*peer));
  }
  return {};
}

Result<> usernet(HumanInterpreter& interpreter, Words& words) {
  LIMEN_TRY(words.end());
  auto* board = interpreter.machine().board();
  if (board == nullptr || board->network() == nullptr) return {};
  for (const auto& [id, table] : board->network()->user_connections())
    interpreter.print("Hub -1 ({}):\n{}", id, table);
  return {};
}

Result<> iothreads(HumanInterpreter& interpreter, Words& words) {
  LIMEN_TRY(words.end());
  const auto reply = interpreter.run("query-iothreads");
  if (!reply) return {};
  for (const auto& each : *reply) {
    interpreter.print("{}:\n  thread_id={}\n", each["id"].get<std::string>(),
                      each["thread-id"].get<int64_t>());
    for (const char* name : {"poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch"})
      interpreter.print("  {}={}\n", name, each[name].get<int64_t>());
  }
  return {};
}

Result<> memdev(HumanInterpreter& interpreter, Words& words) {
  LIMEN_TRY(words.end());
  const auto reply = interpreter.run("query-memdev");
  if (!reply) return {};
  for (const auto& each : *reply) {
    interpreter.print("memory backend: {}\n  size:  {}\n", each["id"].get<std::string>(),
                      each["size"].get<uint64_t>());
    for (const char* name : {"merge", "dump", "prealloc", "share", "reserve"})
      interpreter.print("  {}: {}\n", name, each[name].get<bool>());
    interpreter.print("  policy: default\n  host nodes:\n\n");
  }
  return {};
}

Result<machine::Board*> board_of(HumanInterpreter& interpreter) {
  auto* board = interpreter.machine().board();
  if (board == nullptr) return fail("this machine has no interrupt controllers");
  return board;
}

Result<> pic(HumanInterpreter& interpreter, Words& words) {
  LIMEN_TRY(words.end());
  auto* board = LIMEN_TRY(board_of(interpreter));
  interpreter.print("{}", board->interrupts().describe());
  return {};
}

Result<> local_apic(HumanInterpreter& interpreter, Words& words) {
  const int64_t index = words.at_end() ? interpreter.processor() : LIMEN_TRY(words.expression());
  LIMEN_TRY(words.end());
  auto* board = LIMEN_TRY(board_of(interpreter));
  auto& machine = interpreter.machine();
  if (index < 0 || static_cast<size_t>(index) >= machine.processors().size())
    return fail("No CPU with APIC ID {} available", index);
  machine.with_processors_held([&] {
    interpreter.print("{}", board->interrupts().describe_local_apic(static_cast<unsigned>(index)));
  });
  return {};
}

Result<> interrupts(HumanInterpreter& interpreter, Words& words) {
  LIMEN_TRY(words.end());
  auto* board = LIMEN_TRY(board_of(interpreter));
  const auto counts = board->interrupts().router().counts();
  interpreter.print("IRQ statistics:\n");
  for (size_t line = 0; line < counts.size(); ++line)
    if (counts[line] != 0) interpreter.print("{:2}: {}\n", line, counts[line]);
  return {};
}

constexpr std::array kPartInformationCommands = {
    HumanCommand{"pic", "", "show PIC and I/O APIC state", pic},
    HumanCommand{"lapic", "[index]", "show local APIC state", local_apic},
    HumanCommand{"irq", "", "show the interrupts statistics", interrupts},
    HumanCommand{"iothreads", "", "show iothreads", iothreads},
    HumanCommand{"memdev", "", "show memory backends", memdev},
    HumanCommand{"network", "", "show the network state", network},
    HumanCommand{"usernet", "", "show user network stack connection states", usernet},
};

}  // namespace

std::span<const HumanCommand> part_information_commands() { return kPartInformationCommands; }

}  // namespace limen::monitor
