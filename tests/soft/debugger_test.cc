// What a debugger asks of the engine: steps, breakpoints, watchpoints, on both tiers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "soft/interpret/runner.h"
#include "soft/system/guest.h"

namespace limen::soft::testing {
namespace {

using vcpu::DebugStop;
using vcpu::ExitReason;
using vcpu::WatchKind;
using Cause = DebugStop::Cause;

constexpr uint64_t kTscFrequency = 1'000'000'000;  // no timer runs: any value does
constexpr uint64_t kHandler = 0x2000;

class Debugging : public OnEachTier {
 protected:
  void start(unsigned cpl, std::initializer_list<uint8_t> code) {
    guest_.enter_long_mode(cpl);
    guest_.cpu->flags_rest |= x86::rflags::kIopl;  // OUT works everywhere
    ASSERT_TRUE(
        guest_.ram->write({Guest::kEntry}, std::as_bytes(std::span(code.begin(), code.size()))));
    guest_.set_descriptor(0x08, uint64_t{0x00209B00} << 32);
    // Vector 40H leads to NOPs.
    guest_.store(Guest::kIdt + 0x40 * 16, make_gate(0x08, kHandler, 0x8E));
    guest_.store(Guest::kIdt + 0x40 * 16 + 8, 0);
    guest_.store(kHandler, 0x9090909090909090);
    make_runner();
  }
  void make_runner() {
    runner_ = std::make_unique<interpret::Runner>(
        *guest_.cpu, kTscFrequency, GetParam() == Tier::kTranslator ? size_t{4} << 20 : 0);
    guest_.port_log.on_write = [this](uint64_t port) {
      if (port == Guest::kExitPort) runner_->kick();
    };
  }
  vcpu::Exit run(const vcpu::DebugRequest& request) {
    guest_.cpu->set_debug(request);
    return runner_->run();
  }
  vcpu::Exit step(bool hold_interrupts = true) {
    return run({.single_step = true, .hold_interrupts = hold_interrupts});
  }
  /// Steps, expecting these addresses.
  void expect_steps(std::initializer_list<uint64_t> addresses) {
    for (const uint64_t address : addresses) {
      const auto exit = step();
      ASSERT_EQ(exit.reason, ExitReason::kDebug);
      EXPECT_EQ(exit.debug.cause, Cause::kStep);
      ASSERT_EQ(rip(), address);
    }
  }
  void expect_stop(const vcpu::Exit& exit, Cause cause, uint64_t address, uint64_t at) {
    ASSERT_EQ(exit.reason, ExitReason::kDebug);
    EXPECT_EQ(exit.debug.cause, cause);
    EXPECT_EQ(exit.debug.address, address);
    EXPECT_EQ(rip(), at);
  }
  uint64_t rip() const { return guest_.cpu->rip; }
  uint32_t eax() const { return static_cast<uint32_t>(guest_.cpu->gpr[x86::kRax]); }

  Guest guest_{GetParam()};
  std::unique_ptr<interpret::Runner> runner_;
};

TEST_P(Debugging, StepsThroughEveryInstruction) {
  start(0, {0xB8, 5,    0,    0, 0,           // 1000: mov eax, 5
            0x48, 0xC7, 0xC7, 0, 0x80, 0, 0,  // 1005: mov rdi, 8000H
            0xB9, 3,    0,    0, 0,           // 100C: mov ecx, 3
            0xF3, 0xAA,                       // 1011: rep stosb
            0x50, 0x5A,                       // 1013: push rax; pop rdx
            0xFF, 0xC0,                       // 1015: inc eax
            0x83, 0xF8, 7,                    // 1017: cmp eax, 7
            0x75, 0xF9,                       // 101A: jne 1015
            0xEB, 0xFE});                     // 101C: jmp 101C
  // A repeated instruction goes round by round, as with TF.
  expect_steps({0x1005, 0x100C, 0x1011, 0x1011, 0x1011, 0x1013, 0x1014, 0x1015, 0x1017, 0x101A,
                0x1015, 0x1017, 0x101A, 0x101C, 0x101C, 0x101C});
  EXPECT_EQ(eax(), 7u);
  EXPECT_EQ(guest_.cpu->gpr[x86::kRdx], 5u);
  EXPECT_EQ(guest_.load(0x8000) & 0xFFFFFF, 0x050505u);
}

TEST_P(Debugging, HoldsInterruptsBackWhileStepping) {
  start(0, {0xFB, 0x90, 0x90, 0xEB, 0xFC});  // sti; nop; nop; jmp to the first nop
  guest_.interrupts.vectors = {0x40};
  expect_steps({0x1001, 0x1002, 0x1003, 0x1001, 0x1002});
  EXPECT_EQ(guest_.interrupts.vectors.size(), 1u);
  // And takes them afterwards.
  expect_stop(run({.breakpoints = {kHandler}}), Cause::kBreakpoint, kHandler, kHandler);
}

TEST_P(Debugging, StepsIntoAHandlerWhereInterruptsAreNotHeld) {
  start(0, {0xFB, 0x90, 0x90, 0xEB, 0xFC});
  guest_.interrupts.vectors = {0x40};
  ASSERT_EQ(step(false).reason, ExitReason::kDebug);
  EXPECT_EQ(rip(), 0x1001u);
  ASSERT_EQ(step(false).reason, ExitReason::kDebug);
  EXPECT_EQ(rip(), 0x1002u) << "the shadow of STI";
  ASSERT_EQ(step(false).reason, ExitReason::kDebug);
  EXPECT_EQ(rip(), kHandler);
}

TEST_P(Debugging, StepsOverHaltOnceAnInterruptWaits) {
  start(0, {0xFB, 0xF4, 0x90});  // sti; hlt; nop
  expect_steps({0x1001, 0x1002});
  guest_.interrupts.vectors = {0x40};
  expect_steps({0x1003});
  EXPECT_EQ(guest_.interrupts.vectors.size(), 1u);
}

TEST_P(Debugging, StepEndsAtTheHandlerOfAnException) {
  start(0, {0x0F, 0x0B});  // ud2
  guest_.store(Guest::kIdt + 6 * 16, make_gate(0x08, kHandler, 0x8E));
  expect_steps({kHandler, kHandler + 1});
}

TEST_P(Debugging, StopsAtBreakpointsInCodeThatRanBefore) {
  for (const unsigned cpl : {0u, 3u}) {
    for (const bool hardware : {false, true}) {
      start(cpl, {0x31, 0xC0,              // 1000: xor eax, eax
                  0xB9, 0x40, 0x0D, 3, 0,  // 1002: mov ecx, 200000
                  0xFF, 0xC0,              // 1007: inc eax
                  0x01, 0xC2,              // 1009: add edx, eax
                  0xFF, 0xC9,              // 100B: dec ecx
                  0x75, 0xF8,              // 100D: jnz 1007
                  0xE6, Guest::kExitPort,  // 100F: out
                  0xEB, 0xED});            // 1011: jmp 1000
      guest_.cpu->rip = Guest::kEntry;
      ASSERT_EQ(run({}).reason, ExitReason::kInterrupted);
      ASSERT_EQ(rip(), 0x1011u);
      vcpu::DebugRequest request;
      (hardware ? request.hardware_breakpoints : request.breakpoints) = {0x1009};
      for (uint32_t round = 1; round < 4; ++round) {
        expect_stop(run(request), Cause::kBreakpoint, 0x1009, 0x1009);
        EXPECT_EQ(eax(), round);
        // Before the instruction, as often as one asks.
        expect_stop(run(request), Cause::kBreakpoint, 0x1009, 0x1009);
        expect_steps({0x100B});
      }
      ASSERT_EQ(run({}).reason, ExitReason::kInterrupted);
      EXPECT_EQ(eax(), 200000u);
    }
  }
}

TEST_P(Debugging, BreakpointsAddedOneByOneAllHold) {
  start(0, {0x90, 0x90, 0x90, 0x90, 0xE6, Guest::kExitPort, 0xEB, 0xF8});
  ASSERT_EQ(run({}).reason, ExitReason::kInterrupted);
  vcpu::DebugRequest request;
  for (const uint64_t address : {0x1002, 0x1000, 0x1003}) {
    request.breakpoints.push_back(address);
    std::vector<uint64_t> stops;
    for (size_t i = 0; i < request.breakpoints.size(); ++i) {
      const auto exit = run(request);
      if (exit.reason != ExitReason::kDebug) break;
      stops.push_back(exit.debug.address);
      ASSERT_EQ(step().reason, ExitReason::kDebug);
    }
    std::ranges::sort(stops);
    auto wanted = request.breakpoints;
    std::ranges::sort(wanted);
    EXPECT_EQ(stops, wanted);
    ASSERT_EQ(run({}).reason, ExitReason::kInterrupted);
  }
}

TEST_P(Debugging, BreakpointOfAnotherPageLeavesTheSameOffsetAlone) {
  start(3, {0x90, 0x90, 0xE6, Guest::kExitPort, 0xEB, 0xFA});
  const vcpu::DebugRequest request{.breakpoints = {0x5001}};
  EXPECT_EQ(run(request).reason, ExitReason::kInterrupted);
  EXPECT_EQ(rip(), 0x1004u);
}

TEST_P(Debugging, BreakpointAtAPageThatIsNotThereComesBeforeItsFault) {
  start(0, {0x48, 0xC7, 0xC0, 0, 0, 0, 0x40, 0xFF, 0xE0});  // mov rax, 40000000H; jmp rax
  expect_stop(run({.breakpoints = {0x40000000}}), Cause::kBreakpoint, 0x40000000, 0x40000000);
}

TEST_P(Debugging, MemoryShowsNoBreakpoint) {
  start(0, {0x8A, 0x04, 0x25, 0x07, 0x10, 0, 0,  // 1000: mov al, [1007H]
            0x90, 0xE6, Guest::kExitPort});      // 1007: nop; out
  expect_stop(run({.breakpoints = {0x1007}}), Cause::kBreakpoint, 0x1007, 0x1007);
  EXPECT_EQ(eax() & 0xFF, 0x90u);
}

class Watching : public Debugging {
 protected:
  void SetUp() override {
    start(0, {0x48, 0xC7,
              0xC7, 0,
              0x80, 0,
              0,  // 1000: mov rdi, 8000H
              0x48, 0x8B,
              0x47, 8,  // 1007: mov rax, [rdi + 8]
              0x48, 0x89,
              0x07,  // 100B: mov [rdi], rax
              0x48, 0xFF,
              0xC0,  // 100E: inc rax
              0x87, 0x47,
              0x10,                    // 1011: xchg [rdi + 16], eax
              0x50,                    // 1014: push rax
              0xE6, Guest::kExitPort,  // 1015: out
              0xEB, 0xE7});            // 1017: jmp 1000
    guest_.cpu->gpr[x86::kRsp] = 0x9000;
    ASSERT_EQ(run({}).reason, ExitReason::kInterrupted);  // everything is translated and mapped
  }
  vcpu::Exit watch(uint64_t address, uint64_t size, WatchKind kind) {
    return run({.watchpoints = {{.address = address, .size = size, .kind = kind}}});
  }
};

TEST_P(Watching, StopsBehindAWrite) {
  expect_stop(watch(0x8000, 8, WatchKind::kWrite), Cause::kWatchpoint, 0x8000, 0x100E);
  EXPECT_EQ(run({}).reason, ExitReason::kInterrupted);
  expect_stop(watch(0x8007, 1, WatchKind::kWrite), Cause::kWatchpoint, 0x8007, 0x100E);
}

TEST_P(Watching, StopsBehindARead) {
  const auto exit = watch(0x8008, 8, WatchKind::kRead);
  expect_stop(exit, Cause::kWatchpoint, 0x8008, 0x100B);
  EXPECT_EQ(exit.debug.watch, WatchKind::kRead);
}

TEST_P(Watching, TellsReadsAndWritesApart) {
  EXPECT_EQ(watch(0x8000, 8, WatchKind::kRead).reason, ExitReason::kInterrupted);
  EXPECT_EQ(watch(0x8008, 8, WatchKind::kWrite).reason, ExitReason::kInterrupted);
  const auto exit = watch(0x8000, 16, WatchKind::kAccess);
  expect_stop(exit, Cause::kWatchpoint, 0x8000, 0x100B);
  EXPECT_EQ(exit.debug.watch, WatchKind::kAccess);
}

TEST_P(Watching, SeesLockedAccessesAndTheStack) {
  expect_stop(watch(0x8010, 4, WatchKind::kWrite), Cause::kWatchpoint, 0x8010, 0x1014);
  const uint64_t stack = guest_.cpu->gpr[x86::kRsp] - 8;
  expect_stop(watch(stack, 8, WatchKind::kWrite), Cause::kWatchpoint, stack, 0x1015);
}

TEST_P(Watching, OtherAddressesOfThePageStopNothing) {
  EXPECT_EQ(watch(0x8100, 8, WatchKind::kAccess).reason, ExitReason::kInterrupted);
  EXPECT_EQ(watch(0x8018, 8, WatchKind::kAccess).reason, ExitReason::kInterrupted);
}

TEST_P(Watching, RangesReachOverPages) {
  expect_stop(watch(0x6000, 0x2001, WatchKind::kWrite), Cause::kWatchpoint, 0x6000, 0x100E);
}

TEST_P(Watching, StepsReportWhatTheyHit) {
  expect_stop(watch(0x8008, 8, WatchKind::kRead), Cause::kWatchpoint, 0x8008, 0x100B);
  const auto exit = run({.single_step = true, .watchpoints = {{.address = 0x8000, .size = 1}}});
  expect_stop(exit, Cause::kWatchpoint, 0x8000, 0x100E);
}

TEST_P(Watching, StopsAStringInstructionAtTheElement) {
  start(0, {0x48, 0xC7, 0xC7, 0, 0x80, 0, 0,  // 1000: mov rdi, 8000H
            0xB9, 16, 0, 0, 0,                // 1007: mov ecx, 16
            0xF3, 0xAA,                       // 100C: rep stosb
            0xE6, Guest::kExitPort});         // 100E: out
  guest_.cpu->rip = Guest::kEntry;
  ASSERT_EQ(run({}).reason, ExitReason::kInterrupted);
  guest_.cpu->rip = Guest::kEntry;
  expect_stop(watch(0x8004, 1, WatchKind::kWrite), Cause::kWatchpoint, 0x8004, 0x100C);
  EXPECT_EQ(guest_.cpu->gpr[x86::kRcx], 11u);
}

/// Single steps from start to end leave behind what running freely does: system calls, IRET, all
/// modes, interrupt shadows, page faults.
class SteppedProgram : public ::testing::TestWithParam<const char*> {};

TEST_P(SteppedProgram, LeavesTheSameBehind) {
  Guest free(Tier::kTranslator);
  Guest stepped(Tier::kInterpreter);
  for (Guest* guest : {&free, &stepped}) {
    guest->load_program(GetParam());
    if (std::string_view(GetParam()) == "shadow") guest->interrupts.vectors = {64, 64, 64, 64};
  }
  (void)free.run();
  interpret::Runner runner(*stepped.cpu, kTscFrequency, size_t{4} << 20);
  stepped.port_log.on_write = [&](uint64_t port) {
    if (port == Guest::kExitPort) runner.kick();
  };
  uint64_t steps = 0;
  vcpu::Exit exit{.reason = ExitReason::kDebug};
  while (exit.reason == ExitReason::kDebug) {
    stepped.cpu->set_debug({.single_step = true, .hold_interrupts = false});
    exit = runner.run();
    ASSERT_LT(++steps, 10'000'000u);
  }
  EXPECT_EQ(exit.reason == ExitReason::kShutdown, free.triple_fault);
  EXPECT_GT(steps, 40u);
  const x86::CpuState a = free.cpu->state();
  const x86::CpuState b = stepped.cpu->state();
  EXPECT_EQ(a.gpr, b.gpr);
  EXPECT_EQ(a.rip, b.rip);
  EXPECT_EQ(a.rflags, b.rflags);
  const auto one = free.ram->span({0}, 4 << 20);
  const auto other = stepped.ram->span({0}, 4 << 20);
  const auto at = std::ranges::mismatch(one, other).in1 - one.begin();
  EXPECT_EQ(at, 4 << 20) << "RAM differs there";
}

INSTANTIATE_TEST_SUITE_P(Programs, SteppedProgram,
                         ::testing::Values("system_instructions", "system_loop",
                                           "flags_across_jumps", "x87", "long", "modes", "rings",
                                           "shadow", "stepped_syscall", "sysenter", "debug",
                                           "tasks", "virtual8086"),
                         [](const auto& program) { return std::string(program.param); });
INSTANTIATE_TEST_SUITE_P(Tiers, Debugging, every_tier(), tier_name);
INSTANTIATE_TEST_SUITE_P(Tiers, Watching, every_tier(), tier_name);

}  // namespace
}  // namespace limen::soft::testing
