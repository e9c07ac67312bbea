// The process around a machine: background, process-id file, user, sandbox.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "qemu/process_options.h"

namespace limen::cli {

/// A process that went to the background while its parent waits for it to be ready.
class Background {
 public:
  /// Comes back in a new process without a terminal of its own; the one that called waits and ends
  /// with the new one's answer. Before any thread is made.
  static Result<Background> enter();
  /// Standard input, output and error lead nowhere from here on, and the waiting process ends with
  /// status 0.
  Result<> ready();

 private:
  UniqueFd answer_;
};

/// A file with this process's number, locked while it lives, removed with this object.
class PidFile {
 public:
  static Result<std::unique_ptr<PidFile>> create(const std::string& path);
  ~PidFile();
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;

 private:
  PidFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  UniqueFd fd_;
  std::string path_;
};

/// Gives the threads that are made from here on stacks too small for a huge page. With those on by
/// themselves (transparent_hugepage=always, as in Debian), a stack of the usual 8 MiB may take 2
/// MiB for the few KiB in use.
void limit_thread_stacks();

/// Keeps all memory of this process from being swapped out, if the options say so.
Result<> lock_memory(const qemu::ProcessOptions& options);

/// Changes the root folder and the user, as far as the options say.
Result<> change_user(const qemu::ProcessOptions& options);

/// From here on, system calls that no machine needs end the process or fail. For all threads.
Result<> enter_sandbox(const qemu::ProcessOptions& options);

}  // namespace limen::cli
