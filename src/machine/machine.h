// A virtual machine: made from a description, run to its end.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

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
  /// Holds the processors, as a disk does whose werror= says stop. Thread-safe.
  void stop();
  /// Goes on, and has failed requests of disks made again. Thread-safe.
  void cont();
  /// Whether it stands still because of stop(). Thread-safe.
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  enum class Event { kPowerOff, kReset, kTripleFault, kInternalError, kExit, kQuit };

  explicit Machine(const MachineDescription& description) : description_(description) {}
  Result<> build(std::unique_ptr<vcpu::Accelerator> accelerator);
  /// RAM's content and the bootstrap processor's state as the loader leaves them.
  Result<x86::CpuState> load_guest();
  /// Gives every processor its state at power-on; `start` is the first one's.
  void start_processors(const x86::CpuState& start);
  void pause();
  void resume();
  Result<> power_on();

  /// What happened, and to which processor, if to one.
  struct Occurrence {
    Event event = Event::kQuit;
    int status = 0;
    unsigned vcpu = 0;
    std::string detail = {};
  };
  /// Holds the processors and handles it on the loop's thread. Of several, the first counts.
  void raise(Occurrence occurrence);
  void handle(const Occurrence& occurrence);
  void end(Result<int> outcome);
  void disk_failed(const DiskError& failure);
  [[nodiscard]] std::string report(std::string_view what, unsigned vcpu);

  const MachineDescription description_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<SignalWatch> signals_;
  std::unique_ptr<memory::GuestMemory> memory_;
  std::unique_ptr<Q35Board> board_;
  std::unique_ptr<vcpu::Accelerator> accelerator_;
  x86::CpuidTable cpuid_;  ///< Without what tells processors apart.
  std::vector<uint32_t> apic_ids_;
  std::unique_ptr<vcpu::Vm> vm_;
  std::vector<std::unique_ptr<VcpuThread>> vcpus_;
  /// Set once all of `vcpus_` are there: before, an interrupt has nobody to wake.
  std::atomic<bool> interruptible_ = false;
  std::atomic<bool> event_raised_ = false;
  std::atomic<bool> stopped_ = false;   // written by the loop thread
  std::optional<Result<int>> outcome_;  // loop thread
};

}  // namespace limen::machine
