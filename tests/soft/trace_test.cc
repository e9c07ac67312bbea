#include "soft/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "soft/interpret/runner.h"
#include "soft/system/guest.h"

namespace limen::soft::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

std::string contents(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class TraceTest : public ::testing::Test {
 protected:
  ~TraceTest() override {
    std::filesystem::remove(path_);
    std::filesystem::remove(map_);
  }
  /// What is written while a small kernel takes system calls and page faults.
  std::string log_of(TraceOptions options, Tier tier) {
    options.file = path_;
    auto trace = Trace::create(options);
    EXPECT_TRUE(trace) << (trace ? "" : trace.error().message);
    Guest guest(tier);
    guest.cpu->trace = trace->get();
    guest.cpu->traces_interrupts = options.interrupts;
    guest.load_program("system_loop");
    EXPECT_TRUE(guest.run());
    faults_ = guest.result(0);
    return contents(path_);
  }

  std::string path_ = std::filesystem::temp_directory_path() /
                      ("limen-trace-" + std::to_string(::getpid()) + ".log");
  std::string map_ = "/tmp/perf-" + std::to_string(::getpid()) + ".map";
  uint64_t faults_ = 0;
};

TEST_F(TraceTest, InAsmShowsGuestCodeByAddress) {
  const std::string log = log_of({.in_asm = true}, Tier::kTranslator);
  EXPECT_THAT(log, ContainsRegex("\nIN: kernel\n0x[0-9a-f]{16}:  [0-9a-f]{2} "));
  EXPECT_THAT(log, HasSubstr("\nIN: user\n"));
  EXPECT_THAT(log, ContainsRegex("0x[0-9a-f]{16}:  0f 05 +syscall\n"));
  EXPECT_THAT(log, ContainsRegex("48 0f 22 d8|0f 22 d8 +mov cr3, rax\n"));
  EXPECT_THAT(log, Not(HasSubstr("OUT:")));
}

TEST_F(TraceTest, InAsmShowsWhatTheInterpreterDecodes) {
  const std::string log = log_of({.in_asm = true}, Tier::kInterpreter);
  EXPECT_THAT(log, ContainsRegex("IN: \\(interpreted\\)\n0x0000000000001000:  "));
  EXPECT_THAT(log, ContainsRegex("0f 05 +syscall\n"));
}

TEST_F(TraceTest, OutAsmShowsHostCodeWithItsSize) {
  const std::string log = log_of({.out_asm = true}, Tier::kTranslator);
  EXPECT_THAT(log, ContainsRegex("OUT: \\[size=[1-9][0-9]*\\] for 0x[0-9a-f]{16}\n"
                                 "0x[0-9a-f]{16}:  "));
  EXPECT_THAT(log, ContainsRegex("bytes of data"));
  EXPECT_THAT(log, Not(HasSubstr("IN:")));
}

TEST_F(TraceTest, InterruptsShowVectorErrorCodeAndAddress) {
  for (const Tier tier : {Tier::kInterpreter, Tier::kTranslator}) {
    const std::string log = log_of({.interrupts = true}, tier);
    EXPECT_THAT(log, ContainsRegex(" +0: v=0e e=0004 i=0 cpl=3 IP=[0-9a-f]{4}:[0-9a-f]{16} "
                                   "pc=[0-9a-f]{16} SP=[0-9a-f]{4}:[0-9a-f]{16} "
                                   "CR2=[0-9a-f]{13}000\n"));
    EXPECT_EQ(static_cast<uint64_t>(std::ranges::count(log, '\n')), faults_);
    EXPECT_GE(faults_, 1000u);
  }
}

TEST_F(TraceTest, PerfMapNamesBlocksByAddressAndRing) {
  log_of({.perf_map = true}, Tier::kTranslator);
  const std::string map = contents(map_);
  EXPECT_THAT(map, ContainsRegex("(^|\n)[0-9a-f]+ [0-9a-f]+ guest-user:0x[0-9a-f]+\n"));
  EXPECT_THAT(map, ContainsRegex("\n[0-9a-f]+ [0-9a-f]+ guest-kernel:0x[0-9a-f]+\n"));
}

TEST_F(TraceTest, FileThatCannotBeWrittenIsAnError) {
  const auto trace = Trace::create({.in_asm = true, .file = "/nowhere/at/all"});
  ASSERT_FALSE(trace);
  EXPECT_THAT(trace.error().message, HasSubstr("cannot write '/nowhere/at/all'"));
}

TEST(Statistics, CountWhatLeavesTheGuest) {
  Guest guest;
  guest.load_program("system_loop");
  interpret::Runner runner(*guest.cpu, 1'000'000'000, size_t{4} << 20);
  guest.port_log.on_write = [&](uint64_t port) {
    if (port == Guest::kExitPort) runner.kick();
  };
  runner.run();
  EXPECT_GT(guest.cpu->mmu.tlb_fills().data, 0u);
  EXPECT_GT(guest.cpu->mmu.tlb_fills().fetch, 0u);
  EXPECT_THAT(runner.report(), ContainsRegex("TLB misses: [1-9][0-9]* data, [1-9][0-9]* fetch"));
  const auto& statistics = runner.translator()->statistics();
  EXPECT_GT(statistics.cycles, 0u);
  EXPECT_THAT(runner.translator()->report(), HasSubstr("MB of guest code a second"));
  EXPECT_GT(runner.translator()->cache().resident_bytes(), statistics.host_bytes);
}

}  // namespace
}  // namespace limen::soft::testing
