// A machine, as a session debugs it.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "gdb/target.h"
#include "machine/machine.h"

namespace limen::gdb {

class MachineTarget final : public Target {
 public:
  /// Takes a command of the human monitor's, returns what it prints.
  using Monitor = std::function<std::string(std::string_view command)>;
  /// The machine has a processor, and so a board and memory. What a person asks for with gdb's
  /// `monitor` goes to `monitor`.
  MachineTarget(machine::Machine& machine, Monitor monitor)
      : machine_(machine), monitor_(std::move(monitor)) {}

  [[nodiscard]] unsigned processor_count() override { return machine_.vcpu_count(); }
  [[nodiscard]] RegisterFile registers(unsigned processor) override;
  void set_registers(unsigned processor, const RegisterFile& file) override;
  [[nodiscard]] bool halted(unsigned processor) override;
  size_t read_memory(unsigned processor, uint64_t address, bool physical,
                     std::span<std::byte> into) override;
  bool write_memory(unsigned processor, uint64_t address, bool physical,
                    std::span<const std::byte> from) override;
  [[nodiscard]] bool running() override { return machine::is_live(machine_.run_state()); }
  void stop() override { machine_.stop(machine::RunState::kPaused); }
  Result<> resume(std::span<const Action> actions, const Stops& stops,
                  bool hold_interrupts) override;
  void let_go() override;
  void quit() override { machine_.quit(); }
  std::string monitor(std::string_view command) override { return monitor_(command); }

  /// As let_go(), but the machine stays as it is.
  void forget_stops();

 private:
  machine::Machine& machine_;
  Monitor monitor_;
};

}  // namespace limen::gdb
