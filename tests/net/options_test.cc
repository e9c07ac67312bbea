#include "net/options.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/network.h"

namespace limen::net {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::string error_of(const Parameters& parameters) {
  const auto parsed = parse_backend(parameters);
  return parsed ? "" : parsed.error().message;
}

/// What making the back end says.
std::string failure_of(Parameters parameters) {
  parameters.insert(parameters.begin(), {"id", "n0"});
  const auto parsed = parse_backend(parameters);
  if (!parsed) return parsed.error().message;
  const auto network = Network::create();
  const auto added = (*network)->add(*parsed);
  return added ? "" : added.error().message;
}

TEST(BackendOptions, AreRefusedInQemusWords) {
  EXPECT_EQ(error_of({{"id", "n0"}}), "Parameter 'type' is missing");
  EXPECT_THAT(error_of({{"type", "foo"}, {"id", "n0"}}),
              StartsWith("Parameter 'type' does not accept value 'foo'"));
  EXPECT_EQ(error_of({{"type", "user"}}), "Parameter 'id' is missing");
  EXPECT_THAT(error_of({{"type", "user"}, {"id", "9n"}}),
              StartsWith("Parameter 'id' expects an identifier"));
  EXPECT_THAT(error_of({{"type", "user"}, {"id", "n"}, {"hostfw", "x"}}),
              AllOf(StartsWith("Invalid parameter 'hostfw'"), HasSubstr("hostfwd")));
  EXPECT_EQ(error_of({{"type", "user"}, {"id", "n"}, {"restrict", "maybe"}}),
            "Parameter 'restrict' expects 'on' or 'off'");
  EXPECT_EQ(error_of({{"type", "user"}, {"id", "n"}, {"ipv4", "off"}, {"ipv6", "off"}}),
            "IPv4 and IPv6 disabled");
  EXPECT_EQ(error_of({{"type", "hubport"}, {"id", "n"}}), "Parameter 'hubid' is missing");
  EXPECT_EQ(error_of({{"type", "stream"}, {"id", "n"}}), "Parameter 'addr' is missing");
  EXPECT_EQ(error_of({{"type", "stream"}, {"id", "n"}, {"addr.type", "inet"}}),
            "Parameter 'addr.host' is missing");
  EXPECT_EQ(error_of({{"type", "dgram"}, {"id", "n"}}), "dgram requires local= parameter");
  EXPECT_EQ(error_of({{"type", "socket"}, {"id", "n"}}),
            "exactly one of listen=, connect=, mcast= or udp= is required");
  EXPECT_THAT(error_of({{"type", "tap"}, {"id", "n"}, {"fd", "3"}, {"ifname", "t"}}),
              HasSubstr("are invalid with fd="));
  EXPECT_THAT(error_of({{"type", "tap"}, {"id", "n"}, {"helper", "/bin/h"}, {"ifname", "t"}}),
              HasSubstr("are invalid with helper="));
  EXPECT_THAT(error_of({{"type", "tap"}, {"id", "n"}, {"br", "br1"}}),
              HasSubstr("br= goes with helper="));
}

TEST(BackendOptions, VhostIsReadAsQemuDoes) {
  const auto tap = [](Parameters more) {
    more.insert(more.begin(), {{"type", "tap"}, {"id", "n"}});
    return std::get<TapOptions>(parse_backend(more)->options);
  };
  EXPECT_FALSE(tap({}).vhost);
  EXPECT_TRUE(tap({{"vhost", "on"}}).vhost);
  EXPECT_FALSE(tap({{"vhost", "on"}}).vhost_required);
  EXPECT_TRUE(tap({{"vhostforce", "on"}}).vhost);
  EXPECT_TRUE(tap({{"vhostforce", "on"}}).vhost_required);
  EXPECT_FALSE(tap({{"vhostforce", "on"}, {"vhost", "off"}}).vhost);
  EXPECT_TRUE(tap({{"vhostfd", "7"}}).vhost);
  EXPECT_THAT(tap({{"fds", "5:6"}, {"vhostfds", "7:8"}}).vhost_fds, ElementsAre("7", "8"));
  EXPECT_EQ(tap({{"poll-us", "20"}}).poll_microseconds, 20u);

  const auto wrong = [](Parameters more) {
    more.insert(more.begin(), {{"type", "tap"}, {"id", "n"}});
    return error_of(more);
  };
  EXPECT_EQ(wrong({{"vhostfd", "7"}, {"vhost", "off"}}), "vhostfd(s)= is not valid without vhost");
  EXPECT_EQ(wrong({{"vhostfds", "7"}}), "vhostfds= is invalid if fds= wasn't specified");
  EXPECT_EQ(wrong({{"fds", "5:6"}, {"vhostfds", "7"}}),
            "The number of fds passed does not match the number of vhostfds passed");
  EXPECT_THAT(wrong({{"fds", "5:6"}, {"vhostfd", "7"}}), HasSubstr("are invalid with fds="));
  EXPECT_THAT(wrong({{"fd", "5"}, {"vhostfds", "7"}}), HasSubstr("are invalid with fd="));
  EXPECT_THAT(wrong({{"queues", "2"}, {"vhostfd", "7"}}), HasSubstr("takes as many"));
  EXPECT_THAT(wrong({{"vhost", "maybe"}}), HasSubstr("'vhost' expects 'on' or 'off'"));
}

TEST(BackendOptions, VhostNeedsAnAcceleratorThatSharesItsMemory) {
  EXPECT_EQ(failure_of({{"type", "tap"}, {"fd", "777"}, {"vhostforce", "on"}}),
            "vhost=on takes -accel kvm");
  // Else it is a warning, and what else is wrong counts.
  EXPECT_THAT(failure_of({{"type", "tap"}, {"fd", "777"}, {"vhost", "on"}}),
              HasSubstr("Can't use file descriptor 777"));
}

TEST(BackendOptions, WhatIsNoVhostDeviceIsNamed) {
  const memory::GuestMemory::Layout layout{.start = {0}, .size = 1 << 20};
  const auto memory = memory::GuestMemory::create({&layout, 1});
  const auto network = Network::create(memory->get());
  const auto with = [&](Parameters more) {
    more.insert(more.begin(), {{"type", "tap"}, {"id", "n"}, {"fd", "777"}, {"vhostforce", "on"}});
    return (*network)->add(*parse_backend(more)).error().message;
  };
  const int null = ::open("/dev/null", O_RDWR);
  EXPECT_THAT(with({{"vhostfd", std::to_string(null)}}), HasSubstr("vhost=on: VHOST_SET_OWNER: "));
  EXPECT_THAT(with({{"vhostfd", "778"}}), HasSubstr("Can't use file descriptor 778"));
}

TEST(BackendOptions, OfTheUserNetworkAreChecked) {
  const auto user = [](const std::string& key, const std::string& value) {
    return failure_of({{"type", "user"}, {key, value}});
  };
  EXPECT_EQ(user("hostfwd", "foo"), "Invalid host forwarding rule 'foo' (No : separators)");
  EXPECT_EQ(user("hostfwd", "xx::80-:80"),
            "Invalid host forwarding rule 'xx::80-:80' (Bad protocol name)");
  EXPECT_EQ(user("hostfwd", "tcp::abc-:80"),
            "Invalid host forwarding rule 'tcp::abc-:80' (Bad host port)");
  EXPECT_EQ(user("hostfwd", "tcp::80"),
            "Invalid host forwarding rule 'tcp::80' (Bad host port separator)");
  EXPECT_EQ(user("hostfwd", "tcp:300.1.1.1:80-:80"),
            "Invalid host forwarding rule 'tcp:300.1.1.1:80-:80' (Bad host address)");
  EXPECT_EQ(user("hostfwd", "tcp::2222-:abc"),
            "Invalid host forwarding rule 'tcp::2222-:abc' (Bad guest port)");
  EXPECT_EQ(user("hostfwd", "tcp::2222-1.2.3.4.5:22"),
            "Invalid host forwarding rule 'tcp::2222-1.2.3.4.5:22' (Bad guest address)");
  EXPECT_EQ(user("guestfwd", "foo"), "Invalid guest forwarding rule 'foo'");
  EXPECT_EQ(user("net", "foo"), "Failed to parse netmask");
  EXPECT_EQ(user("host", "1.2.3.4"), "Host doesn't belong to network");
  EXPECT_EQ(user("dns", "10.0.2.2"), "DNS must be different from host");
  EXPECT_EQ(user("dhcpstart", "10.0.3.2"), "DHCP doesn't belong to network");
  EXPECT_EQ(user("net", "172.20.0.0/16"), "");
  EXPECT_EQ(user("ipv6-net", "fd00:5::/64"), "");
}

TEST(BackendOptions, APortInUseIsNamed) {
  const auto network = Network::create();
  const auto forward = [](const char* id) {
    return *parse_backend({{"type", "user"}, {"id", id}, {"hostfwd", "tcp:127.0.0.1:45871-:80"}});
  };
  ASSERT_TRUE((*network)->add(forward("a")));
  const auto second = (*network)->add(forward("b"));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message,
            "Could not set up host forwarding rule 'tcp:127.0.0.1:45871-:80': "
            "Address already in use");
  EXPECT_EQ((*network)->add(forward("a")).error().message, "Duplicate ID 'a' for netdev");
  ASSERT_TRUE((*network)->remove("a"));
  EXPECT_TRUE((*network)->add(forward("b")));
}

TEST(BackendOptions, DescriptorsMustBeWhatTheyAreTakenFor) {
  EXPECT_THAT(failure_of({{"type", "tap"}, {"fd", "777"}}),
              HasSubstr("Can't use file descriptor 777: Bad file descriptor"));
  EXPECT_THAT(failure_of({{"type", "socket"}, {"fd", "777"}}), HasSubstr("fd=777 is not a socket"));
}

TEST(BackendOptions, ABridgeHelperThatFailsIsNamed) {
  const auto with = [](const std::string& helper) {
    return failure_of({{"type", "bridge"}, {"br", "none0"}, {"helper", helper}});
  };
  EXPECT_EQ(with("/nowhere/helper"),
            "could not launch bridge helper /nowhere/helper: No such file or directory");
  EXPECT_EQ(with("/bin/false"), "bridge helper /bin/false failed with status 1");
  EXPECT_EQ(with("/bin/true"), "bridge helper sent no device");
  // A command for the shell, which is told the bridge and the descriptor.
  EXPECT_EQ(with("test $# = 0; exit 7 #"), "bridge helper /bin/sh failed with status 7");
}

TEST(Mac, IsReadAndWritten) {
  EXPECT_EQ(format_mac(*parse_mac("52:54:00:12:34:5a")), "52:54:00:12:34:5a");
  EXPECT_EQ(format_mac(*parse_mac("1-2-3-4-5-FF")), "01:02:03:04:05:ff");
  for (const char* bad : {"", "zz", "1:2:3:4:5", "1:2:3:4:5:6:7", "1:2:3:4:5:100", "1:2:3::5:6"})
    EXPECT_FALSE(parse_mac(bad)) << bad;
}

}  // namespace
}  // namespace limen::net
