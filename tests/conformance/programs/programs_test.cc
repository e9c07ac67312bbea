// Random programs in the interpreter, in the translator and, where what they do is defined, on the
// processor itself.
//
// Environment: LIMEN_CONFORMANCE_PROGRAMS (how many), LIMEN_CONFORMANCE_SEED (of the first).
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>

#include <cstdlib>

#include "conformance/programs/generator.h"
#include "conformance/programs/laboratory.h"
#include "conformance/programs/situation_maker.h"

namespace limen::conformance {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr uint64_t kDefaultPrograms = 100;
#else
constexpr uint64_t kDefaultPrograms = 1000;
#endif
/// Programs that run on the same machines, one after the other.
constexpr uint64_t kProgramsPerMachine = 50;
constexpr unsigned kFailuresToShow = 3;
constexpr unsigned long kHwcap2Fsgsbase = 2;

uint64_t setting(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

class Programs : public testing::Test {
 protected:
  void run_all(bool supervisor);
  void fail(const std::vector<Experiment>& experiments, const std::string& differences);

  std::unique_ptr<NativeProcessor> native_;
  unsigned failures_ = 0;
};

void Programs::fail(const std::vector<Experiment>& experiments, const std::string& differences) {
  ++failures_;
  const Reduced reduced = reduce(experiments, native_.get());
  if (!reduced.differs) {
    ADD_FAILURE() << "seeds " << experiments.front().seed << " to " << experiments.back().seed
                  << ", and not a second time:\n"
                  << experiments.back().program.listing() << differences;
    return;
  }
  std::string text;
  for (const Experiment& experiment : reduced.experiments) {
    text += fmt::format("seed {}, reduced:\n{}", experiment.seed, experiment.program.listing());
    for (const Situation& situation : experiment.situations) text += describe(situation);
  }
  ADD_FAILURE() << text << reduced.differences;
}

void Programs::run_all(bool supervisor) {
  const uint64_t count = setting("LIMEN_CONFORMANCE_PROGRAMS", kDefaultPrograms);
  const uint64_t first = setting("LIMEN_CONFORMANCE_SEED", 1);
  std::unique_ptr<Laboratory> laboratory;
  std::vector<Experiment> experiments;  // on those machines
  Laboratory::Count total;
  const auto add = [&] {
    if (!laboratory) return;
    const auto& part = laboratory->count();
    total = {total.programs + part.programs, total.endless + part.endless,
             total.runs + part.runs,         total.native + part.native,
             total.faulted + part.faulted,   total.flags_lost + part.flags_lost};
  };
  for (uint64_t i = 0; i < count && failures_ < kFailuresToShow; ++i) {
    if (i % kProgramsPerMachine == 0) {
      add();
      auto created = Laboratory::create(native_.get());
      ASSERT_TRUE(created.has_value()) << created.error().message;
      laboratory = std::move(*created);
      experiments.clear();
    }
    Random random(first + i);
    Experiment experiment{
        .seed = first + i, .program = Generator(random, supervisor).generate(), .situations = {}};
    experiment.situations = make_situations(experiment.program, random);
    const auto verdict = laboratory->compare(experiment.program, experiment.situations);
    experiments.push_back(std::move(experiment));
    if (!verdict.differences.empty()) fail(experiments, verdict.differences);
  }
  add();
  fmt::print(
      "{} programs, {} runs, {} of them faulted, {} on the processor; {} without an end, {} read "
      "flags that only their changed code reads\n",
      total.programs, total.runs, total.faulted, total.native, total.endless, total.flags_lost);
}

TEST_F(Programs, OfUsersAgree) {
  if ((getauxval(AT_HWCAP2) & kHwcap2Fsgsbase) != 0) {
    auto native = NativeProcessor::create();
    ASSERT_TRUE(native.has_value()) << native.error().message;
    native_ = std::move(*native);
  }
  run_all(false);
}

TEST_F(Programs, OfKernelsAgree) { run_all(true); }

}  // namespace
}  // namespace limen::conformance
