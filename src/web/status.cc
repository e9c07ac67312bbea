#include "web/status.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>

#include "machine/board.h"

namespace limen::web {
namespace {

using Json = nlohmann::json;

/// The processor time of a thread of this process, in nanoseconds; 0: it is gone.
uint64_t thread_time(int thread) {
  // The clock's number as Linux makes it from a thread's (CPUCLOCK_PERTHREAD, CPUCLOCK_SCHED):
  // what pthread_getcpuclockid(3) does with a pthread_t.
  constexpr clockid_t kThread = 4, kScheduled = 2;
  const auto clock =
      static_cast<clockid_t>(~static_cast<unsigned>(thread) << 3) | kThread | kScheduled;
  timespec time{};
  if (thread == 0 || ::clock_gettime(clock, &time) != 0) return 0;
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

/// JSON's numbers for people: whole.
uint64_t whole(double value) { return static_cast<uint64_t>(std::llround(std::max(value, 0.0))); }

}  // namespace

Counters count(machine::Machine& machine) {
  Counters counters{.time = std::chrono::steady_clock::now()};
  for (const auto& processor : machine.processors())
    counters.processor_nanoseconds += thread_time(processor->thread_id());
  auto* const board = machine.board();
  if (board == nullptr) return counters;
  using Kind = block::Request::Kind;
  for (const auto& drive : board->drives()) {
    if (drive.measured == nullptr) continue;
    counters.disk_read += drive.measured->counts(Kind::kRead).bytes;
    counters.disk_written += drive.measured->counts(Kind::kWrite).bytes;
    counters.disk_written += drive.measured->counts(Kind::kWriteZeroes).bytes;
  }
  if (board->network() == nullptr) return counters;
  for (const auto& each : board->network()->list()) {
    if (!each.card) continue;
    counters.network_received += each.traffic.received_bytes;
    counters.network_sent += each.traffic.sent_bytes;
  }
  return counters;
}

Rates rates(const Counters& before, const Counters& now) {
  const double seconds = std::chrono::duration<double>(now.time - before.time).count();
  if (seconds <= 0) return {};
  const auto rate = [&](uint64_t Counters::*counter) {
    return now.*counter < before.*counter
               ? 0.0
               : static_cast<double>(now.*counter - before.*counter) / seconds;
  };
  return {.load = rate(&Counters::processor_nanoseconds) / 1e9,
          .disk_read = rate(&Counters::disk_read),
          .disk_written = rate(&Counters::disk_written),
          .network_received = rate(&Counters::network_received),
          .network_sent = rate(&Counters::network_sent)};
}

std::string machine_message(machine::Machine& machine, bool has_screen) {
  Json terminals = Json::array();
  for (const auto& console : machine.characters().consoles()) terminals.push_back(console.id);
  const auto& description = machine.description();
  const Json message = {{"type", "machine"},
                        {"name", description.name},
                        {"version", LIMEN_VERSION},
                        {"accelerator", machine.accelerator().name()},
                        {"board", description.type},
                        {"vcpus", machine.vcpu_count()},
                        {"memory", machine.memory() == nullptr ? 0 : description.memory_bytes},
                        {"screen", has_screen},
                        {"terminals", terminals}};
  // Names come from the command line: they may be anything.
  return message.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string status_message(machine::Machine& machine, const Rates& rates) {
  const auto vcpus = std::max(machine.vcpu_count(), 1u);
  return Json({{"type", "status"},
               {"state", machine::run_state_name(machine.run_state())},
               {"load", whole(std::min(rates.load * 100 / vcpus, 100.0))},
               {"disk-read", whole(rates.disk_read)},
               {"disk-written", whole(rates.disk_written)},
               {"network-received", whole(rates.network_received)},
               {"network-sent", whole(rates.network_sent)}})
      .dump();
}

}  // namespace limen::web
