// Networks, objects and character back ends that come and go on a whole machine.
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>

#include "base/unique_fd.h"
#include "monitor/monitor_fixture.h"

namespace limen::monitor {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

class PlugCommands : public testing::MonitorTest {
 protected:
  PlugCommands() {
    description_.devices.push_back({"pcie-root-port", {{"id", "port1"}, {"chassis", "1"}}});
    description_.devices.push_back({"pcie-root-port", {{"id", "port2"}, {"chassis", "2"}}});
  }
  Json card(const std::string& id, const std::string& netdev, const std::string& bus) {
    return {{"driver", "virtio-net-pci"}, {"id", id}, {"netdev", netdev}, {"bus", bus}};
  }
};

TEST_F(PlugCommands, NetdevsComeAndGo) {
  start();
  EXPECT_EQ(error("set_link", {{"name", "n0"}, {"up", false}}),
            "DeviceNotFound: Device 'n0' not found");
  EXPECT_EQ(error("netdev_del", {{"id", "n0"}}), "DeviceNotFound: Device 'n0' not found");
  run("netdev_add", {{"type", "user"},
                     {"id", "n0"},
                     {"restrict", true},
                     {"hostfwd", {{{"str", "tcp:127.0.0.1:0-:22"}}}},
                     {"ipv6-prefixlen", 64}});
  EXPECT_EQ(error("netdev_add", {{"type", "user"}, {"id", "n0"}}),
            "GenericError: Duplicate ID 'n0' for netdev");
  EXPECT_EQ(error("netdev_add", {{"type", "user"}, {"id", "0"}}).substr(0, 50),
            "GenericError: Parameter 'id' expects an identifier");
  EXPECT_EQ(error("netdev_add", {{"type", "user"}}), "GenericError: Parameter 'id' is missing");
  EXPECT_THAT(error("netdev_add", {{"type", "vde"}, {"id", "n1"}}),
              StartsWith("GenericError: Parameter 'type' does not accept value 'vde'"));
  EXPECT_EQ(error("netdev_add", {{"type", "user"}, {"id", "n1"}, {"ifname", "x"}}),
            "GenericError: Parameter 'ifname' is unexpected");
  EXPECT_THAT(
      error("netdev_add", {{"type", "user"}, {"id", "n1"}, {"hostfwd", {{{"str", "nonsense"}}}}}),
      HasSubstr("Invalid host forwarding rule 'nonsense'"));
  run("netdev_add", {{"type", "hubport"}, {"id", "h0"}, {"hubid", 1}});
  EXPECT_THAT(type("info network"), HasSubstr("n0: index=0,type=user,net=10.0.2.0,restrict=on"));
  EXPECT_THAT(type("info network"), HasSubstr("h0: index=0,type=hubport"));
  EXPECT_THAT(type("info usernet"), HasSubstr("TCP[HOST_FORWARD]"));
  run("netdev_del", {{"id", "n0"}});
  EXPECT_EQ(type("info usernet"), "");
}

TEST_F(PlugCommands, DescriptorsOfNetdevsMayHaveNames) {
  start();
  const auto hand_over = [this](const char* name) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    std::vector<UniqueFd> sent;
    sent.emplace_back(ends[0]);
    dispatcher_->descriptors().arrived(std::move(sent));
    run("getfd", {{"fdname", name}});
    return UniqueFd(ends[1]);
  };
  const auto is_closed = [](const UniqueFd& other) {
    const char byte = 0;
    return ::send(other.get(), &byte, 1, MSG_NOSIGNAL) < 0;
  };
  const auto netdev = [](const char* id, const char* descriptor) {
    return Json{{"type", "dgram"}, {"id", id}, {"local", {{"type", "fd"}, {"str", descriptor}}}};
  };
  const UniqueFd wire = hand_over("wire");
  run("netdev_add", netdev("n0", "wire"));
  EXPECT_EQ(error("netdev_add", netdev("n1", "wire")),
            "GenericError: File descriptor named 'wire' not found");
  // One that comes to nothing keeps nothing.
  const UniqueFd lost = hand_over("lost");
  EXPECT_EQ(error("netdev_add", netdev("n0", "lost")),
            "GenericError: Duplicate ID 'n0' for netdev");
  EXPECT_TRUE(is_closed(lost));
  EXPECT_FALSE(is_closed(wire));
  run("netdev_del", {{"id", "n0"}});
  EXPECT_TRUE(is_closed(wire));
}

TEST_F(PlugCommands, CardsArePluggedAndShown) {
  start();
  run("netdev_add", {{"type", "user"}, {"id", "n0"}});
  EXPECT_EQ(error("device_add", card("c0", "n9", "port1")),
            "GenericError: Property 'virtio-net-pci.netdev' can't find value 'n9'; did you mean "
            "'n0'?");
  run("device_add", card("c0", "n0", "port1"));
  EXPECT_THAT(error("device_add", card("c1", "n0", "port2")), HasSubstr("it's in use"));
  EXPECT_EQ(error("device_add", card("c0", "n0", "port2")),
            "GenericError: Duplicate device ID 'c0'");
  EXPECT_THAT(
      type("info network"),
      HasSubstr("c0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\r\n \\ n0: "));
  const Json list = run("qom-list", {{"path", "/machine/peripheral"}});
  EXPECT_EQ(list.back(), (Json{{"name", "c0"}, {"type", "child<virtio-net-pci>"}}));
  EXPECT_EQ(run("qom-get", {{"path", "/machine/peripheral/c0"}, {"property", "netdev"}}), "n0");
  const auto buses = run("query-pci");
  for (const auto& device : buses[0]["devices"])
    if (device["qdev_id"] == "port1") {
      const auto& behind = device["pci_bridge"]["devices"];
      ASSERT_EQ(behind.size(), 1u);
      EXPECT_EQ(behind[0]["qdev_id"], "c0");
      EXPECT_EQ(behind[0]["bus"], device["pci_bridge"]["bus"]["secondary"]);
    }
  EXPECT_THAT(type("info pci"), HasSubstr("secondary bus 1.\r\n"));
  EXPECT_THAT(type("info pci"), HasSubstr("Bus  1, device   0, function 0:"));
  run("set_link", {{"name", "c0"}, {"up", false}});
  EXPECT_THAT(type("info network"), HasSubstr("macaddr=52:54:00:12:34:56,link=off"));
  EXPECT_EQ(type("set_link c0 on"), "");
  EXPECT_EQ(error("netdev_del", {{"id", "c0"}}), "GenericError: Device 'c0' is not a netdev");
  // What is behind a card may go before it.
  run("netdev_del", {{"id", "n0"}});
  EXPECT_THAT(type("info network"), HasSubstr("c0: "));
}

TEST_F(PlugCommands, WhatIsUnpluggedIsNoLongerListed) {
  std::ofstream(folder_ / "disk") << std::string(4096, 'd');
  description_.drives.push_back(
      {.id = "d0", .file = folder_ / "disk", .format = "raw", .interface = "none"});
  description_.devices.push_back({"virtio-scsi-pci", {{"id", "scsi0"}}});
  start();
  const auto listed = [&] {
    const auto text = run("qom-list", {{"path", "/machine/peripheral"}}).dump();
    return text.find("\"hd0\"") != std::string::npos;
  };
  run("device_add", {{"driver", "scsi-hd"}, {"id", "hd0"}, {"drive", "d0"}, {"bus", "scsi0.0"}});
  EXPECT_TRUE(listed());
  run("device_del", {{"id", "hd0"}});
  poll();
  EXPECT_EQ(events_.back(), "DEVICE_DELETED");
  EXPECT_FALSE(listed());
  run("device_add", {{"driver", "scsi-hd"}, {"id", "hd0"}, {"drive", "d0"}, {"bus", "scsi0.0"}});
  EXPECT_TRUE(listed());
}

TEST_F(PlugCommands, PeopleTypeOptionsAsOnTheCommandLine) {
  start();
  EXPECT_EQ(type("netdev_add user,id=n0,net=10.1.0.0/16"), "");
  EXPECT_THAT(type("netdev_add user"), StartsWith("Error: Parameter 'id' is missing"));
  EXPECT_EQ(type("device_add virtio-net-pci,id=c0,netdev=n0,bus=port1"), "");
  EXPECT_EQ(type("hostfwd_add n0 tcp:127.0.0.1:0-:80"), "");
  EXPECT_EQ(type("hostfwd_add nowhere tcp::0-:80"), "unrecognized netdev id 'nowhere'\r\n");
  EXPECT_THAT(type("hostfwd_add tcp::0"), StartsWith("Invalid host forwarding rule"));
  EXPECT_EQ(type("hostfwd_remove n0 tcp:127.0.0.1:1"),
            "host forwarding rule for tcp:127.0.0.1:1 not found\r\n");
  EXPECT_EQ(type("hostfwd_remove n0 nonsense"), "invalid format\r\n");
  EXPECT_EQ(type("set_link nobody off"), "Error: Device 'nobody' not found\r\n");
  EXPECT_EQ(type("set_link c0 up"), "set_link: Expected 'on' or 'off', not 'up'\r\n");
  EXPECT_EQ(type("device_del c0"), "");
  EXPECT_EQ(type("object_add iothread,id=t"), "");
  EXPECT_THAT(type("info iothreads"), MatchesRegex("t:\r\n  thread_id=[0-9]+\r\n.*"));
  EXPECT_EQ(type("object_del t"), "");
  EXPECT_EQ(type("object_del t"), "Error: object 't' not found\r\n");
}

TEST_F(PlugCommands, HostForwardsAreMadeAndRemoved) {
  start();
  const UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(probe.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const auto rule = fmt::format("tcp:127.0.0.1:{}", ntohs(address.sin_port));
  run("netdev_add", {{"type", "user"}, {"id", "n0"}});
  EXPECT_THAT(type("hostfwd_add " + rule + "-:22"),
              StartsWith("Could not set up host forwarding rule"));
  ASSERT_EQ(::close(probe.get()), 0);
  static_cast<void>(::dup2(::open("/dev/null", O_RDONLY), probe.get()));
  EXPECT_EQ(type("hostfwd_add " + rule + "-:22"), "");
  EXPECT_THAT(type("hostfwd_remove " + rule), HasSubstr("removed"));
  EXPECT_THAT(type("hostfwd_remove " + rule), HasSubstr("not found"));
}

TEST_F(PlugCommands, ObjectsComeAndGo) {
  description_.objects.push_back({.type = "iothread", .id = "io0"});
  std::ofstream(folder_ / "disk") << std::string(4096, 'd');
  description_.drives.push_back({.id = "d0", .file = folder_ / "disk", .interface = "none"});
  description_.devices.push_back({"virtio-blk-pci", {{"drive", "d0"}, {"iothread", "io0"}}});
  start();
  EXPECT_EQ(error("object-del", {{"id", "io0"}}),
            "GenericError: object 'io0' is in use, can not be deleted");
  run("object-add", {{"qom-type", "iothread"}, {"id", "io1"}, {"poll-max-ns", 100}});
  const Json threads = run("query-iothreads");
  ASSERT_EQ(threads.size(), 2u);
  EXPECT_EQ(threads[1]["id"], "io1");
  EXPECT_EQ(threads[1]["poll-max-ns"], 100);
  EXPECT_EQ(
      ::access(fmt::format("/proc/self/task/{}", threads[1]["thread-id"].dump()).c_str(), F_OK), 0);
  EXPECT_EQ(error("object-add", {{"qom-type", "iothread"}, {"id", "io1"}}),
            "GenericError: attempt to add duplicate property 'io1' to object (type 'container')");
  EXPECT_EQ(run("qom-get", {{"path", "/objects/io1"}, {"property", "poll-max-ns"}}), 100);
  run("object-del", {{"id", "io1"}});
  EXPECT_EQ(run("query-iothreads").size(), 1u);

  run("object-add", {{"qom-type", "throttle-group"},
                     {"id", "g"},
                     {"limits", {{"iops-total", 100}, {"iops-total-max", 200}}}});
  EXPECT_THAT(error("object-add", {{"qom-type", "throttle-group"},
                                   {"id", "g2"},
                                   {"limits", {{"iops-total", 1}, {"iops-read", 1}}}}),
              HasSubstr("cannot be used at the same time"));
  run("object-del", {{"id", "g"}});
  run("object-add", {{"qom-type", "rng-builtin"}, {"id", "r"}});
  EXPECT_EQ(run("qom-get", {{"path", "/objects/r"}, {"property", "type"}}), "rng-builtin");
  run("device_add", {{"driver", "virtio-rng-pci"}, {"id", "x"}, {"rng", "r"}, {"bus", "port1"}});
  EXPECT_EQ(error("object-del", {{"id", "r"}}),
            "GenericError: object 'r' is in use, can not be deleted");
}

TEST_F(PlugCommands, SecretsAreCheckedAndKept) {
  start();
  const auto add = [&](Json properties) {
    properties["qom-type"] = "secret";
    properties["id"] = "s";
    return properties;
  };
  EXPECT_EQ(error("object-add", add({})), "GenericError: Must provide 'file' or 'data'");
  EXPECT_EQ(error("object-add", add({{"data", "a"}, {"file", "b"}})),
            "GenericError: 'file' and 'data' are mutually exclusive");
  EXPECT_EQ(error("object-add", add({{"data", "!"}, {"format", "base64"}})),
            "GenericError: Base64 data '!' is not valid");
  EXPECT_THAT(error("object-add", add({{"file", folder_ / "nothing"}})),
              HasSubstr("No such file or directory"));
  EXPECT_THAT(error("object-add", add({{"data", "a"}, {"format", "hex"}})),
              HasSubstr("does not accept value 'hex'"));
  std::ofstream(folder_ / "key") << "c2VjcmV0\n";
  run("object-add", add({{"file", folder_ / "key"}, {"format", "base64"}}));
  for (const auto& property : run("qom-list", {{"path", "/objects/s"}}))
    EXPECT_NE(property["name"], "data");
  run("object-del", {{"id", "s"}});
}

TEST_F(PlugCommands, MachinesMemoryIsABackEnds) {
  description_.objects.push_back(
      {.type = "memory-backend-memfd", .id = "ram", .properties = {{"size", "16M"}}});
  description_.memory_backend = "ram";
  start();
  const Json all = run("query-memdev");
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0]["id"], "ram");
  EXPECT_EQ(all[0]["size"], 16 << 20);
  EXPECT_EQ(all[0]["share"], true);
  EXPECT_EQ(error("object-del", {{"id", "ram"}}),
            "GenericError: object 'ram' is in use, can not be deleted");
  EXPECT_NE(::fcntl(machine_->memory()->fd(), F_GET_SEALS) & F_SEAL_SHRINK, 0);
  run("object-add", {{"qom-type", "memory-backend-ram"}, {"id", "more"}, {"size", 4096}});
  EXPECT_THAT(type("info memdev"), HasSubstr("memory backend: more\r\n  size:  4096\r\n"));
  run("object-del", {{"id", "more"}});
  EXPECT_THAT(error("object-add", {{"qom-type", "memory-backend-ram"}, {"id", "x"}, {"size", 0}}),
              HasSubstr("doesn't take value '0'"));
  EXPECT_THAT(error("object-add", {{"qom-type", "memory-backend-file"},
                                   {"id", "x"},
                                   {"size", 4096},
                                   {"mem-path", "/nonexistent/file"}}),
              HasSubstr("can't open backing store /nonexistent/file for guest RAM"));
}

TEST_F(PlugCommands, MemoryInAFileIsSharedOnlyIfItIsSaidTo) {
  for (const bool share : {false, true}) {
    const auto path = folder_ / (share ? "shared" : "private");
    description_.objects = {
        {.type = "memory-backend-file",
         .id = "ram",
         .properties = {{"size", "16M"}, {"mem-path", path}, {"share", share ? "on" : "off"}}}};
    description_.memory_backend = "ram";
    start();
    // The kernel was loaded at 1 MiB.
    std::ifstream file(path, std::ios::binary);
    file.seekg(0x100020);
    EXPECT_EQ(file.get(), share ? 0xB8 : 0);
    const std::byte byte{1};
    EXPECT_TRUE(machine_->memory()->write({0x200000}, {&byte, 1}));
  }
}

TEST_F(PlugCommands, CharacterBackEndIsExchangedUnderItsFrontEnd) {
  description_.characters.push_back(
      {.id = "serial0", .kind = machine::CharacterDescription::Kind::kRing});
  description_.serials.push_back("serial0");
  start();
  const auto say = [&](char c) {
    machine_->board()->ports().write(0x3F8, 1, static_cast<uint8_t>(c));
    poll();
  };
  say('a');
  EXPECT_EQ(run("ringbuf-read", {{"device", "serial0"}, {"size", 9}}), "a");
  const auto path = folder_ / "output";
  run("chardev-change",
      {{"id", "serial0"}, {"backend", {{"type", "file"}, {"data", {{"out", path}}}}}});
  say('b');
  std::string text;
  std::ifstream(path) >> text;
  EXPECT_EQ(text, "b");
  EXPECT_EQ(error("ringbuf-read", {{"device", "serial0"}, {"size", 9}}),
            "GenericError: serial0 is not a ringbuf device");
  const Json null = {{"type", "null"}, {"data", Json::object()}};
  EXPECT_EQ(error("chardev-change", {{"id", "x"}, {"backend", null}}),
            "GenericError: Chardev 'x' does not exist");
  EXPECT_THAT(
      error("chardev-change", {{"id", "serial0"},
                               {"backend", {{"type", "file"}, {"data", {{"out", "/nowhere/x"}}}}}}),
      HasSubstr("/nowhere/x"));
  say('c');
  std::ifstream(path) >> text;
  EXPECT_EQ(text, "bc") << "an exchange that fails changes nothing";
  run("chardev-send-break", {{"id", "serial0"}});
  constexpr uint8_t kBreak = 0x10;
  EXPECT_NE(machine_->board()->ports().read(0x3FD, 1) & kBreak, 0u);
  EXPECT_EQ(error("chardev-send-break", {{"id", "x"}}), "GenericError: Chardev 'x' not found");
}

TEST_F(PlugCommands, DatagramsGoBothWays) {
  description_.serials.push_back("serial0");
  const UniqueFd peer(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(peer.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::getsockname(peer.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  description_.characters.push_back({.id = "serial0"});
  start();
  const Json remote = {
      {"type", "inet"},
      {"data", {{"host", "127.0.0.1"}, {"port", std::to_string(ntohs(address.sin_port))}}}};
  run("chardev-change",
      {{"id", "serial0"}, {"backend", {{"type", "udp"}, {"data", {{"remote", remote}}}}}});
  machine_->board()->ports().write(0x3F8, 1, 'u');
  poll();
  char byte = 0;
  sockaddr_in from{};
  size = sizeof from;
  ASSERT_EQ(::recvfrom(peer.get(), &byte, 1, 0, reinterpret_cast<sockaddr*>(&from), &size), 1);
  EXPECT_EQ(byte, 'u');
  ASSERT_EQ(::sendto(peer.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&from), size), 1);
  for (int i = 0; i < 100 && (machine_->board()->ports().read(0x3FD, 1) & 1) == 0; ++i) poll();
  EXPECT_EQ(machine_->board()->ports().read(0x3F8, 1), 'x');
  const Json no_port = {{"type", "inet"}, {"data", {{"host", "127.0.0.1"}, {"port", ""}}}};
  EXPECT_THAT(error("chardev-add",
                    {{"id", "u"}, {"backend", {{"type", "udp"}, {"data", {{"remote", no_port}}}}}}),
              HasSubstr("remote port not specified"));
}

TEST_F(PlugCommands, GuestsClockChangeIsTold) {
  start();
  auto& ports = machine_->board()->ports();
  const auto write = [&](uint8_t index, uint8_t value) {
    ports.write(0x70, 1, index);
    ports.write(0x71, 1, value);
  };
  constexpr uint8_t kYear = 9, kRegisterB = 0xB;
  ports.write(0x70, 1, kRegisterB);
  const auto b = static_cast<uint8_t>(ports.read(0x71, 1));
  write(kRegisterB, b | 0x80);
  write(kYear, 0x35);
  write(kRegisterB, b);
  poll();
  ASSERT_EQ(events_.back(), "RTC_CHANGE");
  EXPECT_GT(last_data_["offset"].get<int64_t>(), 3 * 365 * 86400);
}

}  // namespace
}  // namespace limen::monitor
