// A virtual machine: made from a description, run to its end.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "machine/description.h"
#include "machine/q35_board.h"
#include "machine/signal_watch.h"
#include "machine/vcpu_thread.h"
#include "memory/guest_memory.h"
#include "vcpu/accelerator.h"
#include "x86/cpuid.h"

namespace limen::machine {

class Machine {
 public:
  /// Loads the kernel, opens the disks and builds the board. An error names the value that is
  /// wrong; nothing is then left behind. From here on SIGINT, SIGTERM and SIGHUP end the machine.
  static Result<std::unique_ptr<Machine>> create(const MachineDescription& description);
  /// The same with an accelerator of the caller's, for tests.
  static Result<std::unique_ptr<Machine>> create(const MachineDescription& description,
                                                 std::unique_ptr<vcpu::Accelerator> accelerator);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Runs the guest until the machine ends, flushes the disks and returns the program's exit
  /// status: 0 after a power-off, a person's wish to end or (with no_reboot) a reset; the guest's
  /// own choice through isa-debug-exit; an error when the guest died or a disk could not be
  /// flushed. What a person should know of the guest's death stands on standard error by then.
  Result<int> run();

  /// As if the guest had powered off. Thread-safe.
  void quit();

 private:
  enum class Event { kPowerOff, kReset, kTripleFault, kInternalError, kExit, kQuit };

  explicit Machine(const MachineDescription& description) : description_(description) {}
  Result<> build(std::unique_ptr<vcpu::Accelerator> accelerator);
  /// RAM's content and the processor's state as the loader leaves them.
  Result<x86::CpuState> load_guest();
  Result<> power_on();

  /// Holds the processor and handles `event` on the loop's thread. Of several, the first counts.
  void raise(Event event, int status = 0, std::string detail = {});
  void handle(Event event, int status, const std::string& detail);
  void end(Result<int> outcome);
  [[nodiscard]] std::string report(std::string_view what);

  const MachineDescription description_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<SignalWatch> signals_;
  std::unique_ptr<memory::GuestMemory> memory_;
  std::unique_ptr<Q35Board> board_;
  std::unique_ptr<vcpu::Accelerator> accelerator_;
  x86::CpuidTable cpuid_;
  std::unique_ptr<vcpu::Vm> vm_;
  std::unique_ptr<VcpuThread> vcpu_;
  /// vcpu_'s processor for interrupt(), set once it is there.
  std::atomic<vcpu::Vcpu*> interruptible_ = nullptr;
  std::atomic<bool> event_raised_ = false;
  std::optional<Result<int>> outcome_;  // loop thread
};

}  // namespace limen::machine
