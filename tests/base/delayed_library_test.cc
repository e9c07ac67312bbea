#include "base/delayed_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace limen {
namespace {

TEST(DelayedLibrary, IsLoadedOrItIsSaidWhyNot) {
  EXPECT_TRUE(load_library("libm.so.6"));
  const auto missing = load_library("liblimen-none.so.1");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, testing::HasSubstr("liblimen-none.so.1"));
}

TEST(DelayedLibrary, GivesTheFunctionsOfThatName) {
  DelayedLibrary library{"libm.so.6", nullptr};
  DelayedFunction function{nullptr, "floor", &library};
  void* const found = limen_find_function(&function);
  EXPECT_EQ(found, function.address);
  EXPECT_EQ(reinterpret_cast<double (*)(double)>(found)(2.5), 2);
}

TEST(DelayedLibraryDeathTest, EndsTheProgramWhereACallFindsNone) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  DelayedLibrary library{"liblimen-none.so.1", nullptr};
  DelayedFunction function{nullptr, "call", &library};
  EXPECT_EXIT(limen_find_function(&function), testing::ExitedWithCode(1), "liblimen-none.so.1");
}

}  // namespace
}  // namespace limen
