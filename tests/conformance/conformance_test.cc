// The interpreter against the processor itself: every instruction form that the decoder's tables
// know, with random state, run natively in a child and in the software engine.
//
// Environment: LIMEN_CONFORMANCE_TRIALS (per form), LIMEN_CONFORMANCE_SEED, LIMEN_CONFORMANCE_FORM
// (a part of the names of the forms to run), LIMEN_CONFORMANCE_STRICT (compare undefined flags
// too), LIMEN_CONFORMANCE_SHOW (mismatches to print), LIMEN_CONFORMANCE_TRACE (print each trial
// first).
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <string>

#include "conformance/compare.h"
#include "conformance/form.h"
#include "conformance/native_processor.h"
#include "conformance/not_covered.h"
#include "conformance/soft_processor.h"
#include "conformance/trial_maker.h"
#include "x86/exception.h"
#include "x86/registers.h"

namespace limen::conformance {
namespace {

constexpr unsigned kDefaultTrials = 16;
constexpr unsigned kMismatchesToShow = 20;
/// How often the host is asked again before a mismatch counts: some hosts lose the x87's pointers
/// when they switch tasks.
constexpr unsigned kHostRepeats = 3;
constexpr uint8_t kInvalidOpcode = 6;
constexpr uint8_t kPageFault = 14;
constexpr unsigned long kHwcap2Fsgsbase = 2;

/// Where an ordinary process has nothing mapped, and a sanitized one AddressSanitizer's shadow: a
/// trial that is to fault there does not fault natively.
constexpr bool is_sanitizer_shadow([[maybe_unused]] uint64_t address) {
#ifdef __SANITIZE_ADDRESS__
  constexpr uint64_t kShadow = 0x7FFF'8000, kShadowEnd = 0x1000'7FFF'8000;
  return address >= kShadow && address < kShadowEnd;
#else
  return false;
#endif
}

uint64_t setting(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

std::set<std::string> not_covered() {
  auto names = read_not_covered(LIMEN_CONFORMANCE_DIRECTORY "/not_covered.md");
  EXPECT_TRUE(names.has_value()) << names.error().message;
  return names.value_or(std::set<std::string>{});
}

/// The forms of a section that are to be run.
std::vector<Form> covered_forms(const Section& section) {
  const auto left_out = not_covered();
  const char* filter = std::getenv("LIMEN_CONFORMANCE_FORM");
  auto forms = enumerate_forms(section);
  std::erase_if(forms, [&](const Form& form) {
    return left_out.contains(ZydisMnemonicGetString(form.mnemonic)) ||
           (filter != nullptr && form.name.find(filter) == std::string::npos);
  });
  return forms;
}

void make_batch(const Form& form, unsigned count, Random& random, Batch& batch) {
  make_image(form, random, batch.image);
  batch.count = count;
  for (unsigned i = 0; i < count; ++i) make_trial(form, batch.image, random, batch.trials[i]);
}

class Conformance : public testing::TestWithParam<Section> {
 protected:
  void SetUp() override {
    if ((getauxval(AT_HWCAP2) & kHwcap2Fsgsbase) == 0)
      GTEST_SKIP() << "the host's kernel does not let programs write the FS base";
    auto native = NativeProcessor::create();
    ASSERT_TRUE(native.has_value()) << native.error().message;
    native_ = std::move(*native);
  }

  void compare_all(SoftProcessor::Tier tier);

  /// Runs one batch on both sides; returns the number of trials that the host did not refuse.
  unsigned run_batch(const Form& form, SoftProcessor& soft) {
    const Batch& batch = native_->batch();
    EXPECT_TRUE(native_->start().has_value());
    for (unsigned i = 0; i < batch.count; ++i) {
      if (trace_) announce(form, batch.trials[i]);
      soft.run(batch.trials[i], batch.image, soft_outcomes_[i]);
    }
    EXPECT_TRUE(native_->finish().has_value());
    unsigned accepted = 0;
    for (const Outcome& expected : native_->outcomes().first(batch.count))
      if (!expected.ran || expected.vector != kInvalidOpcode) ++accepted;
    auto mismatches = compare_batch();
    for (unsigned again = 0; again < kHostRepeats && !mismatches.empty(); ++again) {
      EXPECT_TRUE(native_->start().has_value() && native_->finish().has_value());
      auto still = compare_batch();
      std::erase_if(still, [&](const auto& trial) { return !mismatches.contains(trial.first); });
      mismatches = std::move(still);
    }
    for (const auto& [index, text] : mismatches) report(form, batch.trials[index], text);
    return accepted;
  }

  /// The trials of the batch whose outcomes differ, and how.
  std::map<unsigned, std::string> compare_batch() {
    const Batch& batch = native_->batch();
    std::map<unsigned, std::string> mismatches;
    for (unsigned i = 0; i < batch.count; ++i) {
      const Outcome& expected = native_->outcomes()[i];
      Outcome got = soft_outcomes_[i];
      if (got.vector == kPageFault && is_sanitizer_shadow(got.fault_address)) continue;
      if (is_fault(expected.vector) && tier_ == SoftProcessor::Tier::kTranslator)
        forget_flags(expected, got);
      const Trial& trial = batch.trials[i];
      soft::decode::Instruction instruction;
      decode(GetParam().mode, {trial.code.data(), trial.code_size}, instruction);
      std::string text = differences(instruction, trial, expected, got, strict_);
      if (!text.empty()) mismatches.emplace(i, std::move(text));
    }
    return mismatches;
  }

  /// Where an instruction that overwrites flags faults, translated code may have lost them already
  /// (docs/engine.md).
  static void forget_flags(const Outcome& expected, Outcome& got) {
    constexpr uint64_t kArithmetic = x86::rflags::kArithmetic;
    got.after.rflags = (got.after.rflags & ~kArithmetic) | (expected.after.rflags & kArithmetic);
  }
  static bool is_fault(uint8_t vector) {
    return vector != static_cast<uint8_t>(x86::Vector::kDebug) &&
           vector != static_cast<uint8_t>(x86::Vector::kBreakpoint);
  }

  /// For the trial after which nothing more is said.
  void announce(const Form& form, const Trial& trial) const {
    soft::decode::Instruction instruction;
    decode(GetParam().mode, {trial.code.data(), trial.code_size}, instruction);
    fmt::print(stderr, "{}\n{}", form.name, describe(instruction, trial));
  }

  void report(const Form& form, const Trial& trial, const std::string& text) {
    ++mismatches_;
    if (!mismatched_forms_.insert(form.name).second || mismatched_forms_.size() > to_show_) return;
    soft::decode::Instruction instruction;
    decode(GetParam().mode, {trial.code.data(), trial.code_size}, instruction);
    ADD_FAILURE() << form.name << "\n" << describe(instruction, trial) << text;
  }

  std::unique_ptr<NativeProcessor> native_;
  std::array<Outcome, kBatchSize> soft_outcomes_;
  const bool strict_ = setting("LIMEN_CONFORMANCE_STRICT", 0) != 0;
  const uint64_t to_show_ = setting("LIMEN_CONFORMANCE_SHOW", kMismatchesToShow);
  const bool trace_ = setting("LIMEN_CONFORMANCE_TRACE", 0) != 0;
  SoftProcessor::Tier tier_ = SoftProcessor::Tier::kInterpreter;
  uint64_t mismatches_ = 0;
  std::set<std::string> mismatched_forms_;
};

void Conformance::compare_all(SoftProcessor::Tier tier) {
  tier_ = tier;
  auto soft = SoftProcessor::create(native_->read_only_page(), tier);
  ASSERT_TRUE(soft.has_value()) << soft.error().message;
  const auto trials = static_cast<unsigned>(setting("LIMEN_CONFORMANCE_TRIALS", kDefaultTrials));
  const uint64_t seed = setting("LIMEN_CONFORMANCE_SEED", 1);
  const auto forms = covered_forms(GetParam());
  size_t on_host = 0;
  for (const Form& form : forms) {
    Random random(form.key ^ seed);
    unsigned accepted = 0;
    for (unsigned done = 0; done < trials; done += kBatchSize) {
      make_batch(form, std::min(kBatchSize, trials - done), random, native_->batch());
      accepted += run_batch(form, **soft);
    }
    if (accepted != 0) ++on_host;
  }
  fmt::print("{}: {} forms, {} of them on this host, {} trials each, {} mismatches in {} forms\n",
             GetParam().name, forms.size(), on_host, trials, mismatches_, mismatched_forms_.size());
  EXPECT_EQ(mismatches_, 0u) << mismatched_forms_.size() << " forms differ";
}

TEST_P(Conformance, InterpreterAgreesWithTheProcessor) {
  compare_all(SoftProcessor::Tier::kInterpreter);
}

TEST_P(Conformance, TranslatorAgreesWithTheProcessor) {
  if (GetParam().mode == soft::decode::CodeMode::k16)
    GTEST_SKIP() << "the translator takes 64-bit and 32-bit code";
  compare_all(SoftProcessor::Tier::kTranslator);
}

INSTANTIATE_TEST_SUITE_P(Sections, Conformance, testing::ValuesIn(sections()),
                         [](const auto& section) { return std::string(section.param.name); });

TEST(ConformanceForms, AtLeastThreeThousandAreRunByTheHost) {
  if ((getauxval(AT_HWCAP2) & kHwcap2Fsgsbase) == 0) GTEST_SKIP();
  auto native = NativeProcessor::create();
  ASSERT_TRUE(native.has_value()) << native.error().message;
  size_t total = 0;
  for (const Section& section : sections()) {
    if (section.mode != soft::decode::CodeMode::k64) continue;
    size_t on_host = 0;
    for (const Form& form : covered_forms(section)) {
      Random random(form.key);
      make_batch(form, 4, random, (*native)->batch());
      ASSERT_TRUE((*native)->start().has_value() && (*native)->finish().has_value());
      on_host += std::ranges::any_of((*native)->outcomes(), [](const Outcome& outcome) {
        return outcome.ran && outcome.vector != kInvalidOpcode;
      });
    }
    total += on_host;
  }
  fmt::print("{} forms of 64-bit mode run on this host\n", total);
  EXPECT_GE(total, 3000u);
}

TEST(ConformanceForms, EveryMnemonicOfTheDecoderIsWalkedOrListed) {
  std::set<std::string> walked;
  for (const Section& section : sections())
    for (const Form& form : enumerate_forms(section))
      walked.insert(ZydisMnemonicGetString(form.mnemonic));
  const auto listed = not_covered();
  std::set<std::string> known;
  for (int value = ZYDIS_MNEMONIC_INVALID + 1; value <= ZYDIS_MNEMONIC_MAX_VALUE; ++value) {
    const std::string name = ZydisMnemonicGetString(static_cast<ZydisMnemonic>(value));
    known.insert(name);
    EXPECT_TRUE(walked.contains(name) || listed.contains(name)) << name;
  }
  for (const std::string& name : listed) EXPECT_TRUE(known.contains(name)) << name;
}

TEST(NativeProcessor, GivesTheSameAnswerTwice) {
  if ((getauxval(AT_HWCAP2) & kHwcap2Fsgsbase) == 0) GTEST_SKIP();
  auto native = NativeProcessor::create();
  ASSERT_TRUE(native.has_value()) << native.error().message;
  for (const Form& form : covered_forms(sections()[0])) {
    Random random(form.key);
    make_batch(form, 2, random, (*native)->batch());
    ASSERT_TRUE((*native)->start().has_value() && (*native)->finish().has_value());
    std::vector<Outcome> first((*native)->outcomes().begin(), (*native)->outcomes().end());
    // Some hosts lose the x87's pointers when they switch tasks: an answer may differ by that once,
    // but not from each run to the next.
    std::string different = "not run";
    for (unsigned attempt = 0; attempt < 5 && !different.empty(); ++attempt) {
      different.clear();
      ASSERT_TRUE((*native)->start().has_value() && (*native)->finish().has_value());
      for (size_t i = 0; i < first.size(); ++i) {
        const Trial& trial = (*native)->batch().trials[i];
        soft::decode::Instruction instruction;
        decode(sections()[0].mode, {trial.code.data(), trial.code_size}, instruction);
        const auto found =
            differences(instruction, trial, first[i], (*native)->outcomes()[i], true);
        if (!found.empty()) different += describe(instruction, trial) + found;
      }
      first.assign((*native)->outcomes().begin(), (*native)->outcomes().end());
    }
    EXPECT_EQ(different, "");
  }
}

}  // namespace
}  // namespace limen::conformance
