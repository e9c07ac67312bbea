// A virtual machine: made from a description, run to its end.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "machine/board.h"
#include "machine/characters.h"
#include "machine/description.h"
#include "machine/displays.h"
#include "machine/events.h"
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
  /// status: 0 after a power-off, a person's wish to end or (with reboot=shutdown) a reset; the
  /// guest's own choice through isa-debug-exit; an error when the guest died or a disk could not be
  /// flushed. What a person should know of the guest's death stands on standard error by then.
  Result<int> run();

  /// Ends the machine, whatever it does. Thread-safe.
  void quit(Cause cause = Cause::kHostUi);
  /// Holds the processors and says so with STOP; `reason` is then the state. Nothing happens to a
  /// machine that does not run. Thread-safe.
  void stop(RunState reason = RunState::kPaused);

  // From here on: on the loop's thread, or before it runs.

  /// Goes on, with RESUME, and has failed requests of disks made again. Fails for a machine that
  /// has to be reset first.
  Result<> cont();
  /// All parts as after power-on and the kernel loaded again. A machine that stood still goes on
  /// doing so.
  void system_reset(Cause cause);
  /// Presses the power button, with POWERDOWN. It wakes a guest that is in S3.
  void power_down();
  /// Ends S3, with WAKEUP. Fails for a guest that is not in it.
  Result<> wake_up();
  /// The guest can enter S3.
  [[nodiscard]] bool can_suspend();
  [[nodiscard]] RunState run_state() const { return run_state_; }
  [[nodiscard]] Actions& actions() { return actions_; }
  /// Holds all processors, calls `work` and lets them go on if they ran.
  void with_processors_held(const std::function<void()>& work);

  [[nodiscard]] const MachineDescription& description() const { return description_; }
  [[nodiscard]] EventLoop& loop() { return *loop_; }
  [[nodiscard]] Events& events() { return *events_; }
  [[nodiscard]] Characters& characters() { return *characters_; }
  /// Null for machine "none", as the memory.
  [[nodiscard]] Board* board() { return board_.get(); }
  [[nodiscard]] Displays& displays() { return *displays_; }
  [[nodiscard]] memory::GuestMemory* memory() { return memory_.get(); }
  [[nodiscard]] vcpu::Accelerator& accelerator() { return *accelerator_; }
  [[nodiscard]] const x86::CpuidTable& cpuid() const { return cpuid_; }
  [[nodiscard]] const x86::Topology& topology() const { return topology_; }
  [[nodiscard]] std::vector<std::unique_ptr<VcpuThread>>& processors() { return vcpus_; }

  /// As cont() for some of the processors: the others stand still until the next cont().
  Result<> cont_some(std::span<const unsigned> indices);
  [[nodiscard]] unsigned vcpu_count() const { return static_cast<unsigned>(vcpus_.size()); }
  /// Touch its state only while nothing runs.
  [[nodiscard]] vcpu::Vcpu& vcpu(unsigned index) { return vcpus_[index]->vcpu(); }
  /// What is plugged in now, as it was described; a card has the address that it was given.
  [[nodiscard]] const std::vector<DeviceDescription>& devices() const { return devices_; }
  /// What -object and object-add made, in that order.
  [[nodiscard]] const std::vector<ObjectDescription>& objects() const { return objects_; }
  Result<> add_object(const ObjectDescription& object);
  /// Fails for one that is not there, and for one that something uses.
  Result<> remove_object(const std::string& id);
  /// QMP's netdev_add and netdev_del. A card whose back end goes has no link from then on.
  Result<> add_netdev(const net::BackendDescription& backend);
  Result<> remove_netdev(const std::string& id);
  /// QMP's device_add and device_del: into the slot of a root port, and out of it once the guest
  /// agrees, with DEVICE_DELETED.
  Result<> plug(const DeviceDescription& description);
  Result<> request_unplug(const std::string& id);
  /// nullptr: nobody. It outlives run().
  void set_debug_observer(DebugObserver* observer) { debug_observer_ = observer; }

 private:
  enum class What {
    kPowerOff,
    kSuspend,
    kHibernate,
    kReset,
    kTripleFault,
    kInternalError,
    kExit,
    kPanicked
  };

  explicit Machine(const MachineDescription& description)
      : description_(description), actions_(description.actions) {}
  Result<> open_objects();
  Result<std::unique_ptr<memory::GuestMemory>> open_guest_memory();
  [[nodiscard]] bool object_in_use(const ObjectDescription& object) const;
  Result<> build(std::unique_ptr<vcpu::Accelerator> accelerator);
  Result<> open_characters();
  /// RAM's content and the bootstrap processor's state as the loader leaves them.
  Result<x86::CpuState> load_guest();
  [[nodiscard]] uint32_t cpu_signature() const;
  /// Gives every processor its state at power-on; `start` is the first one's.
  void start_processors(const x86::CpuState& start);
  void pause();
  void resume();
  Result<> power_on();

  /// What happened, and to which processor, if to one.
  struct Occurrence {
    What what = What::kPowerOff;
    int status = 0;
    unsigned vcpu = 0;
    std::string detail = {};
  };
  /// Holds the processors and handles it on the loop's thread. Of several, the first counts.
  void raise(Occurrence occurrence);
  void handle(const Occurrence& occurrence);
  /// Tells monitors and a debugger.
  void change_state(RunState state);
  /// On the processor's thread.
  void stopped_for_debugger(unsigned vcpu, const vcpu::DebugStop& stop);
  /// The guest is through: ends or stands still, as the actions say.
  void shut_down(Cause cause, Result<int> outcome);
  void panicked();
  /// The guest is in S3.
  void suspended();
  /// Has the guest go on after S3 if it is in it and runs.
  void woken();
  /// Processors and devices as after S3.
  Result<> resume_parts();
  void watchdog_expired();
  /// What was in the slot of root port `port` is gone; `id`: its id, if it had one.
  void removed(const std::string& port, const std::string& id);
  /// The same of a device that was on no slot, by its id.
  void removed(const std::string& id);
  void stop_now(RunState reason);
  void reset_now(Cause cause);
  void end(Result<int> outcome);
  void disk_failed(const DiskError& failure);
  [[nodiscard]] std::string report(std::string_view what, unsigned vcpu);

  const MachineDescription description_;
  std::vector<DeviceDescription> devices_ = description_.devices;  // loop thread
  std::vector<ObjectDescription> objects_;                         // loop thread
  std::map<std::string, UniqueFd> memory_files_;                   ///< Of memory back ends, by id.
  Actions actions_;
  std::unique_ptr<EventLoop> loop_;
  std::thread::id loop_thread_ = std::this_thread::get_id();
  std::unique_ptr<Events> events_;
  std::unique_ptr<Characters> characters_;
  std::unique_ptr<SignalWatch> signals_;
  std::vector<std::byte> bios_;  ///< Empty: firmware is in flash, or there is none.
  std::unique_ptr<memory::GuestMemory> memory_;
  std::unique_ptr<Board> board_;
  std::unique_ptr<vcpu::Accelerator> accelerator_;
  x86::CpuidTable cpuid_;  ///< Without what tells processors apart.
  x86::Topology topology_;
  std::vector<uint32_t> apic_ids_;
  std::unique_ptr<vcpu::Vm> vm_;
  std::vector<std::unique_ptr<VcpuThread>> vcpus_;
  std::unique_ptr<Displays> displays_;
  /// Set once all of `vcpus_` are there: before, an interrupt has nobody to wake.
  std::atomic<bool> interruptible_ = false;
  std::atomic<bool> event_raised_ = false;
  RunState run_state_ = RunState::kPrelaunch;  // loop thread
  bool suspended_ = false;                     // loop thread: in S3, and perhaps stopped, too
  std::optional<Result<int>> outcome_;         // loop thread
  DebugObserver* debug_observer_ = nullptr;    // loop thread
  std::vector<unsigned> resumed_;              // loop thread: by the last cont() or its kind
  std::atomic<uint64_t> resumptions_ = 0;      // counts cont() and its kind
};

}  // namespace limen::machine
