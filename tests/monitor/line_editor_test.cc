#include "monitor/hmp/line_editor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace limen::monitor {
namespace {

using ::testing::ElementsAre;

class LineEditorTest : public ::testing::Test {
 protected:
  void type(std::string_view keys) {
    for (const char key : keys) editor_.key(static_cast<uint8_t>(key));
  }
  std::deque<std::string> history_;
  std::vector<std::string> lines_;
  std::string shown_;
  std::vector<std::string> matches_;
  LineEditor editor_{"> ",
                     history_,
                     {.print = [this](std::string_view text) { shown_ += text; },
                      .line = [this](const std::string& line) { lines_.push_back(line); },
                      .complete = [this](std::string_view) { return matches_; }}};
};

TEST_F(LineEditorTest, EchoesAndGivesLines) {
  editor_.begin();
  type("info status\r\nstop\n");
  EXPECT_THAT(lines_, ElementsAre("info status", "stop"));
  EXPECT_TRUE(shown_.starts_with("> info status\r\n"));
}

TEST_F(LineEditorTest, KeysMoveAndErase) {
  type(
      "abX\x7f"
      "d\x1b[Dc\x05"
      "e\x01_\r");
  type(
      "one two\x17"
      "three\r");
  type(
      "gone\x15"
      "kept\r");
  type("abc\x1b[H\x1b[3~\r");
  type("tail\x02\x02\x0b\r");
  EXPECT_THAT(lines_, ElementsAre("_abcde", "one three", "kept", "bc", "ta"));
}

TEST_F(LineEditorTest, HistoryIsRecalledAndTheUnfinishedLineComesBack) {
  type("first\rsecond\r");
  type("new\x1b[A\x1b[A\x1b[B\r");
  type("x\x10\x0e\r");
  EXPECT_THAT(lines_, ElementsAre("first", "second", "second", "x"));
  EXPECT_THAT(history_, ElementsAre("first", "second", "x"));
}

TEST_F(LineEditorTest, CompletesAsFarAsItIsClear) {
  matches_ = {"system_powerdown", "system_reset"};
  type("sys\t");
  EXPECT_TRUE(shown_.ends_with("tem_")) << shown_;
  type("\t");
  EXPECT_NE(shown_.find("system_powerdown system_reset"), std::string::npos);
  matches_ = {"system_reset"};
  type("r\t\r");
  EXPECT_THAT(lines_, ElementsAre("system_reset "));
}

TEST_F(LineEditorTest, EndlessLinesAreBounded) {
  type(std::string(LineEditor::kMostBytes + 100, 'x'));
  type("\r");
  EXPECT_EQ(lines_.at(0).size(), LineEditor::kMostBytes);
}

}  // namespace
}  // namespace limen::monitor
