// What a session debugs: a machine whose processors are gdb's threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gdb/registers.h"
#include "vcpu/debug.h"

namespace limen::gdb {

/// What one processor does when the machine goes on.
enum class Action : uint8_t { kStand, kContinue, kStep };

/// Where the processors are to stop.
struct Stops {
  std::vector<uint64_t> breakpoints = {};
  std::vector<uint64_t> hardware_breakpoints = {};
  std::vector<vcpu::Watchpoint> watchpoints = {};
};

/// All calls on the event loop's thread. Registers and memory only while nothing runs.
class Target {
 public:
  virtual ~Target() = default;

  [[nodiscard]] virtual unsigned processor_count() = 0;
  [[nodiscard]] virtual RegisterFile registers(unsigned processor) = 0;
  virtual void set_registers(unsigned processor, const RegisterFile& file) = 0;
  /// The processor waits for an interrupt, or for its start.
  [[nodiscard]] virtual bool halted(unsigned processor) = 0;

  /// By linear address of the processor's page tables, or by physical address. How many bytes were
  /// there, from the first one on.
  virtual size_t read_memory(unsigned processor, uint64_t address, bool physical,
                             std::span<std::byte> into) = 0;
  /// False: not all of it is there; what is was written.
  virtual bool write_memory(unsigned processor, uint64_t address, bool physical,
                            std::span<const std::byte> from) = 0;

  [[nodiscard]] virtual bool running() = 0;
  /// The session hears of it by run_state_changed().
  virtual void stop() = 0;
  /// `actions` has one per processor. While stepping, interrupts are held back or not.
  virtual Result<> resume(std::span<const Action> actions, const Stops& stops,
                          bool hold_interrupts) = 0;
  /// Goes on as if nobody had ever debugged it.
  virtual void let_go() = 0;
  virtual void quit() = 0;

  /// A command of the monitor's; what it prints.
  virtual std::string monitor(std::string_view command) = 0;
};

}  // namespace limen::gdb
