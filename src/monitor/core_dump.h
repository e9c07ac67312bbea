// A guest's memory and registers as an ELF core file, which gdb and crash read.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

namespace limen::monitor {

/// What a dump is made of. The processors stand still until it is written.
struct DumpRequest {
  const memory::GuestMemory* memory = nullptr;
  std::vector<x86::CpuState> processors = {};
  bool paging = false;  ///< By linear address, as the first processor's tables have it.
};

/// Writes to `fd`, which need not be seekable. `progress` is told the bytes of memory written so
/// far.
Result<> write_core(int fd, const DumpRequest& request, std::atomic<uint64_t>& progress);
/// Bytes of memory that write_core() will write.
[[nodiscard]] uint64_t core_memory_size(const DumpRequest& request);

/// The dump that is under way or was the last one, as query-dump has it.
class DumpJob {
 public:
  enum class Status : uint8_t { kNone, kActive, kCompleted, kFailed };
  DumpJob() = default;
  ~DumpJob();
  DumpJob(const DumpJob&) = delete;
  DumpJob& operator=(const DumpJob&) = delete;

  /// Writes on this thread.
  Result<> run(UniqueFd fd, const DumpRequest& request);
  /// Writes on a thread of its own, and calls `done` there.
  void start(UniqueFd fd, DumpRequest request, std::function<void(Result<>)> done);

  [[nodiscard]] Status status() const { return status_; }
  [[nodiscard]] uint64_t completed() const { return completed_; }
  [[nodiscard]] uint64_t total() const { return total_; }

 private:
  std::atomic<Status> status_ = Status::kNone;
  std::atomic<uint64_t> completed_ = 0;
  std::atomic<uint64_t> total_ = 0;
  std::thread thread_;
};

}  // namespace limen::monitor
