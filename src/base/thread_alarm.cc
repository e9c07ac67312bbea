#include "base/thread_alarm.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace limen {

ThreadAlarm::ThreadAlarm(int signal, void* value) {
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = signal;
  event.sigev_value.sival_ptr = value;
  event._sigev_un._tid = ::gettid();
  if (::timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) {
    std::perror("limen: timer_create");
    std::abort();
  }
}

ThreadAlarm::~ThreadAlarm() { ::timer_delete(timer_); }

void ThreadAlarm::set(uint64_t nanoseconds) {
  constexpr uint64_t kSecond = 1'000'000'000;
  nanoseconds = std::max<uint64_t>(nanoseconds, 1);  // zero would stop it
  itimerspec when = {};
  when.it_value.tv_sec = static_cast<time_t>(nanoseconds / kSecond);
  when.it_value.tv_nsec = static_cast<long>(nanoseconds % kSecond);
  ::timer_settime(timer_, 0, &when, nullptr);
}

void ThreadAlarm::stop() {
  const itimerspec never = {};
  ::timer_settime(timer_, 0, &never, nullptr);
}

}  // namespace limen
