#include "base/fd_sets.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>

namespace limen {
namespace {

UniqueFd null_device(int flags) { return UniqueFd(::open("/dev/null", flags | O_CLOEXEC)); }

TEST(FdSets, OpensTheDescriptorThatWasOpenedForTheSame) {
  FdSets sets;
  EXPECT_EQ(sets.add(4, null_device(O_RDONLY), "").value(), 4u);
  EXPECT_FALSE(sets.open(4, O_RDWR).valid());
  EXPECT_EQ(errno, EACCES);
  EXPECT_FALSE(sets.open(5, O_RDWR).valid());
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(sets.add(4, null_device(O_RDWR), "both").value(), 4u);
  const auto opened = sets.open(4, O_RDWR | O_TRUNC);
  ASSERT_TRUE(opened.valid());
  EXPECT_EQ(::fcntl(opened.get(), F_GETFL) & O_ACCMODE, O_RDWR);
  EXPECT_NE(opened.get(), sets.sets()[4][1].descriptor) << "the set keeps its own";
}

TEST(FdSets, NewSetsTakeTheFirstFreeNumber) {
  FdSets sets;
  EXPECT_EQ(sets.add(std::nullopt, null_device(O_RDONLY), "").value(), 0u);
  EXPECT_EQ(sets.add(std::nullopt, null_device(O_RDONLY), "").value(), 1u);
  EXPECT_TRUE(sets.remove(0, std::nullopt));
  EXPECT_EQ(sets.add(std::nullopt, null_device(O_RDONLY), "").value(), 0u);
  EXPECT_THAT(sets.remove(7, 3).error().message,
              testing::HasSubstr("File descriptor named 'fdset-id:7, fd:3' not found"));
}

TEST(FdSets, FilesAreOpenedByTheirNames) {
  const auto set = FdSets::of_process().add(std::nullopt, null_device(O_WRONLY), "").value();
  EXPECT_TRUE(open_file("/dev/fdset/" + std::to_string(set), O_WRONLY | O_CREAT, 0600).valid());
  EXPECT_TRUE(FdSets::of_process().remove(set, std::nullopt));
  EXPECT_FALSE(open_file("/dev/fdset/" + std::to_string(set), O_WRONLY).valid());
  EXPECT_FALSE(open_file("/dev/fdset/x", O_WRONLY).valid());
  EXPECT_EQ(errno, EINVAL);
  EXPECT_TRUE(open_file("/dev/null", O_RDONLY).valid());
}

}  // namespace
}  // namespace limen
