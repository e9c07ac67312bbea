// One connection of a gdb (GDB manual, appendix E "gdb Remote Serial Protocol"): all-stop mode, a
// thread per processor, and the maintenance packets that QEMU's users know.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gdb/packet.h"
#include "gdb/target.h"
#include "machine/run_state.h"

namespace limen::gdb {

class Session {
 public:
  using Send = std::function<void(std::string_view bytes)>;
  /// `send` takes bytes for the client. A machine that runs is stopped, as QEMU does it.
  Session(Target& target, Send send);

  /// What the client sent.
  void receive(std::span<const uint8_t> bytes);
  /// False: the client said good-bye.
  [[nodiscard]] bool open() const { return open_; }

  // What happens to the machine.
  void debug_stopped(unsigned processor, const vcpu::DebugStop& stop);
  void run_state_changed(machine::RunState state);
  void ending(int status);

 private:
  /// gdb's signal numbers (include/gdb/signals.def).
  enum class Signal : uint8_t {
    kInterrupt = 2,
    kQuit = 3,
    kTrap = 5,
    kAbort = 6,
    kAlarm = 14,
    kIo = 23
  };

  /// Which threads a packet means.
  struct ThreadId {
    static constexpr int64_t kAll = -1, kAny = 0;
    int64_t process = kAny;
    int64_t thread = kAny;  ///< Processors count from 1.
  };

  void handle(std::string_view packet);
  void reply(std::string_view data);
  void reply_error(unsigned number);
  void reply_ok() { reply("OK"); }

  // Registers, memory: session_state.cc.
  void read_registers();
  void write_registers(std::string_view text);
  void read_one_register(std::string_view text);
  void write_one_register(std::string_view text);
  void read_memory(std::string_view text);
  void write_memory(std::string_view text, bool binary);

  // Running and stopping: session_run.cc.
  void change_stop(std::string_view text, bool insert);
  void step_or_continue(std::string_view text, Action action, bool with_signal);
  void resume_by_thread(std::string_view text);
  void resume(std::span<const Action> actions);
  void report(unsigned processor, const vcpu::DebugStop& stop);
  void report_signal(Signal signal);
  [[nodiscard]] std::string stop_reply(Signal signal, const vcpu::DebugStop* stop = nullptr) const;
  [[nodiscard]] bool is_watched(const vcpu::DebugStop& stop) const;
  void forget_stops();

  // Queries and the rest: session_query.cc.
  void query(std::string_view text);
  bool query_qemu(std::string_view text);
  void set(std::string_view text);
  void list_threads(size_t from);
  void describe_thread(std::string_view text);
  void read_features(std::string_view text);
  void run_monitor_command(std::string_view text);
  void choose_thread(std::string_view text);
  void v_packet(std::string_view text);
  void detach();

  [[nodiscard]] static std::optional<ThreadId> take_thread(std::string_view& text);
  /// The processor that a thread id names; nothing: there is none. "Any" is the one looked at.
  [[nodiscard]] std::optional<unsigned> processor_of(const ThreadId& id) const;
  [[nodiscard]] bool matches(const ThreadId& id, unsigned processor) const;
  [[nodiscard]] std::string thread_name(unsigned processor) const;

  Target& target_;
  Send send_;
  PacketReader reader_;
  bool open_ = true;
  bool no_ack_ = false;
  std::string last_sent_;  // until it is acknowledged
  bool multiprocess_ = false;
  bool swbreak_ = false;
  bool hwbreak_ = false;
  unsigned selected_ = 0;  // for registers and memory (Hg)
  unsigned continue_ = 0;  // for `c` and `s` (Hc), if not all
  bool continue_all_ = true;
  bool physical_memory_ = false;  // Qqemu.PhyMemMode
  unsigned step_bits_ = 7;        // Qqemu.sstep: ENABLE, NOIRQ, NOTIMER
  Stops stops_;
  bool waiting_ = false;  // gdb waits for a stop reply
  bool ended_ = false;    // it was told that the machine has ended
  std::vector<std::pair<unsigned, vcpu::DebugStop>> pending_;  // stops that it does not know of
};

}  // namespace limen::gdb
