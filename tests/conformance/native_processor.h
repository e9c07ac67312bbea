// Runs trials on the host's own processor, in a child process that may come to harm.
#pragma once

#include <sys/types.h>

#include <memory>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"
#include "conformance/trial.h"

namespace limen::conformance {

class NativeProcessor {
 public:
  static Result<std::unique_ptr<NativeProcessor>> create();
  ~NativeProcessor();
  NativeProcessor(const NativeProcessor&) = delete;
  NativeProcessor& operator=(const NativeProcessor&) = delete;

  /// Fill this in, then run().
  [[nodiscard]] Batch& batch();
  /// Starts the batch; the child works on it while the caller does something else.
  Result<> start();
  /// Waits for the batch's end. A trial that killed the child is marked as not run.
  Result<> finish();
  [[nodiscard]] std::span<const Outcome> outcomes() const;
  /// What the read-only page holds.
  [[nodiscard]] static std::span<const uint8_t> read_only_page();

  struct Mailbox;

 private:
  NativeProcessor() = default;
  Result<> spawn();
  void end_child();
  [[noreturn]] void child_main();

  Mailbox* mailbox_ = nullptr;
  UniqueFd pages_;
  pid_t child_ = -1;
};

/// The XCR0 features whose state a trial can load and read back on this host.
[[nodiscard]] uint64_t host_vector_features();

}  // namespace limen::conformance
