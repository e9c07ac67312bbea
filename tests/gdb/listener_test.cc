#include "gdb/listener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

namespace limen::gdb {
namespace {

using Kind = ListenAddress::Kind;

TEST(ListenAddress, TakesWhatQemuTakes) {
  const auto tcp = parse_listen_address("tcp::1234");
  ASSERT_TRUE(tcp);
  EXPECT_EQ(tcp->kind, Kind::kTcp);
  EXPECT_EQ(tcp->host, "");
  EXPECT_EQ(tcp->port, "1234");
  const auto options = parse_listen_address("tcp:[::1]:9,server=on,wait=off");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->host, "::1");
  EXPECT_EQ(parse_listen_address("unix:/tmp/a,server,nowait")->path, "/tmp/a");
  EXPECT_EQ(parse_listen_address("stdio")->kind, Kind::kStdio);
  EXPECT_EQ(parse_listen_address("none")->kind, Kind::kNone);
}

TEST(ListenAddress, NamesWhatIsWrong) {
  const auto message = [](std::string_view text) {
    const auto parsed = parse_listen_address(text);
    return parsed ? "no error" : parsed.error().message;
  };
  EXPECT_THAT(message("tcp:1234"), ::testing::HasSubstr("no port"));
  EXPECT_THAT(message("tcp::x"), ::testing::HasSubstr("'x'"));
  EXPECT_THAT(message("tcp::65536"), ::testing::HasSubstr("65536"));
  EXPECT_THAT(message("tcp::"), ::testing::HasSubstr("''"));
  EXPECT_THAT(message("udp::1"), ::testing::HasSubstr("udp::1"));
  EXPECT_THAT(message("tcp::1,wait=of"), ::testing::HasSubstr("did you mean 'wait=off'"));
}

TEST(Listener, SaysThatAPortIsTaken) {
  const std::string path = "/tmp/limen-gdb-test-" + std::to_string(::getpid());
  EXPECT_TRUE(listen_at({.kind = Kind::kUnix, .path = path}));
  ::unlink(path.c_str());
  EXPECT_FALSE(listen_at({.kind = Kind::kUnix, .path = std::string(200, 'a')}));
  EXPECT_FALSE(listen_at({.kind = Kind::kTcp, .host = "192.0.2.1", .port = "1"}));
}

}  // namespace
}  // namespace limen::gdb
