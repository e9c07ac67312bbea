#include "qemu/smp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace limen::qemu {
namespace {

using ::testing::HasSubstr;

std::string completed(const std::map<std::string, uint64_t>& counts) {
  const auto topology = complete_topology({counts});
  if (!topology) return topology.error().message;
  return fmt::format("{}/{}/{}/{}", topology->sockets, topology->dies, topology->cores,
                     topology->threads);
}

TEST(Smp, ProcessorsBecomeCoresFirst) {
  EXPECT_EQ(completed({}), "1/1/1/1");
  EXPECT_EQ(completed({{"cpus", 4}}), "1/1/4/1");
  EXPECT_EQ(completed({{"maxcpus", 4}}), "1/1/4/1");
  EXPECT_EQ(completed({{"cpus", 8}, {"sockets", 2}}), "2/1/4/1");
  EXPECT_EQ(completed({{"cpus", 8}, {"threads", 2}}), "1/1/4/2");
  EXPECT_EQ(completed({{"cpus", 8}, {"dies", 2}}), "1/2/4/1");
}

TEST(Smp, WhatIsLeftFollowsFromTheRest) {
  EXPECT_EQ(completed({{"cpus", 8}, {"cores", 2}}), "4/1/2/1");
  EXPECT_EQ(completed({{"cpus", 8}, {"cores", 2}, {"sockets", 2}}), "2/1/2/2");
  EXPECT_EQ(completed({{"sockets", 2}, {"cores", 3}, {"threads", 2}}), "2/1/3/2");
  EXPECT_EQ(completed({{"cores", 3}}), "1/1/3/1");
}

TEST(Smp, WhatDoesNotMultiplyIsRefused) {
  EXPECT_EQ(
      completed({{"cpus", 4}, {"sockets", 3}}),
      "invalid topology: sockets (3) * dies (1) * cores (1) * threads (1) is 3, and there are "
      "4 processors");
  EXPECT_THAT(completed({{"cpus", 2}, {"sockets", 4}}), HasSubstr("cores (0)"));
  EXPECT_THAT(completed({{"cpus", 3}, {"sockets", 1}, {"cores", 1}, {"threads", 1}}),
              HasSubstr("invalid topology"));
}

TEST(Smp, ProcessorsCannotBePluggedInLater) {
  EXPECT_THAT(completed({{"cpus", 2}, {"maxcpus", 4}}), HasSubstr("maxcpus=4 with 2 processors"));
  EXPECT_THAT(completed({{"cpus", 4}, {"maxcpus", 2}}), HasSubstr("maxcpus=2 is less than"));
  EXPECT_EQ(completed({{"cpus", 4}, {"maxcpus", 4}}), "1/1/4/1");
}

TEST(Smp, ClustersAndCrowdsAreRefused) {
  EXPECT_THAT(completed({{"cpus", 4}, {"clusters", 2}}), HasSubstr("clusters=2"));
  EXPECT_EQ(completed({{"cpus", 4}, {"clusters", 1}}), "1/1/4/1");
  EXPECT_THAT(completed({{"cpus", 289}}), HasSubstr("at most 288"));
}

}  // namespace
}  // namespace limen::qemu
