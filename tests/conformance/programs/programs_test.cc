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
#include "x86/registers.h"

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
  void create_native();
  void run_all(bool supervisor, bool code32 = false);
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

void Programs::run_all(bool supervisor, bool code32) {
  const uint64_t count = setting("LIMEN_CONFORMANCE_PROGRAMS", kDefaultPrograms);
  const uint64_t first = setting("LIMEN_CONFORMANCE_SEED", 1);
  std::unique_ptr<Laboratory> laboratory;
  std::vector<Experiment> experiments;  // on those machines
  Laboratory::Count total;
  const auto add = [&] {
    if (laboratory) total += laboratory->count();
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
    Experiment experiment{.seed = first + i,
                          .program = Generator(random, supervisor, code32).generate(),
                          .situations = {}};
    experiment.situations = make_situations(experiment.program, random, 4 + random.below(6));
    const auto verdict = laboratory->compare(experiment.program, experiment.situations);
    experiments.push_back(std::move(experiment));
    if (!verdict.differences.empty()) fail(experiments, verdict.differences);
  }
  add();
  fmt::print("{}\n", total.text());
}

void Programs::create_native() {
  if ((getauxval(AT_HWCAP2) & kHwcap2Fsgsbase) == 0) return;
  auto native = NativeProcessor::create();
  ASSERT_TRUE(native.has_value()) << native.error().message;
  native_ = std::move(*native);
}

TEST_F(Programs, OfUsersAgree) {
  create_native();
  run_all(false);
}

TEST_F(Programs, OfKernelsAgree) { run_all(true); }

TEST_F(Programs, OfUsersIn32BitCodeAgree) {
  create_native();
  run_all(false, true);
}

TEST_F(Programs, OfKernelsIn32BitCodeAgree) { run_all(true, true); }

// What random programs found once.
struct Found {
  const char* name;
  std::vector<uint8_t> code;
  uint64_t flags = x86::rflags::kAlwaysSet | x86::rflags::kInterrupt;
  std::array<uint64_t, 16> gpr{};
};

constexpr uint64_t kStack = kDataAddress + kPage;

const std::array kFound = {
    // MOV ECX, 8; REP MOVSB: bytes are aligned wherever they are.
    Found{.name = "REP MOVSB while alignment is checked",
          .code = {0xB9, 8, 0, 0, 0, 0xF3, 0xA4},
          .flags = 0x40202,
          .gpr = {0, 0, 0, 0, kStack, 0, kDataAddress + 0x13, kStack + 0x31}},
    // CMPXCHG16B [RBP - 0x20]
    Found{.name = "CMPXCHG16B of an address neither aligned nor canonical",
          .code = {0x48, 0x0F, 0xC7, 0x4D, 0xE0},
          .gpr = {0, 0, 0, 0, kStack, 0x22F1'3385'6C1D'AC7C}},
    // CALL f; PUSHF; POP RBX; INT3; f: CMP ECX, EDX; RET: twice
    Found{.name = "flags across a return that is looked up",
          .code = {0xE8, 3, 0, 0, 0, 0x9C, 0x5B, 0xCC, 0x39, 0xD1, 0xC3},
          .gpr = {0, 5, 9, 0, kStack}},
    // MOV [RBX], RAX; MOV [RDX], RCX; MOV [RDX + 8], RCX; MOV [RBX + 8], RAX; ADD EAX, 1; PUSH RAX;
    // MOV [RBX + 16], RAX: R11 holds what leads to [RBX] when the stack's page is not found.
    Found{.name = "a stack's page that is not found between two accesses of one window",
          .code = {0x48, 0x89, 0x03, 0x48, 0x89, 0x0A, 0x48, 0x89, 0x4A, 0x08, 0x48,
                   0x89, 0x43, 0x08, 0x83, 0xC0, 0x01, 0x50, 0x48, 0x89, 0x43, 0x10},
          .gpr = {1, 2, kDataAddress + 0x100, kDataAddress + 0x40, kStack}},
};

TEST_F(Programs, FoundBeforeAgree) {
  create_native();
  for (const Found& found : kFound) {
    Experiment experiment;
    Piece piece;
    piece.size = static_cast<uint8_t>(found.code.size());
    std::ranges::copy(found.code, piece.bytes.begin());
    experiment.program.pieces.push_back(piece);
    Random random(1);
    experiment.situations = make_situations(experiment.program, random, 1);
    Situation& situation = experiment.situations.front();
    situation.before.gpr = found.gpr;
    situation.before.rflags = found.flags;
    experiment.situations.push_back(situation);
    auto laboratory = Laboratory::create(native_.get());
    ASSERT_TRUE(laboratory.has_value()) << laboratory.error().message;
    EXPECT_EQ((*laboratory)->compare(experiment.program, experiment.situations).differences, "")
        << found.name;
    EXPECT_EQ((*laboratory)->count().runs, 2u) << found.name;
  }
}

}  // namespace
}  // namespace limen::conformance
