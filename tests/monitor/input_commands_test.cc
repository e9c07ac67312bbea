// Keyboard, mouse and VNC servers, as monitors see them.
#include <unistd.h>

#include "machine/board.h"
#include "monitor/monitor_fixture.h"

namespace limen::monitor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

/// Takes everything that a person does.
class Hands final : public display::KeySink, public display::PointerSink {
 public:
  Hands(display::Input& input, bool tablet) : input_(input), tablet_(tablet) {
    input_.add(static_cast<display::KeySink&>(*this));
    input_.add(static_cast<display::PointerSink&>(*this));
  }
  ~Hands() override {
    input_.remove(static_cast<display::KeySink&>(*this));
    input_.remove(static_cast<display::PointerSink&>(*this));
  }
  void key(display::KeyCode code, bool down) override {
    log.push_back((down ? "+" : "-") + std::to_string(code));
  }
  [[nodiscard]] const char* name() const override { return "hands"; }
  [[nodiscard]] bool absolute() const override { return tablet_; }
  void move_by(int x, int y) override { note("by", x, y); }
  void move_to(unsigned x, unsigned y) override {
    note("to", static_cast<int>(x), static_cast<int>(y));
  }
  void button(display::Button button, bool down) override {
    note("button", static_cast<int>(button), down ? 1 : 0);
  }
  void wheel(int vertical, int horizontal) override { note("wheel", vertical, horizontal); }
  std::vector<std::string> take() { return std::exchange(log, {}); }
  std::vector<std::string> log;

 private:
  void note(const char* what, int a, int b) {
    log.push_back(std::string(what) + " " + std::to_string(a) + " " + std::to_string(b));
  }
  display::Input& input_;
  bool tablet_;
};

class InputCommands : public testing::MonitorTest {
 protected:
  void wait_for(Hands& hands, size_t count) {
    const auto end = Clock::now() + std::chrono::seconds(10);
    while (hands.log.size() < count && Clock::now() < end) machine_->loop().poll();
  }
};

TEST_F(InputCommands, KeysAreHeldForAWhile) {
  start();
  Hands hands(machine_->board()->input(), false);
  const auto begin = Clock::now();
  run("send-key", {{"keys",
                    {{{"type", "qcode"}, {"data", "ctrl"}},
                     {{"type", "qcode"}, {"data", "up"}},
                     {{"type", "number"}, {"data", 0x1E}}}},
                   {"hold-time", 20}});
  EXPECT_THAT(hands.log, ElementsAre("+29"));
  EXPECT_EQ(type("sendkey pause 20"), "");  // waits for its turn
  wait_for(hands, 8);
  EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(120));
  EXPECT_THAT(hands.take(),
              ElementsAre("+29", "+200", "+30", "-30", "-200", "-29", "+198", "-198"));
}

TEST_F(InputCommands, EventsGoToKeyboardAndMouse) {
  start();
  auto& input = machine_->board()->input();
  EXPECT_THAT(error("input-send-event",
                    {{"events", {{{"type", "abs"}, {"data", {{"axis", "x"}, {"value", 5}}}}}}}),
              HasSubstr("Input handler not found for event type abs"));
  Hands hands(input, false);
  run("input-send-event",
      {{"events",
        {{{"type", "key"}, {"data", {{"down", true}, {"key", {{"type", "qcode"}, {"data", "a"}}}}}},
         {{"type", "rel"}, {"data", {{"axis", "x"}, {"value", 3}}}},
         {{"type", "rel"}, {"data", {{"axis", "y"}, {"value", -4}}}},
         {{"type", "btn"}, {"data", {{"down", true}, {"button", "side"}}}},
         {{"type", "btn"}, {"data", {{"down", true}, {"button", "wheel-down"}}}}}}});
  EXPECT_THAT(hands.take(), ElementsAre("by 3 -4", "+30", "button 3 1", "wheel -1 0"));
  Hands tablet(input, true);
  run("input-send-event",
      {{"events", {{{"type", "abs"}, {"data", {{"axis", "x"}, {"value", 100}}}}}}});
  run("input-send-event",
      {{"events", {{{"type", "abs"}, {"data", {{"axis", "y"}, {"value", 99999}}}}}}});
  EXPECT_THAT(tablet.take(), ElementsAre("to 100 16383", "to 100 32767"));
}

TEST_F(InputCommands, MiceAreListedChosenAndMoved) {
  start();
  EXPECT_EQ(type("info mice"), "* Mouse #0: QEMU PS/2 Mouse\r\n");
  Hands hands(machine_->board()->input(), false);
  EXPECT_EQ(type("info mice"), "* Mouse #1: hands\r\n  Mouse #0: QEMU PS/2 Mouse\r\n");
  EXPECT_EQ(type("mouse_move 5 -2 1"), "");
  EXPECT_EQ(type("mouse_button 5"), "");
  EXPECT_THAT(hands.take(),
              ElementsAre("by 5 -2", "wheel -1 0", "button 0 1", "button 1 0", "button 2 1"));
  EXPECT_EQ(type("mouse_set 0"), "");
  EXPECT_EQ(run("query-mice")[0]["index"], 0);
  EXPECT_THAT(type("mouse_set 9"), HasSubstr("Mouse at index '9' not found"));
}

TEST_F(InputCommands, WithoutVncServerThereIsNothingToSee) {
  start();
  EXPECT_EQ(run("query-vnc"), (Json{{"enabled", false}}));
  EXPECT_EQ(run("query-vnc-servers"), Json::array());
  EXPECT_EQ(type("info vnc"), "None\r\n");
  EXPECT_THAT(error("change-vnc-password", {{"password", "x"}}),
              HasSubstr("Could not set password"));
}

#if LIMEN_VNC
TEST_F(InputCommands, VncServersAreListedAndTakePasswords) {
  vnc::ServerOptions server;
  server.origin = "-vnc test";
  server.address.path = folder_ / "vnc";
  server.password = true;
  description_.vnc_servers.push_back(server);
  start();
  const auto servers = run("query-vnc-servers");
  ASSERT_EQ(servers.size(), 1u);
  EXPECT_EQ(servers[0]["auth"], "vnc");
  EXPECT_EQ(servers[0]["server"][0]["family"], "unix");
  EXPECT_TRUE(run("query-vnc")["enabled"]);
  EXPECT_THAT(type("info vnc"), MatchesRegex("default:\r\n  Server: :.*vnc \\(unix\\)\r\n"
                                             "    Auth: vnc \\(Sub: none\\)\r\n"));
  run("set_password", {{"protocol", "vnc"}, {"password", "x"}});
  EXPECT_THAT(
      error("set_password", {{"protocol", "vnc"}, {"password", "x"}, {"connected", "disconnect"}}),
      HasSubstr("must be 'keep'"));
  EXPECT_EQ(type("change vnc password secret"), "");
  run("expire_password", {{"protocol", "vnc"}, {"time", "+10"}});
  EXPECT_THAT(error("expire_password", {{"protocol", "vnc"}, {"time", "soon"}}),
              HasSubstr("doesn't take value 'soon'"));
}
#endif

}  // namespace
}  // namespace limen::monitor
