#include "gdb/session.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "gdb/register_table.h"
#include "gdb/scripted_target.h"

namespace limen::gdb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ScriptedTarget;
using ::testing::StartsWith;

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() {
    target_.stopped = [this] { session_.run_state_changed(machine::RunState::kPaused); };
  }
  void send(std::string_view bytes) {
    session_.receive({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  }
  /// What comes back, unframed; acknowledgements are checked and gone.
  std::string ask(std::string_view packet) {
    sent_.clear();
    send(frame(packet));
    return replies();
  }
  std::string replies() {
    std::string text, all;
    std::swap(text, sent_);
    PacketReader reader;
    std::span<const uint8_t> rest(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    while (!rest.empty()) {
      size_t used = 0;
      const auto event = reader.read(rest, used);
      rest = rest.subspan(used);
      if (!event) break;
      if (*event == PacketReader::Kind::kPacket) all += (all.empty() ? "" : "|") + reader.packet();
    }
    return all;
  }
  void debug_stop(unsigned processor, const vcpu::DebugStop& stop) {
    target_.runs = false;
    session_.debug_stopped(processor, stop);
  }

  ScriptedTarget target_;
  std::string sent_;
  Session session_{target_, [this](std::string_view bytes) { sent_ += bytes; }};
};

TEST_F(SessionTest, AcknowledgesUntilToldNotTo) {
  send(frame("qC"));
  EXPECT_EQ(sent_, "+" + frame("QC01"));
  sent_.clear();
  send("-");
  EXPECT_EQ(sent_, frame("QC01")) << "again";
  sent_.clear();
  send("+-");
  EXPECT_EQ(sent_, "") << "it was acknowledged";
  send("$qC#00");
  EXPECT_EQ(sent_, "-");
  EXPECT_EQ(ask("QStartNoAckMode"), "OK");
  sent_.clear();
  send("$qC#00");
  EXPECT_EQ(sent_, "");
  send(frame("qC"));
  EXPECT_EQ(sent_, frame("QC01"));
}

TEST_F(SessionTest, StopsAMachineThatRunsWhenItBegins) {
  ScriptedTarget target;
  target.runs = true;
  const Session session(target, [](std::string_view) {});
  EXPECT_FALSE(target.runs);
}

TEST_F(SessionTest, NamesThreadsAsTheClientUnderstands) {
  EXPECT_EQ(ask("qfThreadInfo"), "m01,02");
  EXPECT_EQ(ask("qsThreadInfo"), "l");
  EXPECT_THAT(ask("qSupported:multiprocess+;swbreak+;hwbreak+;xmlRegisters=i386"),
              HasSubstr("qXfer:features:read+"));
  EXPECT_EQ(ask("qfThreadInfo"), "mp01.01,p01.02");
  EXPECT_EQ(ask("qThreadExtraInfo,p1.2"), to_hex(std::string_view("CPU#1 [halted ]")));
  EXPECT_EQ(ask("?"), "T05thread:p01.01;");
  EXPECT_EQ(ask("Hgp1.2"), "OK");
  EXPECT_EQ(ask("qC"), "QCp01.02");
  EXPECT_EQ(ask("Tp1.2"), "OK");
  EXPECT_EQ(ask("Tp1.3"), "E16");
  EXPECT_EQ(ask("Tp2.1"), "E16");
  EXPECT_EQ(ask("Hgp1.9"), "E16");
  EXPECT_EQ(ask("qAttached:1"), "1");
}

TEST_F(SessionTest, DescribesWhatTheRegisterPacketHolds) {
  std::string xml;
  for (std::string part = "m"; part[0] == 'm'; xml += part.substr(1))
    part = ask("qXfer:features:read:target.xml:" + fmt::format("{:x}", xml.size()) + ",400");
  EXPECT_EQ(xml, target_description());
  size_t bytes = 0;
  for (size_t i = 0; i < register_count(); ++i) {
    EXPECT_THAT(xml, HasSubstr("name=\"" + register_table()[i].name + "\""));
    bytes += register_size(i);
  }
  EXPECT_EQ(ask("g").size(), 2 * bytes);
  EXPECT_EQ(ask("qXfer:features:read:target.xml:fffff,10"), "E00");
  EXPECT_EQ(ask("qXfer:features:read:other.xml:0,10"), "E00");
}

TEST_F(SessionTest, ReadsAndWritesRegisters) {
  target_.files[1].cpu.rip = 0x1122334455667788;
  EXPECT_EQ(ask("Hg2"), "OK");
  EXPECT_EQ(ask("p10"), "8877665544332211");
  EXPECT_EQ(ask("P10=0102030405060708"), "OK");
  EXPECT_EQ(target_.files[1].cpu.rip, 0x0807060504030201u);
  EXPECT_EQ(ask("P10=01"), "E16");
  EXPECT_EQ(ask("pfff"), "E16");
  EXPECT_EQ(ask("P10"), "E16");
  // All of them at once, changed in the middle.
  std::string all = ask("g");
  all[0] = 'f';
  EXPECT_EQ(ask("G" + all), "OK");
  EXPECT_EQ(target_.files[1].cpu.gpr[x86::kRax], 0xF0u);
  EXPECT_EQ(ask("g"), all);
}

TEST_F(SessionTest, EveryRegisterKeepsWhatIsWritten) {
  for (size_t i = 0; i < register_count(); ++i) {
    const Register& entry = register_table()[i];
    std::string value(register_size(i), '\0');
    value[0] = '\x46';
    // ST7 is in use, and holds what was written before: a denormal number.
    if (entry.name == "ftag") value = {'\xFF', '\xBF', '\0', '\0'};
    if (entry.name == "cr8") value[0] = 6;
    ASSERT_EQ(ask(fmt::format("P{:x}={}", i, to_hex(std::string_view(value)))), "OK");
    EXPECT_EQ(ask(fmt::format("p{:x}", i)), to_hex(std::string_view(value))) << entry.name;
  }
}

TEST_F(SessionTest, ReadsAndWritesMemory) {
  EXPECT_EQ(ask("M1ffe,2:abcd"), "OK");
  EXPECT_EQ(ask("m1ffe,2"), "abcd");
  EXPECT_EQ(ask("m1ffe,10"), "abcd") << "as much as there is";
  EXPECT_EQ(ask("m2000,1"), "E0e");
  EXPECT_EQ(ask("M1fff,2:abcd"), "E0e");
  EXPECT_EQ(ask("M1000,2:ab"), "E16");
  EXPECT_EQ(ask("m1000,ffffffffffff"), "E16");
  EXPECT_EQ(ask("m1000"), "E16");
  EXPECT_EQ(ask(std::string("X1000,3:#}") + '\0'), "OK");
  EXPECT_EQ(ask("m1000,3"), "237d00");
  EXPECT_EQ(ask("X1000,0:"), "OK");
  EXPECT_FALSE(target_.last_physical);
  EXPECT_EQ(ask("Qqemu.PhyMemMode:1"), "OK");
  EXPECT_EQ(ask("qqemu.PhyMemMode"), "1");
  EXPECT_EQ(ask("m1000,1"), "23");
  EXPECT_TRUE(target_.last_physical);
}

TEST_F(SessionTest, SaysWhyItStopped) {
  ask("qSupported:swbreak+;hwbreak+");
  EXPECT_EQ(ask("Z0,1000,1"), "OK");
  EXPECT_EQ(ask("Z1,2000,1"), "OK");
  EXPECT_EQ(ask("Z2,3000,8"), "OK");
  EXPECT_EQ(ask("Z2,3000,8"), "OK") << "once more is no more";
  EXPECT_EQ(ask("Z4,3000,8"), "OK");
  EXPECT_EQ(ask("Z5,3000,8"), "");
  EXPECT_EQ(ask("Z2,3000,0"), "E16");
  EXPECT_EQ(ask("Z2,ffffffffffffffff,2"), "E16");
  using Cause = vcpu::DebugStop::Cause;
  EXPECT_EQ(ask("vCont;c"), "");
  EXPECT_THAT(target_.stops.breakpoints, ElementsAre(0x1000));
  EXPECT_THAT(target_.stops.hardware_breakpoints, ElementsAre(0x2000));
  EXPECT_EQ(target_.stops.watchpoints.size(), 2u);
  debug_stop(1, {.cause = Cause::kBreakpoint, .address = 0x1000});
  EXPECT_EQ(replies(), "T05thread:02;swbreak:;");
  ask("vCont;c");
  debug_stop(0, {.cause = Cause::kBreakpoint, .address = 0x2000});
  EXPECT_EQ(replies(), "T05thread:01;hwbreak:;");
  ask("vCont;c");
  debug_stop(0, {.cause = Cause::kWatchpoint, .address = 0x3000});
  EXPECT_EQ(replies(), "T05thread:01;watch:3000;");
  EXPECT_EQ(ask("z0,1000,1"), "OK");
  EXPECT_EQ(ask("z2,3000,8"), "OK");
  ask("c");
  EXPECT_THAT(target_.stops.breakpoints, ElementsAre());
  EXPECT_EQ(target_.stops.watchpoints.size(), 1u);
}

TEST_F(SessionTest, ReportsWhatASecondProcessorHitOnTheNextContinue) {
  using Cause = vcpu::DebugStop::Cause;
  ask("Z2,3000,8");
  ask("vCont;c");
  debug_stop(0, {.cause = Cause::kStep});
  debug_stop(1, {.cause = Cause::kWatchpoint, .address = 0x3000});
  EXPECT_EQ(replies(), "T05thread:01;");
  target_.last_actions.clear();
  EXPECT_EQ(ask("vCont;c"), "T05thread:02;watch:3000;");
  EXPECT_TRUE(target_.last_actions.empty());
  EXPECT_EQ(ask("vCont;c"), "");
  EXPECT_TRUE(target_.runs);
}

TEST_F(SessionTest, ResumesTheThreadsThatAreNamed) {
  using enum Action;
  EXPECT_EQ(ask("vCont?"), "vCont;c;C;s;S;t");
  const auto resumed = [&](std::string_view packet) {
    target_.runs = false;
    target_.last_actions.clear();
    EXPECT_EQ(ask(packet), "") << packet;
    return target_.last_actions;
  };
  EXPECT_THAT(resumed("vCont;c"), ElementsAre(kContinue, kContinue));
  EXPECT_THAT(resumed("vCont;s:2;c"), ElementsAre(kContinue, kStep));
  EXPECT_THAT(resumed("vCont;s:p1.1"), ElementsAre(kStep, kStand));
  EXPECT_THAT(resumed("vCont;t:1;s:p1.-1"), ElementsAre(kStand, kStep));
  EXPECT_THAT(resumed("vCont;C05:p1.-1"), ElementsAre(kContinue, kContinue));
  EXPECT_THAT(resumed("c"), ElementsAre(kContinue, kContinue));
  target_.runs = false;
  EXPECT_EQ(ask("Hc2"), "OK");
  EXPECT_THAT(resumed("s"), ElementsAre(kStand, kStep));
  target_.runs = false;
  EXPECT_EQ(ask("Hc-1"), "OK");
  EXPECT_EQ(ask("Hg2"), "OK");
  EXPECT_THAT(resumed("s1234"), ElementsAre(kContinue, kStep));
  EXPECT_EQ(target_.files[1].cpu.rip, 0x1234u);
  target_.runs = false;
  for (const auto* bad :
       {"vCont;", "vCont;x", "vCont;c:", "vCont;c:9", "vCont;t", "vCont", "S", "cx"})
    EXPECT_EQ(ask(bad), "E16") << bad;
}

TEST_F(SessionTest, InterruptStopsTheMachine) {
  ask("vCont;c");
  sent_.clear();
  send("\x03");
  EXPECT_EQ(replies(), "T02thread:01;");
  send("\x03");
  EXPECT_EQ(sent_, "") << "it stands already";
}

TEST_F(SessionTest, TellsOfTheMachinesEnd) {
  ask("vCont;c");
  session_.run_state_changed(machine::RunState::kShutdown);
  EXPECT_EQ(replies(), "T03thread:01;");
  session_.ending(3);
  EXPECT_EQ(replies(), "W03");
}

TEST_F(SessionTest, AMachineThatCannotGoOnSaysSo) {
  target_.refuses = true;
  EXPECT_EQ(ask("vCont;c"), "T06thread:01;");
}

TEST_F(SessionTest, DetachesAndKills) {
  ask("Z0,1000,1");
  EXPECT_EQ(ask("D;1"), "OK");
  EXPECT_FALSE(session_.open());
  EXPECT_EQ(target_.let_go_count, 1);
  Session other(target_, [](std::string_view) {});
  const std::string kill = frame("k");
  other.receive({reinterpret_cast<const uint8_t*>(kill.data()), kill.size()});
  EXPECT_EQ(target_.quit_count, 1);
  EXPECT_FALSE(other.open());
}

TEST_F(SessionTest, HandsCommandsToTheMonitor) {
  EXPECT_EQ(ask("qRcmd," + to_hex(std::string_view("info status"))),
            "O" + to_hex(std::string_view("you said info status\n")) + "|OK");
  EXPECT_EQ(ask("qRcmd,0"), "E16");
}

TEST_F(SessionTest, StepBitsSayWhetherInterruptsAreHeld) {
  EXPECT_EQ(ask("qqemu.sstepbits"), "ENABLE=1,NOIRQ=2,NOTIMER=4");
  EXPECT_EQ(ask("qqemu.sstep"), "0x7");
  ask("vCont;s:1");
  EXPECT_TRUE(target_.holds_interrupts);
  target_.runs = false;
  EXPECT_EQ(ask("Qqemu.sstep=5"), "OK");
  EXPECT_EQ(ask("Qqemu.sstep=8"), "E16");
  ask("vCont;s:1");
  EXPECT_FALSE(target_.holds_interrupts);
}

TEST_F(SessionTest, AnswersNothingToWhatItDoesNotKnow) {
  for (const auto* packet :
       {"", "vMustReplyEmpty", "qTStatus", "vFile:open:", "QNonStop:1", "B", "\xFF"})
    EXPECT_EQ(ask(packet), "") << packet;
  EXPECT_TRUE(session_.open());
}

}  // namespace
}  // namespace limen::gdb
