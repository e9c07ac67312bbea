// Runs programs in every way there is and compares.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "conformance/native_processor.h"
#include "conformance/programs/machine.h"

namespace limen::conformance {

class Laboratory {
 public:
  struct Verdict {
    std::string differences;  ///< "": none.
    size_t situation = 0;     ///< In which.
  };

  /// `native`: what can run on the processor itself does. May be null.
  static Result<std::unique_ptr<Laboratory>> create(NativeProcessor* native);

  /// One situation after the other, on the same machines.
  Verdict compare(const Program& program, std::span<const Situation> situations);

  /// How many runs have been compared: with the translator, and with the processor; and how many
  /// of the former ended with a fault.
  struct Count {
    uint64_t programs = 0, endless = 0, runs = 0, native = 0, faulted = 0, flags_lost = 0;
  };
  [[nodiscard]] const Count& count() const { return count_; }

 private:
  /// Whether the program changed its own code, and differs only because it read flags that its
  /// code, as it was translated, did not read (docs/engine.md).
  static bool is_of_lost_flags(const Program& program, std::span<const Situation> situations,
                               const Ending& expected);
  std::string compare_native(const Program& program, std::span<const Situation> situations,
                             std::span<const size_t> which, std::span<const Ending> expected,
                             size_t& situation);

  std::unique_ptr<Machine> steps_, interpreter_, translator_;
  NativeProcessor* native_ = nullptr;
  Count count_;
};

/// A program and where it runs.
struct Experiment {
  uint64_t seed = 0;
  Program program;
  std::vector<Situation> situations;
};

/// What is left when everything without which the last one differs as well is left out.
struct Reduced {
  bool differs = false;  ///< False: they do not on machines that are new.
  std::vector<Experiment> experiments;
  std::string differences;
};
/// Of experiments that were made one after the other on the same machines.
[[nodiscard]] Reduced reduce(std::span<const Experiment> experiments, NativeProcessor* native);

/// For people: the situation's registers and pages.
[[nodiscard]] std::string describe(const Situation& situation);

}  // namespace limen::conformance
