#include "base/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace limen::trace {
namespace {

using testing::MatchesRegex;

Event one("test_event_one");
Event two("test_event_two");
Event other("another_event");

class Trace : public testing::Test {
 protected:
  void TearDown() override { choose("-*"); }
};

TEST_F(Trace, IsChosenByPattern) {
  EXPECT_EQ(choose("test_event_one"), 1u);
  EXPECT_TRUE(one.on());
  EXPECT_FALSE(two.on());
  EXPECT_EQ(choose("test_*_t?o"), 1u);
  EXPECT_TRUE(two.on());
  EXPECT_FALSE(other.on());
  EXPECT_EQ(choose("-test_event_*"), 2u);
  EXPECT_FALSE(one.on());
  EXPECT_EQ(choose("test_event"), 0u);
  EXPECT_EQ(choose("*event*"), 3u);
  EXPECT_EQ(choose(""), 0u);
}

TEST_F(Trace, IsListedByName) {
  std::vector<std::string_view> names;
  for (const auto* event : events()) names.push_back(event->name());
  EXPECT_TRUE(std::ranges::is_sorted(names));
  EXPECT_THAT(names, testing::IsSupersetOf({"another_event", "test_event_one"}));
}

TEST_F(Trace, WritesLinesOfWhatIsOn) {
  const std::string path = testing::TempDir() + "limen-trace";
  std::ofstream(path) << "old\n";
  ASSERT_TRUE(write_to(path));
  choose("test_event_one");
  one("value {}", 7);
  two("never");
  one("{}", "last");
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_THAT(text.str(), MatchesRegex("[0-9]+@[0-9]+\\.[0-9]{6}:test_event_one value 7\n"
                                       "[0-9]+@[0-9]+\\.[0-9]{6}:test_event_one last\n"));
  EXPECT_FALSE(write_to("/nonexistent/file"));
}

}  // namespace
}  // namespace limen::trace
