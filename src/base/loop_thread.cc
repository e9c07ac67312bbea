#include "base/loop_thread.h"

#include <pthread.h>

#include <csignal>
#include <future>
#include <system_error>

namespace limen {

Result<std::unique_ptr<LoopThread>> LoopThread::create(const std::string& name) {
  std::unique_ptr<LoopThread> made(new LoopThread);
  made->loop_ = LIMEN_TRY(EventLoop::create());
  std::promise<void> started;
  auto running = started.get_future();
  try {
    made->thread_ = std::thread([loop = made->loop_.get(), name, &started] {
      // Signals are for the threads that wait for them; faults stay with whoever causes them.
      sigset_t blocked;
      ::sigfillset(&blocked);
      for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) ::sigdelset(&blocked, fault);
      ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
      ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
      started.set_value();
      loop->run();
    });
  } catch (const std::system_error& error) {
    return fail("cannot start thread '{}': {}", name, error.what());
  }
  running.wait();
  return made;
}

LoopThread::~LoopThread() {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
}

void LoopThread::run_there(const std::function<void()>& work) {
  if (is_current()) return work();
  std::promise<void> done;
  auto waiting = done.get_future();
  loop_->post([&] {
    work();
    done.set_value();
  });
  waiting.wait();
}

}  // namespace limen
