// Runs trials in the software engine: a guest with flat segments and page tables that map a trial's
// pages where the native child has them, and handlers that end the run.
#pragma once

#include <memory>
#include <span>

#include "base/result.h"
#include "conformance/trial.h"

namespace limen::conformance {

class SoftProcessor {
 public:
  enum class Tier { kInterpreter, kTranslator };
  /// `read_only_page` is what the guest finds at kReadOnlyAddress. The translator leaves single
  /// steps to the interpreter.
  static Result<std::unique_ptr<SoftProcessor>> create(std::span<const uint8_t> read_only_page,
                                                       Tier tier);
  ~SoftProcessor();
  SoftProcessor(const SoftProcessor&) = delete;
  SoftProcessor& operator=(const SoftProcessor&) = delete;

  /// Runs one trial until an exception has been delivered.
  void run(const Trial& trial, const Image& image, Outcome& outcome);

 private:
  struct Guest;
  explicit SoftProcessor(std::unique_ptr<Guest> guest);
  std::unique_ptr<Guest> guest_;
};

}  // namespace limen::conformance
