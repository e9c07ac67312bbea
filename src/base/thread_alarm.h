// A timer whose signal goes to one thread.
#pragma once

#include <cstdint>
#include <ctime>

namespace limen {

/// Belongs to the thread that made it: only that one gets the signal, and only it calls set().
class ThreadAlarm {
 public:
  /// `value`: si_value of the signal. Fails as memory does: with the end of the program.
  explicit ThreadAlarm(int signal, void* value = nullptr);
  ~ThreadAlarm();
  ThreadAlarm(const ThreadAlarm&) = delete;
  ThreadAlarm& operator=(const ThreadAlarm&) = delete;

  /// In so many nanoseconds; replaces what was set before.
  void set(uint64_t nanoseconds);
  /// Not at all.
  void stop();

 private:
  timer_t timer_{};
};

}  // namespace limen
