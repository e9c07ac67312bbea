// Any bytes that a client of the machine protocol can send: each message gets one answer, which is
// JSON, and what is kept is bounded. The machine is "none", so that nothing else runs.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "machine/machine.h"
#include "monitor/qmp/dispatcher.h"
#include "monitor/qmp/json_text.h"

namespace {

using namespace limen;

machine::Machine& empty_machine() {
  static const auto kMachine = [] {
    machine::MachineDescription description;
    description.type = "none";
    auto made = machine::Machine::create(description);
    if (!made) std::abort();
    return std::move(*made);
  }();
  return *kMachine;
}

/// What would touch the host's files or end the machine is not run.
bool harmless(const std::string& text) {
  for (const char* word : {"chardev-add", "pmemsave", "memsave", "dump", "quit", "human"})
    if (text.find(word) != std::string::npos) return false;
  return text.find('\\') == std::string::npos;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  monitor::Shared shared;
  monitor::Dispatcher dispatcher(empty_machine(), shared);
  dispatcher.greet();
  monitor::JsonFramer framer([&](const Result<std::string>& message) {
    if (message && !harmless(*message)) return;
    const auto answer = dispatcher.answer(message);
    if (!answer.contains("return") && !answer.contains("error")) std::abort();
    if (!monitor::parse_json(monitor::write_json(answer, false))) std::abort();
  });
  framer.feed({data, size});
  return 0;
}
