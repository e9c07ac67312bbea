// Lets a gdb connect to a machine, one at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "gdb/listener.h"
#include "gdb/machine_target.h"
#include "gdb/session.h"
#include "machine/machine.h"

namespace limen::gdb {

/// Lives on the machine's event loop. Whatever a client does or sends, the machine lives on; one
/// that vanishes leaves it as it stands, without breakpoints.
class Server final : public machine::DebugObserver {
 public:
  /// Listens at `address` (parse_listen_address()) from now on. The machine outlives the server.
  /// Fails for a machine without a processor. `monitor` answers gdb's `monitor`.
  static Result<std::unique_ptr<Server>> create(machine::Machine& machine, std::string_view address,
                                                MachineTarget::Monitor monitor);
  ~Server() override;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void debug_stopped(unsigned vcpu, const vcpu::DebugStop& stop) override;
  void run_state_changed(machine::RunState state) override;
  void ending(int status) override;

 private:
  /// Beyond this a client that does not read is dropped.
  static constexpr size_t kOutputLimit = size_t{4} << 20;

  Server(machine::Machine& machine, MachineTarget::Monitor monitor)
      : machine_(machine), target_(machine, std::move(monitor)) {}
  Result<> open(const ListenAddress& address);
  void accept();
  Result<> begin(int input, int output);
  void receive();
  void send(std::string_view bytes);
  void flush();
  void watch_output();
  /// The client went away or said good-bye.
  void end();
  void end_if_closed();

  machine::Machine& machine_;
  MachineTarget target_;
  ListenAddress address_;
  UniqueFd listener_;
  UniqueFd connection_;
  int input_ = -1;
  int output_ = -1;
  std::string unsent_;
  bool watches_output_ = false;
  bool broken_ = false;
  std::optional<Session> session_;
};

}  // namespace limen::gdb
