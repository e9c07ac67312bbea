#include "gdb/session.h"

#include <fmt/format.h>

namespace limen::gdb {

Session::Session(Target& target, Send send) : target_(target), send_(std::move(send)) {
  if (target_.running()) target_.stop();
}

void Session::receive(std::span<const uint8_t> bytes) {
  while (!bytes.empty() && open_) {
    size_t used = 0;
    const auto event = reader_.read(bytes, used);
    bytes = bytes.subspan(used);
    if (!event) return;
    switch (*event) {
      case PacketReader::Kind::kAck:
        last_sent_.clear();
        break;
      case PacketReader::Kind::kNak:
        if (!last_sent_.empty()) send_(last_sent_);
        break;
      case PacketReader::Kind::kInterrupt:
        if (target_.running()) target_.stop();
        break;
      case PacketReader::Kind::kBad:
        if (!no_ack_) send_("-");
        break;
      case PacketReader::Kind::kPacket:
        if (!no_ack_) send_("+");
        // Nothing but a stop can be asked of a machine that runs.
        if (target_.running())
          target_.stop();
        else
          handle(reader_.packet());
        break;
    }
  }
}

void Session::reply(std::string_view data) {
  last_sent_ = frame(data);
  send_(last_sent_);
  if (no_ack_) last_sent_.clear();
}

void Session::reply_error(unsigned number) { reply(fmt::format("E{:02x}", number)); }

void Session::handle(std::string_view packet) {
  if (packet.empty()) return reply("");
  const char command = packet.front();
  const std::string_view rest = packet.substr(1);
  switch (command) {
    case '!':
      return reply_ok();
    case '?':
      // A new debugger begins with this: nothing of an older one stays.
      forget_stops();
      return reply(stop_reply(Signal::kTrap));
    case 'c':
      return step_or_continue(rest, Action::kContinue, false);
    case 'C':
      return step_or_continue(rest, Action::kContinue, true);
    case 's':
      return step_or_continue(rest, Action::kStep, false);
    case 'S':
      return step_or_continue(rest, Action::kStep, true);
    case 'D':
      return detach();
    case 'g':
      return read_registers();
    case 'G':
      return write_registers(rest);
    case 'p':
      return read_one_register(rest);
    case 'P':
      return write_one_register(rest);
    case 'm':
      return read_memory(rest);
    case 'M':
      return write_memory(rest, false);
    case 'X':
      return write_memory(rest, true);
    case 'H':
    case 'T':
      return choose_thread(packet);
    case 'k':
      open_ = false;
      ended_ = true;
      return target_.quit();
    case 'q':
      return query(rest);
    case 'Q':
      return set(rest);
    case 'v':
      return v_packet(rest);
    case 'Z':
      return change_stop(rest, true);
    case 'z':
      return change_stop(rest, false);
    default:
      return reply("");
  }
}

std::optional<Session::ThreadId> Session::take_thread(std::string_view& text) {
  const auto take_number = [&text]() -> std::optional<int64_t> {
    if (take(text, "-1")) return ThreadId::kAll;
    const auto value = take_hex(text);
    if (!value || *value > INT32_MAX) return std::nullopt;
    return static_cast<int64_t>(*value);
  };
  ThreadId id;
  if (take(text, "p")) {
    const auto process = take_number();
    if (!process) return std::nullopt;
    id.process = *process;
    id.thread = ThreadId::kAll;
    if (!take(text, ".")) return id;
  }
  const auto thread = take_number();
  if (!thread) return std::nullopt;
  id.thread = *thread;
  return id;
}

bool Session::matches(const ThreadId& id, unsigned processor) const {
  constexpr int64_t kOnlyProcess = 1;
  if (id.process > 0 && id.process != kOnlyProcess) return false;
  if (id.thread == ThreadId::kAny) return processor == selected_;
  return id.thread == ThreadId::kAll || id.thread == int64_t{processor} + 1;
}

std::optional<unsigned> Session::processor_of(const ThreadId& id) const {
  for (unsigned i = 0; i < target_.processor_count(); ++i)
    if (matches(id, i)) return id.thread == ThreadId::kAll ? selected_ : i;
  return std::nullopt;
}

std::string Session::thread_name(unsigned processor) const {
  return multiprocess_ ? fmt::format("p01.{:02x}", processor + 1)
                       : fmt::format("{:02x}", processor + 1);
}

}  // namespace limen::gdb
