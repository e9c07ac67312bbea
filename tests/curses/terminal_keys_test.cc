#include "curses/terminal_keys.h"

#include <gmock/gmock.h>

#include "curses/curses_display.h"

// Behind the others: it defines macros with plain names.
#include <curses.h>
#include <unistd.h>

namespace limen::curses {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(TerminalKeys, MakeWhatTheTerminalSent) {
  EXPECT_THAT(keys_of_terminal('a', false, false), ElementsAre(0x1E));
  EXPECT_THAT(keys_of_terminal('A', false, false), ElementsAre(0x2A, 0x1E));
  EXPECT_THAT(keys_of_terminal('?', false, false), ElementsAre(0x2A, 0x35));
  EXPECT_THAT(keys_of_terminal(' ', false, false), ElementsAre(0x39));
  EXPECT_THAT(keys_of_terminal(3, false, false), ElementsAre(0x1D, 0x2E));  // Ctrl-c
  EXPECT_THAT(keys_of_terminal('x', false, true), ElementsAre(0x38, 0x2D));
  EXPECT_THAT(keys_of_terminal('\r', false, false), ElementsAre(0x1C));
  EXPECT_THAT(keys_of_terminal(127, false, false), ElementsAre(0x0E));
  EXPECT_THAT(keys_of_terminal(KEY_UP, true, false), ElementsAre(0xC8));
  EXPECT_THAT(keys_of_terminal(KEY_F(10), true, false), ElementsAre(0x44));
  EXPECT_THAT(keys_of_terminal(KEY_F(12), true, true), ElementsAre(0x38, 0x58));
  EXPECT_THAT(keys_of_terminal(0xE4, false, false), IsEmpty());
}

TEST(TerminalKeys, CodePage437IsShownInUnicode) {
  EXPECT_EQ(unicode_of_437('A'), L'A');
  EXPECT_EQ(unicode_of_437(0), L' ');
  EXPECT_EQ(unicode_of_437(0x1F), L'\u25BC');
  EXPECT_EQ(unicode_of_437(0x7F), L'\u2302');
  EXPECT_EQ(unicode_of_437(0x80), L'\u00C7');
  EXPECT_EQ(unicode_of_437(0xC9), L'\u2554');
  EXPECT_EQ(unicode_of_437(0xDB), L'\u2588');
  EXPECT_EQ(unicode_of_437(0xFF), L'\u00A0');
}

TEST(CursesDisplay, WantsATerminal) {
  if (::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0) GTEST_SKIP();
  display::Screen screen;
  display::Input input;
  const auto loop = EventLoop::create();
  const auto created = CursesDisplay::create(screen, input, **loop);
  ASSERT_FALSE(created);
  EXPECT_THAT(created.error().message, testing::HasSubstr("no terminal"));
}

}  // namespace
}  // namespace limen::curses
