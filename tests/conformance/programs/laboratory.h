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

  /// One situation after the other, on the same machines. `any`: the program may do what is not
  /// defined; where it did, nothing is compared.
  Verdict compare(const Program& program, std::span<const Situation> situations, bool any = false);

  /// What has been compared: runs in both tiers, those of them that ended with a fault, those that
  /// were made on the processor, too.
  struct Count {
    uint64_t programs = 0, runs = 0, instructions = 0, faulted = 0, native = 0;
    uint64_t endless = 0;     ///< Runs that were given up, and not compared.
    uint64_t flags_lost = 0;  ///< Differences as in docs/engine.md, of programs that change.

    Count& operator+=(const Count& other);
    [[nodiscard]] std::string text() const;
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
