#include "cli/network_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "machine/device_catalog.h"
#include "net/options.h"
#include "qemu/key_values.h"

namespace limen::cli {
namespace {

bool is_port(std::string_view text) {
  const auto number = machine::parse_number(text);
  constexpr uint64_t kLast = 65535;
  return number && *number <= kLast && !text.starts_with('0');
}

/// 127.0.0.1:2222:22 as hostfwd=tcp:127.0.0.1:2222-:22. Without an address the port is this host's
/// alone: the guest is not put on the network by accident.
Result<std::string> host_forward(std::string_view text) {
  std::string_view words = text, protocol = "tcp";
  if (const size_t slash = words.find('/'); slash != std::string_view::npos) {
    protocol = words.substr(slash + 1);
    words = words.substr(0, slash);
  }
  const size_t last = words.rfind(':');
  const size_t before = last == std::string_view::npos ? last : words.substr(0, last).rfind(':');
  const bool has_address = before != std::string_view::npos;
  const auto address = has_address ? words.substr(0, before) : "127.0.0.1";
  const auto port = last == std::string_view::npos
                        ? std::string_view()
                        : words.substr(has_address ? before + 1 : 0,
                                       last - (has_address ? before + 1 : 0));
  const auto guest_port = last == std::string_view::npos ? words : words.substr(last + 1);
  if (!is_port(port) || !is_port(guest_port) || (protocol != "tcp" && protocol != "udp"))
    return fail("--publish {}: should be [ADDRESS:]PORT:GUEST_PORT, with /udp behind it for UDP",
                text);
  return fmt::format("{}:{}:{}-:{}", protocol, address, port, guest_port);
}

}  // namespace

void add_network_options(CLI::App& command, NetworkWords& words) {
  command
      .add_option("--network", words.network,
                  "user (default), none, or what QEMU's -netdev takes: tap,ifname=tap0")
      ->type_name("WHERE");
  command
      .add_option("-p,--publish", words.published,
                  "lead a port of this host to one of the guest's: 2222:22; may be given several "
                  "times")
      ->type_name("[ADDRESS:]PORT:GUEST_PORT")
      ->allow_extra_args(false);
}

Result<> describe_network(const NetworkWords& words, machine::MachineDescription& description) {
  constexpr const char* kId = "net0";
  const auto values = LIMEN_TRY(qemu::KeyValues::parse(words.network, "type"));
  const auto type = values.text("type");
  if (!words.published.empty() && type != "user")
    return fail("--publish {}: only --network user leads ports to the guest, not '{}'",
                words.published.front(), type);
  if (words.network == "none") return {};
  net::Parameters parameters = values.pairs();
  if (values.find("id")) return fail("--network {}: an id is of no use here", words.network);
  parameters.emplace_back("id", kId);
  for (const auto& published : words.published)
    parameters.emplace_back("hostfwd", LIMEN_TRY(host_forward(published)));
  auto backend = net::parse_backend(parameters);
  if (!backend) return fail("--network {}: {}", words.network, backend.error().message);
  description.netdevs.push_back({.backend = std::move(*backend), .origin = "--network " + words.network});
  description.devices.push_back({.driver = "virtio-net-pci", .properties = {{"netdev", kId}}});
  return {};
}

}  // namespace limen::cli
