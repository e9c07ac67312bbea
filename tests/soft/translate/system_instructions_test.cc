// What translated code does by itself must be what the interpreter does.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "soft/system/guest.h"

namespace limen::soft::testing {
namespace {

/// The first quadword of RAM in which the two differ, or nothing.
std::optional<uint64_t> difference(const Guest& a, const Guest& b) {
  constexpr uint64_t kSize = 4 << 20;
  const auto one = a.ram->span({0}, kSize);
  const auto other = b.ram->span({0}, kSize);
  const auto at = std::ranges::mismatch(one, other).in1 - one.begin();
  if (static_cast<uint64_t>(at) == kSize) return std::nullopt;
  return static_cast<uint64_t>(at) & ~uint64_t{7};
}

class EveryProgram : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryProgram, LeavesTheSameBehindOnBothTiers) {
  Guest interpreter(Tier::kInterpreter);
  Guest translator(Tier::kTranslator);
  for (Guest* guest : {&interpreter, &translator}) {
    guest->load_program(GetParam());
    if (std::string_view(GetParam()) == "shadow") guest->interrupts.vectors = {64, 64, 64, 64};
    (void)guest->run();
  }
  EXPECT_EQ(interpreter.triple_fault, translator.triple_fault);
  const auto place = difference(interpreter, translator);
  EXPECT_FALSE(place.has_value()) << std::hex << "at " << *place << ": " << interpreter.load(*place)
                                  << " and " << translator.load(*place);
  const x86::CpuState a = interpreter.cpu->state();
  const x86::CpuState b = translator.cpu->state();
  EXPECT_EQ(a.gpr, b.gpr);
  EXPECT_EQ(a.rip, b.rip);
  EXPECT_EQ(a.rflags, b.rflags);
  EXPECT_EQ(a.vector.zmm, b.vector.zmm);
  EXPECT_EQ(a.vector.fxsave, b.vector.fxsave);
  EXPECT_EQ(std::memcmp(&a.system, &b.system, sizeof a.system), 0);
}

INSTANTIATE_TEST_SUITE_P(Programs, EveryProgram,
                         ::testing::Values("system_instructions", "system_loop",
                                           "flags_across_jumps", "code32", "code32_loop", "x87",
                                           "x87_loop", "long", "modes", "rings", "shadow",
                                           "stepped_syscall", "sysenter", "debug", "tasks",
                                           "virtual8086"),
                         [](const auto& program) { return std::string(program.param); });

TEST(SystemInstructions, ProgramsRunToTheirEnd) {
  for (const char* name : {"system_instructions", "x87"}) {
    Guest guest(Tier::kTranslator);
    guest.load_program(name);
    EXPECT_TRUE(guest.run()) << name;
    EXPECT_EQ(guest.cpu->gpr[x86::kR13], 0u) << name;
  }
}

TEST(SystemInstructions, StayInTranslatedCode) {
  Guest guest(Tier::kTranslator);
  guest.load_program("system_loop");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 1000u) << "page faults";
  EXPECT_EQ(guest.result(1), 1000u) << "system calls";
  // What leads from real mode to the loop, and where a page of code was met for the first time.
  EXPECT_LT(guest.interpreted, 100u);
}

TEST(Code32, WrapsAroundAndIsNotTakenFor64BitCode) {
  Guest guest(Tier::kTranslator);
  guest.load_program("code32");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 600u) << "registers beyond the end of addresses";
  EXPECT_EQ(guest.result(1), 7u) << "a stack at address 0";
  EXPECT_EQ(guest.result(2), 16u);
  EXPECT_EQ(guest.result(3), 0u) << "EDI";
  EXPECT_EQ(guest.result(4), 1000u) << "INC EAX, which is REX in 64-bit code";
}

TEST(Code32, StaysInTranslatedCode) {
  Guest guest(Tier::kTranslator);
  guest.load_program("code32_loop");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 1000u);
  EXPECT_EQ(guest.result(1), 500u);
  EXPECT_LT(guest.interpreted, 100u);
}

TEST(JumpTables, RememberTwoBlocksOfOneSlot) {
  Guest guest(Tier::kTranslator);
  guest.load_program("same_slot");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 1000u);
  EXPECT_EQ(guest.result(1), 2000u);
  EXPECT_LT(guest.quick_lookups, 20u);
}

TEST(X87Instructions, StayInTranslatedCode) {
  Guest guest(Tier::kTranslator);
  guest.load_program("x87_loop");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 3000u);
  EXPECT_LT(guest.interpreted, 100u);
}

TEST(X87Instructions, FindTheirStateAfterALookForInterrupts) {
  Guest guest(Tier::kTranslator);
  guest.load_program("x87_poll");
  const std::jthread other([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      guest.cpu->attention.call();
      std::this_thread::yield();
    }
  });
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 9'000'000u);
  EXPECT_EQ(guest.result(1), 1'000'000u) << "where it looks for the stack's page";
}

}  // namespace
}  // namespace limen::soft::testing
