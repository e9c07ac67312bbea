#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace limen {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return fail("{} is odd", value);
  return value / 2;
}

Result<int> quarter(int value) { return LIMEN_TRY(half(LIMEN_TRY(half(value)))); }

TEST(Result, TryYieldsTheValueOrReturnsTheError) {
  EXPECT_EQ(quarter(12).value(), 3);
  EXPECT_EQ(quarter(6).error().message, "3 is odd");
}

TEST(Result, FailErrnoNamesTheSystemError) {
  const auto error = fail_errno(ENOENT, "opening disk.img");
  EXPECT_EQ(error.error().message, "opening disk.img: No such file or directory");
  EXPECT_EQ(error.error().system_errno, ENOENT);
}

}  // namespace
}  // namespace limen
