#include "display/input.h"

#include <gmock/gmock.h>

namespace limen::display {
namespace {

using testing::ElementsAre;

struct Keys final : KeySink {
  void key(KeyCode code, bool down) override { told.emplace_back(code, down); }
  [[nodiscard]] uint8_t leds() const override { return 2; }
  std::vector<std::pair<KeyCode, bool>> told;
};

struct Mouse final : PointerSink {
  explicit Mouse(bool wants_absolute) : wants_absolute_(wants_absolute) {}
  [[nodiscard]] const char* name() const override { return wants_absolute_ ? "tablet" : "mouse"; }
  [[nodiscard]] bool absolute() const override { return wants_absolute_; }
  void move_by(int x, int y) override { told.emplace_back("by " + at(x, y)); }
  void move_to(unsigned x, unsigned y) override {
    told.emplace_back("to " + at(static_cast<int>(x), static_cast<int>(y)));
  }
  void button(Button button, bool down) override {
    told.emplace_back("button " + at(static_cast<int>(button), down ? 1 : 0));
  }
  void wheel(int vertical, int horizontal) override {
    told.emplace_back("wheel " + at(vertical, horizontal));
  }
  static std::string at(int x, int y) { return std::to_string(x) + " " + std::to_string(y); }
  std::vector<std::string> told;

 private:
  bool wants_absolute_;
};

TEST(Input, ReachesTheKeyboardThatWasAddedLast) {
  Input input;
  Keys first, second;
  input.add(first);
  input.add(second);
  input.key(0x1E, true);
  input.remove(second);
  input.key(0x1E, false);
  EXPECT_THAT(second.told, ElementsAre(std::pair(0x1E, true)));
  EXPECT_THAT(first.told, ElementsAre(std::pair(0x1E, false)));
  EXPECT_EQ(input.leds(), 2);
  input.remove(first);
  EXPECT_EQ(input.leds(), 0);
  input.key(0x1E, true);
}

TEST(Input, LetsGoOfWhatIsDownWhenAViewerGoes) {
  Input input;
  Keys keyboard;
  input.add(keyboard);
  input.key(0x1D, true);
  input.key(0x38, true);
  input.key(0x38, true);
  input.key(0x39, true);
  input.key(0x39, false);
  keyboard.told.clear();
  input.release_keys();
  EXPECT_THAT(keyboard.told, ElementsAre(std::pair(0x38, false), std::pair(0x1D, false)));
  keyboard.told.clear();
  input.release_keys();
  EXPECT_TRUE(keyboard.told.empty());
}

TEST(Input, MovementsReachThePointerOfTheirKind) {
  Input input;
  Mouse mouse(false), tablet(true);
  EXPECT_FALSE(input.absolute());
  EXPECT_FALSE(input.move_to(1, 2));
  input.add(mouse);
  EXPECT_FALSE(input.absolute());
  input.add(tablet);
  EXPECT_TRUE(input.absolute());
  EXPECT_TRUE(input.move_to(100, 99999));
  EXPECT_TRUE(input.move_by(-3, 4));
  input.button(Button::kRight, true);
  input.wheel(1, 0);
  EXPECT_THAT(mouse.told, ElementsAre("by -3 4"));
  EXPECT_THAT(tablet.told, ElementsAre("to 100 32767", "button 2 1", "wheel 1 0"));
}

TEST(Input, ListsPointersAndTakesTheChosenOne) {
  Input input;
  Mouse mouse(false), tablet(true);
  input.add(mouse);
  input.add(tablet);
  EXPECT_FALSE(input.choose_pointer(7));
  EXPECT_TRUE(input.choose_pointer(0));
  EXPECT_FALSE(input.absolute());
  const auto all = input.pointers();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "mouse");
  EXPECT_EQ(all[0].index, 0u);
  EXPECT_TRUE(all[0].current);
  EXPECT_EQ(all[1].name, "tablet");
  EXPECT_FALSE(all[1].current);
  input.add(tablet);  // as when its driver starts
  EXPECT_TRUE(input.absolute());
  EXPECT_EQ(input.pointers().size(), 2u);
}

}  // namespace
}  // namespace limen::display
