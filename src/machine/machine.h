// A virtual machine: made from a description, run to its end.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "machine/description.h"
#include "machine/q35_board.h"
#include "machine/run_state.h"
#include "machine/signal_watch.h"
#include "machine/vcpu_thread.h"
#include "memory/guest_memory.h"
#include "vcpu/accelerator.h"
#include "x86/cpuid.h"

namespace limen::machine {

/// A debugger. All calls come on the loop's thread.
class DebugObserver {
 public:
  virtual ~DebugObserver() = default;
  /// A processor came to a stop that Vcpu::set_debug() asked for; all stand still.
  virtual void debug_stopped(unsigned vcpu, const vcpu::DebugStop& stop) = 0;
  /// The guest was stopped or goes on, whoever wanted it.
  virtual void run_state_changed(RunState state) = 0;
  /// The machine is about to end with this exit status.
  virtual void ending(int status) = 0;
};

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

  // For a monitor and a debugger, on the loop's thread (or before run()).
  [[nodiscard]] EventLoop& loop() { return *loop_; }
  [[nodiscard]] RunState run_state() const { return run_state_; }
  /// Returns once no processor runs. Does nothing if none did.
  void stop(RunState reason);
  /// Goes on, and has failed requests of disks made again. False, and nothing happens, where the
  /// guest must be reset first.
  bool cont();
  /// The same for some of the processors: the others stand still until the next cont().
  bool cont_some(std::span<const unsigned> indices);
  [[nodiscard]] unsigned vcpu_count() const { return static_cast<unsigned>(vcpus_.size()); }
  /// Touch its state only while nothing runs.
  [[nodiscard]] vcpu::Vcpu& vcpu(unsigned index) { return vcpus_[index]->vcpu(); }
  [[nodiscard]] memory::GuestMemory& memory() { return *memory_; }
  [[nodiscard]] Q35Board& board() { return *board_; }
  /// QMP's device_add and device_del: into the slot of a root port, and out of it once the guest
  /// agrees.
  Result<> plug(const DeviceDescription& description);
  Result<> request_unplug(const std::string& id);
  /// `removed(id)` follows when the device is gone: DEVICE_DELETED.
  void set_removal_listener(std::function<void(const std::string& id)> removed) {
    removed_ = std::move(removed);
  }
  /// nullptr: nobody. It outlives run().
  void set_debug_observer(DebugObserver* observer) { debug_observer_ = observer; }

 private:
  enum class Event { kPowerOff, kReset, kTripleFault, kInternalError, kExit, kPanicked, kQuit };

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
  void change_state(RunState state);
  /// Holds all processors, calls `work` and lets them go on if they ran.
  void with_processors_held(const std::function<void()>& work);
  /// On the processor's thread.
  void stopped_for_debugger(unsigned vcpu, const vcpu::DebugStop& stop);
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
  std::optional<Result<int>> outcome_;               // loop thread
  RunState run_state_ = RunState::kPrelaunch;        // loop thread
  std::function<void(const std::string&)> removed_;  // loop thread
  DebugObserver* debug_observer_ = nullptr;          // loop thread
  std::vector<unsigned> resumed_;                    // loop thread: by the last cont() or its kind
  std::atomic<uint64_t> resumptions_ = 0;            // counts cont() and its kind
};

}  // namespace limen::machine
