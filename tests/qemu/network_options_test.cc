#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "qemu/command_line.h"

namespace limen::qemu {
namespace {

using machine::MachineDescription;
using testing::HasSubstr;

Result<CommandLine> parse(std::vector<std::string> words) {
  words.insert(words.begin(), {"-nographic", "-kernel", "vmlinuz"});
  return parse_command_line("limen-system-x86_64", words);
}
MachineDescription machine(std::vector<std::string> words) {
  auto line = parse(std::move(words));
  EXPECT_TRUE(line) << line.error().message;
  return line ? line->machine : MachineDescription{};
}
std::string error(std::vector<std::string> words) {
  const auto line = parse(std::move(words));
  EXPECT_FALSE(line);
  return line ? "" : line.error().message;
}
const net::UserOptions& user(const MachineDescription& description, size_t index = 0) {
  return std::get<net::UserOptions>(description.netdevs.at(index).backend.options);
}

TEST(NetworkOptions, NothingSaidIsOneE1000BeforeAUserNetwork) {
  const auto description = machine({});
  ASSERT_EQ(description.netdevs.size(), 1u);
  EXPECT_FALSE(user(description).restricted);
  ASSERT_EQ(description.devices.size(), 1u);
  EXPECT_EQ(description.devices[0].driver, "e1000");
  EXPECT_EQ(description.devices[0].properties.at("netdev"), description.netdevs[0].backend.id);
}

TEST(NetworkOptions, NoneAndNodefaultsAndOnesOwnCardLeaveTheDefaultOut) {
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"-net", "none"}, {"-nic", "none"}, {"-nodefaults"}}) {
    EXPECT_TRUE(machine(words).devices.empty());
    EXPECT_TRUE(machine(words).netdevs.empty());
  }
  const auto own = machine({"-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n"});
  EXPECT_EQ(own.devices.size(), 1u);
  EXPECT_EQ(own.netdevs.size(), 1u);
}

TEST(NetworkOptions, NetdevIsReadAsWordsAndAsJson) {
  const auto words = machine({"-netdev",
                              "user,id=n0,restrict=on,net=192.168.7.0/24,hostfwd=tcp::2222-:22,"
                              "hostfwd=udp::53-:53,dnssearch=a,dnssearch=b",
                              "-device", "virtio-net-pci,netdev=n0"});
  const auto json = machine({"-netdev",
                             R"({"type":"user","id":"n0","restrict":true,"net":"192.168.7.0/24",)"
                             R"("hostfwd":[{"str":"tcp::2222-:22"},{"str":"udp::53-:53"}],)"
                             R"("dnssearch":[{"str":"a"},{"str":"b"}]})",
                             "-device", "virtio-net-pci,netdev=n0"});
  for (const auto* description : {&words, &json}) {
    EXPECT_TRUE(user(*description).restricted);
    EXPECT_EQ(user(*description).net, "192.168.7.0/24");
    EXPECT_THAT(user(*description).host_forwards,
                testing::ElementsAre("tcp::2222-:22", "udp::53-:53"));
    EXPECT_THAT(user(*description).dns_search, testing::ElementsAre("a", "b"));
  }
  const auto stream =
      machine({"-netdev", R"({"type":"stream","id":"s","addr":{"type":"unix","path":"/run/x"}})",
               "-device", "virtio-net-pci,netdev=s"});
  const auto& options = std::get<net::StreamOptions>(stream.netdevs[0].backend.options);
  EXPECT_EQ(options.address.path, "/run/x");
  EXPECT_FALSE(options.server);
}

TEST(NetworkOptions, NicIsACardAndItsBackEnd) {
  const auto description = machine({"-nic", "user,model=virtio,mac=52:54:00:00:00:09,restrict=on",
                                    "-nic", "tap,ifname=t0,script=no"});
  ASSERT_EQ(description.devices.size(), 2u);
  EXPECT_EQ(description.devices[0].driver, "virtio-net-pci");
  EXPECT_EQ(description.devices[0].properties.at("mac"), "52:54:00:00:00:09");
  EXPECT_EQ(description.devices[1].driver, "e1000");
  EXPECT_TRUE(user(description).restricted);
  const auto& tap = std::get<net::TapOptions>(description.netdevs[1].backend.options);
  EXPECT_EQ(tap.interface, "t0");
}

TEST(NetworkOptions, NetPlugsCardsAndBackEndsIntoOneHub) {
  const auto description = machine(
      {"-net", "nic,model=virtio,macaddr=52:54:00:00:00:09", "-net", "user,hostfwd=tcp::1-:1"});
  ASSERT_EQ(description.netdevs.size(), 3u);  // the user network and two ports of a hub
  ASSERT_EQ(description.devices.size(), 1u);
  const auto& card = std::get<net::HubOptions>(description.netdevs[0].backend.options);
  const auto& back_end = std::get<net::HubOptions>(description.netdevs[2].backend.options);
  EXPECT_EQ(card.hub, back_end.hub);
  EXPECT_EQ(card.netdev, "");
  EXPECT_EQ(back_end.netdev, description.netdevs[1].backend.id);
  EXPECT_EQ(description.devices[0].properties.at("netdev"), description.netdevs[0].backend.id);
}

TEST(NetworkOptions, AreRefusedInQemusWords) {
  EXPECT_THAT(error({"-netdev", "user,id=n", "-netdev", "user,id=n"}),
              HasSubstr("-netdev user,id=n: Duplicate ID 'n' for netdev"));
  EXPECT_THAT(error({"-netdev", "user"}), HasSubstr("Parameter 'id' is missing"));
  EXPECT_THAT(error({"-netdev", "usr,id=n"}),
              HasSubstr("Parameter 'type' does not accept value 'usr'"));
  EXPECT_THAT(error({"-device", "e1000,netdev=nope"}),
              HasSubstr("Property 'e1000.netdev' can't find value 'nope'"));
  EXPECT_THAT(error({"-nic", "user,model=e100"}), HasSubstr("Unsupported NIC model: e100"));
  EXPECT_THAT(error({"-nic", "user,mac=zz"}), HasSubstr("invalid syntax for ethernet address"));
  EXPECT_THAT(error({"-net", "nic,macaddr=01:00:00:00:00:00"}),
              HasSubstr("NIC cannot have multicast MAC address"));
  EXPECT_THAT(error({"-net", "nic,foo=1"}), HasSubstr("Invalid parameter 'foo'"));
  EXPECT_THAT(error({"-netdev", "{\"type\":"}), HasSubstr("JSON parse error"));
  EXPECT_THAT(error({"-netdev", R"({"type":{"a":[[]]},"id":"n"})"}),
              HasSubstr("Invalid parameter type"));
}

TEST(NetworkOptions, HelpListsTypesAndModels) {
  EXPECT_THAT(*parse({"-netdev", "help"})->print, HasSubstr("stream"));
  EXPECT_THAT(*parse({"-nic", "model=help"})->print, HasSubstr("e1000"));
  EXPECT_THAT(*parse({"-net", "nic,model=help"})->print, HasSubstr("virtio-net-pci"));
}

}  // namespace
}  // namespace limen::qemu
