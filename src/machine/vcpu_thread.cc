#include "machine/vcpu_thread.h"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <utility>

namespace limen::machine {

VcpuThread::VcpuThread(unsigned index, std::unique_ptr<vcpu::Vcpu> vcpu, irq::LocalApic* local_apic,
                       std::function<void(const vcpu::Exit&)> ended)
    : vcpu_(std::move(vcpu)), local_apic_(local_apic), ended_(std::move(ended)) {
  thread_ = std::thread([this, index] { serve(index); });
  thread_id_.wait(0);
}

VcpuThread::~VcpuThread() { stop(); }

void VcpuThread::stop() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  vcpu_->kick();
  if (thread_.joinable()) thread_.join();
}

void VcpuThread::resume() {
  {
    const std::lock_guard lock(mutex_);
    pause_wanted_ = false;
  }
  changed_.notify_all();
}

void VcpuThread::request_pause() {
  {
    const std::lock_guard lock(mutex_);
    pause_wanted_ = true;
  }
  vcpu_->kick();
}

void VcpuThread::pause() {
  request_pause();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return standing_still_; });
}

void VcpuThread::serve(unsigned index) {
  thread_id_ = ::gettid();
  thread_id_.notify_all();
  ::pthread_setname_np(::pthread_self(), fmt::format("vcpu{}", index).c_str());
  irq::ApicBus::set_current(local_apic_);
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (pause_wanted_ && !ending_) {
        standing_still_ = true;
        changed_.notify_all();
        changed_.wait(lock, [this] { return !pause_wanted_ || ending_; });
        standing_still_ = false;
      }
      if (ending_) break;
    }
    const vcpu::Exit exit = vcpu_->run();
    if (exit.reason == vcpu::ExitReason::kInterrupted) continue;
    {
      const std::lock_guard lock(mutex_);
      pause_wanted_ = true;
    }
    ended_(exit);
  }
  irq::ApicBus::set_current(nullptr);
}

}  // namespace limen::machine
