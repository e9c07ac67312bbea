// What a host thread needs before it may run generated code.
#pragma once

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/thread_alarm.h"

namespace limen::soft {
struct Cpu;
}  // namespace limen::soft

namespace limen::soft::translate {

class Translator;

/// While it lives: GS leads to the Cpu, faults in generated code go to the translator, signals have
/// a stack of their own (RSP is the guest's), and those sent from outside are left to other
/// threads.
class HostThread {
 public:
  HostThread(Cpu& cpu, Translator& translator);
  ~HostThread();
  HostThread(const HostThread&) = delete;
  HostThread& operator=(const HostThread&) = delete;

  /// Calls for the Cpu's attention.
  [[nodiscard]] ThreadAlarm& alarm() { return alarm_; }

 private:
  static constexpr size_t kStackSize = size_t{64} << 10;
  std::unique_ptr<std::byte[]> stack_;
  stack_t previous_stack_{};
  sigset_t previous_signals_{};
  uint64_t previous_gs_ = 0;
  Translator* previous_translator_ = nullptr;
  ThreadAlarm alarm_;
};

}  // namespace limen::soft::translate
