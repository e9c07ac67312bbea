// Processes: their making, their end, and talk between two of them.
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "measure.h"

extern char** environ;

namespace bench {

namespace {

void wait_for(pid_t child) {
  int status = 0;
  checked(waitpid(child, &status, 0), "waitpid");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    std::fprintf(stderr, "limen-bench: error: a child ended with status %d\n", status);
    std::exit(1);
  }
}

double pipe_ping_pong(const Request& request) {
  stay_on_one_processor();
  std::array<int, 2> there{}, back{};
  checked(pipe(there.data()), "pipe");
  checked(pipe(back.data()), "pipe");
  const auto child = static_cast<pid_t>(checked(fork(), "fork"));
  char byte = 'x';
  if (child == 0) {
    close(there[1]);
    while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {
    }
    _exit(0);
  }
  const double result = best_whole_time(request, [&](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      checked(write(there[1], &byte, 1) - 1, "write to a pipe");
      checked(read(back[0], &byte, 1) - 1, "read from a pipe");
    }
  });
  close(there[1]);
  wait_for(child);
  return result;
}

double fork_and_exit(const Request& request) {
  stay_on_one_processor();
  return best_whole_time(request, [](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      const auto child = static_cast<pid_t>(checked(fork(), "fork"));
      if (child == 0) _exit(0);
      wait_for(child);
    }
  });
}

double fork_and_exec(const Request& request) {
  stay_on_one_processor();
  return best_whole_time(request, [](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      const auto child = static_cast<pid_t>(checked(fork(), "fork"));
      if (child == 0) {
        execl("/proc/self/exe", "limen-bench", "--nothing", nullptr);
        _exit(127);
      }
      wait_for(child);
    }
  });
}

// Any command, with its making and its end, and its output thrown away. It runs at least twice, as
// the first time reads its files from the disk, unless it lasts so long that this does not show.
double command(const Request& request) {
  std::vector<char*> words;
  words.reserve(request.arguments.size() + 1);
  for (const std::string& word : request.arguments)
    words.push_back(const_cast<char*>(word.c_str()));
  if (words.empty()) {
    std::fputs("limen-bench: error: 'command' needs a command behind it\n", stderr);
    std::exit(1);
  }
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  double best = std::numeric_limits<double>::max();
  constexpr double kLong = 20;
  const auto enough = static_cast<uint64_t>(request.seconds * 1e9);
  const uint64_t started = now();
  for (int runs = 0;
       runs == 0 || (runs == 1 && best < kLong * request.seconds * 1e9) || now() - started < enough;
       ++runs) {
    const uint64_t begin = now();
    pid_t child = 0;
    if (posix_spawnp(&child, words[0], &actions, nullptr, words.data(), environ) != 0) {
      std::fprintf(stderr, "limen-bench: error: cannot run '%s'\n", words[0]);
      std::exit(1);
    }
    wait_for(child);
    best = std::min(best, static_cast<double>(now() - begin));
  }
  posix_spawn_file_actions_destroy(&actions);
  return best;
}

}  // namespace

void stay_on_one_processor() {
  cpu_set_t processors;
  CPU_ZERO(&processors);
  CPU_SET(static_cast<size_t>(checked(sched_getcpu(), "sched_getcpu")), &processors);
  checked(sched_setaffinity(0, sizeof(processors), &processors), "sched_setaffinity");
}

std::vector<Row> process_rows() {
  return {{"pipe-ping-pong", "there and back", pipe_ping_pong},
          {"fork-exit", "child", fork_and_exit},
          {"fork-exec", "child", fork_and_exec},
          {"command", "run", command}};
}

}  // namespace bench
