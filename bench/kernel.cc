// What a process asks of the kernel without another process.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

#include "measure.h"

namespace bench {

namespace {

constexpr size_t kPage = 4096;

void* map_pages(size_t pages) {
  void* memory =
      mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  checked(memory == MAP_FAILED ? -1 : 0, "mmap");
  return memory;
}

double getppid_calls(const Request& request) {
  return best_whole_time(request, [](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) syscall(SYS_getppid);
  });
}

volatile sig_atomic_t signals_seen;

double signal_to_self(const Request& request) {
  struct sigaction action {};
  action.sa_handler = [](int) { signals_seen = signals_seen + 1; };
  checked(sigaction(SIGUSR1, &action, nullptr), "sigaction");
  const pid_t self = getpid();
  return best_whole_time(request, [&](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) kill(self, SIGUSR1);
  });
}

// Only the touches count, not the mapping and its end.
double first_touch(const Request& request) {
  constexpr size_t kPages = 1024;
  return best_time(request,
                   [](uint64_t count) {
                     uint64_t spent = 0;
                     for (uint64_t i = 0; i < count; ++i) {
                       void* memory = map_pages(kPages);
                       checked(madvise(memory, kPages * kPage, MADV_NOHUGEPAGE), "madvise");
                       auto* bytes = static_cast<volatile char*>(memory);
                       const uint64_t begin = now();
                       for (size_t page = 0; page < kPages; ++page) bytes[page * kPage] = 1;
                       spent += now() - begin;
                       checked(munmap(memory, kPages * kPage), "munmap");
                     }
                     return spent;
                   }) /
         static_cast<double>(kPages);
}

// One page of sixteen is touched, so that there is something to unmap.
double map_and_unmap(const Request& request) {
  constexpr size_t kPages = 16;
  return best_whole_time(request, [](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      void* memory = map_pages(kPages);
      *static_cast<volatile char*>(memory) = 1;
      checked(munmap(memory, kPages * kPage), "munmap");
    }
  });
}

}  // namespace

std::vector<Row> kernel_rows() {
  return {{"getppid", "call", getppid_calls},
          {"signal-self", "signal", signal_to_self},
          {"first-touch", "page", first_touch},
          {"mmap-munmap", "pair", map_and_unmap}};
}

}  // namespace bench
