#include "monitor/qmp/qmp_monitor.h"

#include <chrono>

#include "base/trace.h"

namespace limen::monitor {
namespace {

trace::Event trace_command("handle_qmp_command");
trace::Event trace_response("monitor_qmp_respond");
trace::Event trace_event("monitor_protocol_event_emit");

Json timestamp(std::chrono::system_clock::time_point time) {
  const auto microseconds =
      std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
  return {{"seconds", microseconds / 1'000'000}, {"microseconds", microseconds % 1'000'000}};
}

}  // namespace

QmpMonitor::QmpMonitor(machine::Machine& machine, Shared& shared, device::CharacterBackend& backend,
                       bool pretty)
    : machine_(machine),
      backend_(backend),
      pretty_(pretty),
      dispatcher_(machine, shared),
      framer_([this](const Result<std::string>& message) {
        trace_command("mon {} req: {}", static_cast<const void*>(this),
                      message ? *message : message.error().message);
        const Json reply = dispatcher_.answer(message);
        if (trace_response.on())
          trace_response("mon {} resp: {}", static_cast<const void*>(this),
                         write_json(reply, false));
        send(reply);
      }) {
  backend_.set_output_limit(kMostOutput);
  listener_ = machine_.events().add([this](const machine::Event& event, const Json& data) {
    if (!dispatcher_.negotiated() || !backend_.peer_present()) return;
    Json message = {{"event", event.name}, {"timestamp", timestamp(event.time)}};
    if (!data.empty()) message["data"] = data;
    trace_event("event={}", event.name);
    send(message);
  });
  backend_.set_receiver(
      [this]() -> size_t { return backend_.pending_output() < kBacklog ? 4096 : 0; },
      [this](std::span<const uint8_t> bytes) { receive(bytes); });
  backend_.set_event_handler([this](device::CharacterEvent event) {
    if (event == device::CharacterEvent::kOpened) opened();
    if (event == device::CharacterEvent::kClosed) framer_.reset();
  });
  if (backend_.peer_present()) opened();
}

QmpMonitor::~QmpMonitor() {
  machine_.events().remove(listener_);
  backend_.set_receiver({}, {});
  backend_.set_event_handler({});
}

void QmpMonitor::opened() {
  framer_.reset();
  send(dispatcher_.greet());
}

void QmpMonitor::receive(std::span<const uint8_t> bytes) {
  dispatcher_.descriptors().arrived(backend_.take_descriptors());
  framer_.feed(bytes);
}

void QmpMonitor::send(const Json& message) {
  std::string line = write_json(message, pretty_);
  line += "\r\n";
  // Whole or not at all: a client that reads again must still find messages.
  if (backend_.pending_output() + line.size() > kMostOutput) return;
  backend_.write({reinterpret_cast<const uint8_t*>(line.data()), line.size()});
}

}  // namespace limen::monitor
