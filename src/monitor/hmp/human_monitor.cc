#include "monitor/hmp/human_monitor.h"

namespace limen::monitor {

HumanMonitor::HumanMonitor(machine::Machine& machine, Shared& shared,
                           device::CharacterBackend& backend)
    : backend_(backend),
      interpreter_(machine, shared),
      editor_(
          "(qemu) ", interpreter_.history,
          {.print = [this](std::string_view text) { write(text); },
           .line =
               [this](const std::string& line) {
                 write(interpreter_.execute(line));
                 editor_.begin();
               },
           .complete = [this](std::string_view line) { return interpreter_.completions(line); }}) {
  backend_.set_output_limit(kMostOutput);
  // On a multiplexer the first front end has the keyboard, and the monitor shows itself when asked.
  shown_ = backend_.is_only_front_end();
  backend_.set_receiver(
      [this]() -> size_t { return backend_.pending_output() < kBacklog ? 1024 : 0; },
      [this](std::span<const uint8_t> bytes) {
        for (const uint8_t byte : bytes) editor_.key(byte);
      });
  backend_.set_event_handler([this](device::CharacterEvent event) { happened(event); });
  if (backend_.peer_present() && shown_) greet();
}

HumanMonitor::~HumanMonitor() {
  backend_.set_receiver({}, {});
  backend_.set_event_handler({});
}

void HumanMonitor::greet() {
  greeted_ = true;
  write("Limen " LIMEN_VERSION " monitor - type 'help' for more information\r\n");
  editor_.begin();
}

void HumanMonitor::happened(device::CharacterEvent event) {
  switch (event) {
    case device::CharacterEvent::kOpened:
      greeted_ = false;
      if (shown_) greet();
      return;
    case device::CharacterEvent::kMuxIn:
      shown_ = true;
      if (greeted_)
        editor_.begin();
      else
        greet();
      return;
    case device::CharacterEvent::kMuxOut:
      write("\r\n");
      shown_ = false;
      return;
    default:
      return;
  }
}

void HumanMonitor::write(std::string_view text) {
  if (!shown_) return;
  if (backend_.pending_output() + text.size() > kMostOutput) return;
  backend_.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

}  // namespace limen::monitor
