// A terminal in raw mode, put back whatever ends the process.
#pragma once

#include <memory>

#include "base/result.h"

namespace limen::device {

/// Holds one terminal of the process in raw mode: bytes come as typed, without echo. Output
/// processing stays as it was, so that messages on standard error keep their line ends. The old
/// mode comes back at destruction, at exit(), when a signal that nobody handles ends the process,
/// and while the process is stopped (Ctrl-z).
class RawTerminal {
 public:
  /// `signals`: Ctrl-c and the like still raise signals. Null if `fd` is no terminal, or if another
  /// RawTerminal exists.
  static Result<std::unique_ptr<RawTerminal>> create(int fd, bool signals);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  RawTerminal() = default;
};

}  // namespace limen::device
