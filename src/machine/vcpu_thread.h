// The thread that runs one vCPU, and the means to hold it still.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "irq/local_apic.h"
#include "vcpu/accelerator.h"

namespace limen::machine {

class VcpuThread {
 public:
  /// `ended`: run() came back with something else than kInterrupted. Called on the vCPU's thread,
  /// which then stands still until resume().
  VcpuThread(unsigned index, std::unique_ptr<vcpu::Vcpu> vcpu, irq::LocalApic* local_apic,
             std::function<void(const vcpu::Exit&)> ended);
  /// Stops the thread.
  ~VcpuThread();
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;

  /// The processor; touch its state only while it stands still.
  [[nodiscard]] vcpu::Vcpu& vcpu() { return *vcpu_; }

  /// The thread's number in this system (gettid(2)).
  [[nodiscard]] int thread_id() const { return thread_id_.load(); }

  /// Runs it, from the state that it has. It stands still at first.
  void resume();
  /// Makes it stand still soon; does not wait. Thread-safe, also from the vCPU's own thread.
  void request_pause();
  /// Makes it stand still and waits for that. Not from the vCPU's own thread.
  void pause();
  /// Ends the thread for good.
  void stop();

 private:
  void serve(unsigned index);

  std::unique_ptr<vcpu::Vcpu> vcpu_;
  irq::LocalApic* const local_apic_;  ///< nullptr: the accelerator has it.
  std::function<void(const vcpu::Exit&)> ended_;

  std::atomic<int> thread_id_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool pause_wanted_ = true;     // guarded by mutex_
  bool standing_still_ = false;  // guarded by mutex_
  bool ending_ = false;          // guarded by mutex_
  std::thread thread_;
};

}  // namespace limen::machine
