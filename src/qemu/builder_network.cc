// -netdev, -nic and -net: network cards and what stands behind them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/nearest.h"
#include "machine/microvm.h"
#include "net/json_parameters.h"
#include "net/options.h"
#include "qemu/builder.h"
#include "qemu/key_values.h"

namespace limen::qemu {
namespace {

/// What -nic's model= and -net nic's take, and the device that it is.
struct Model {
  std::string_view name;
  std::string_view driver;
};
constexpr std::array<Model, 5> kModels = {{
    {"e1000", "e1000"},
    {"e1000-82540em", "e1000"},
    {"virtio-net-pci", "virtio-net-pci"},
    {"virtio", "virtio-net-pci"},
    {"virtio-net-device", "virtio-net-device"},
}};

std::string model_list() {
  std::string text = "Supported NIC models:\n";
  for (const auto& model : kModels) text += fmt::format("{}\n", model.name);
  return text;
}

Result<std::string> driver_of(const std::string& model) {
  if (model.empty()) return std::string();  // the board decides
  const auto found = std::ranges::find(kModels, std::string_view(model), &Model::name);
  if (found != kModels.end()) return std::string(found->driver);
  std::vector<std::string_view> names;
  names.reserve(kModels.size());
  for (const auto& each : kModels) names.push_back(each.name);
  return fail("Unsupported NIC model: {}{}", model, choice_hint(model, names));
}

Result<net::Parameters> read_parameters(const std::string& argument) {
  if (!argument.starts_with('{')) {
    const auto values = LIMEN_TRY(KeyValues::parse(argument, "type"));
    return values.pairs();
  }
  return net::json_parameters(nlohmann::json::parse(argument, nullptr, false));
}

std::string take(net::Parameters& parameters, std::string_view key) {
  std::string value;
  std::erase_if(parameters, [&](auto& pair) {
    if (pair.first != key) return false;
    value = std::move(pair.second);
    return true;
  });
  return value;
}

/// "help" in place of a type.
bool wants_types(const net::Parameters& parameters) {
  return !parameters.empty() && parameters[0].first == "type" &&
         (parameters[0].second == "help" || parameters[0].second == "?");
}

std::string backend_list() {
  std::string text = "Available netdev backend types:\n";
  for (const auto type : net::backend_types()) text += fmt::format("{}\n", type);
  return text;
}

/// An address as -nic and -net take it: checked before there is a card.
Result<> check_mac(const std::string& mac) {
  if (mac.empty()) return {};
  const auto parsed = LIMEN_TRY(net::parse_mac(mac));
  if ((parsed[0] & 1) != 0) return fail("NIC cannot have multicast MAC address");
  return {};
}

}  // namespace

Result<> Builder::add_netdev(const net::Parameters& parameters, const std::string& origin) {
  auto backend = LIMEN_TRY(net::parse_backend(parameters));
  for (const auto& other : result_.machine.netdevs)
    if (other.backend.id == backend.id) return fail("Duplicate ID '{}' for netdev", backend.id);
  result_.machine.netdevs.push_back({std::move(backend), origin});
  return {};
}

void Builder::add_nic(std::string driver, const std::string& netdev, const std::string& mac,
                      const std::string& address) {
  machine::DeviceDescription nic{.driver = std::move(driver), .properties = {}};
  nic.properties["netdev"] = netdev;
  if (!mac.empty()) nic.properties["mac"] = mac;
  if (!address.empty()) nic.properties["addr"] = address;
  nics_.push_back(std::move(nic));
}

Result<> Builder::netdev(const std::string& argument) {
  const auto parameters = LIMEN_TRY(read_parameters(argument));
  if (wants_types(parameters)) {
    print(backend_list());
    return {};
  }
  return add_netdev(parameters, "-netdev " + argument);
}

/// -nic: a back end and the card before it, in one.
Result<> Builder::nic(const std::string& argument) {
  network_chosen_ = true;
  auto parameters = LIMEN_TRY(read_parameters(argument));
  if (wants_types(parameters)) {
    print(backend_list());
    return {};
  }
  const auto type =
      std::ranges::find(parameters, "type", &std::pair<std::string, std::string>::first);
  if (type == parameters.end()) {
    parameters.emplace_back("type", "user");
  } else if (type->second == "none") {
    if (parameters.size() > 1) return fail("Invalid parameter '{}'", parameters[1].first);
    return {};
  }
  std::string model = take(parameters, "model");
  std::string mac = take(parameters, "mac");
  if (mac.empty()) mac = take(parameters, "macaddr");
  if (model == "help" || model == "?") {
    print(model_list());
    return {};
  }
  LIMEN_TRY(check_mac(mac));
  const auto driver = LIMEN_TRY(driver_of(model));
  if (std::ranges::find(parameters, "id", &std::pair<std::string, std::string>::first) ==
      parameters.end())
    parameters.emplace_back("id", fmt::format("#net{}", result_.machine.netdevs.size()));
  LIMEN_TRY(add_netdev(parameters, "-nic " + argument));
  add_nic(driver, result_.machine.netdevs.back().backend.id, mac, {});
  return {};
}

/// -net: a card, or a back end, plugged into a hub with all others of -net.
Result<> Builder::network(const std::string& argument) {
  network_chosen_ = true;
  auto parameters = LIMEN_TRY(read_parameters(argument));
  const std::string type = parameters.empty() ? "" : parameters[0].second;
  if (type == "none") return {};
  if (wants_types(parameters)) {
    print(backend_list());
    return {};
  }
  const auto new_id = [this] { return fmt::format("#net{}", result_.machine.netdevs.size()); };
  const auto add_hub_port = [&](const std::string& netdev) -> Result<std::string> {
    auto id = new_id();
    net::Parameters port = {{"type", "hubport"}, {"id", id}, {"hubid", "0"}};
    if (!netdev.empty()) port.emplace_back("netdev", netdev);
    LIMEN_TRY(add_netdev(port, "-net " + argument));
    return id;
  };
  if (type != "nic") {
    if (type == "hubport")
      return fail("Parameter 'type' does not accept value 'hubport'; use -netdev hubport");
    if (take(parameters, "name").empty() &&
        std::ranges::find(parameters, "id", &std::pair<std::string, std::string>::first) ==
            parameters.end())
      parameters.emplace_back("id", new_id());
    LIMEN_TRY(add_netdev(parameters, "-net " + argument));
    LIMEN_TRY(add_hub_port(result_.machine.netdevs.back().backend.id));
    return {};
  }
  const std::string model = take(parameters, "model"), mac = take(parameters, "macaddr"),
                    address = take(parameters, "addr");
  std::string netdev = take(parameters, "netdev");
  take(parameters, "name");
  take(parameters, "vectors");
  take(parameters, "id");
  if (model == "help" || model == "?") {
    print(model_list());
    return {};
  }
  if (parameters.size() > 1) return fail("Invalid parameter '{}'", parameters[1].first);
  LIMEN_TRY(check_mac(mac));
  const auto driver = LIMEN_TRY(driver_of(model));
  if (netdev.empty()) netdev = LIMEN_TRY(add_hub_port({}));
  add_nic(driver, netdev, mac, address);
  return {};
}

/// The cards of -nic and -net, and the one that QEMU adds when nothing was said.
Result<> Builder::finish_network() {
  const bool any_device = std::ranges::any_of(result_.machine.devices, [](const auto& device) {
    return device.properties.contains("netdev") || device.driver.starts_with("virtio-net") ||
           device.driver == "e1000";
  });
  if (!network_chosen_ && !no_defaults_ && !any_device && result_.machine.netdevs.empty())
    LIMEN_TRY(nic("user"));
  for (auto& card : nics_) {
    if (card.driver.empty())
      card.driver = machine::has_pci(result_.machine) ? "e1000" : "virtio-net-device";
    result_.machine.devices.push_back(std::move(card));
  }
  nics_.clear();
  for (const auto& device : result_.machine.devices) {
    const auto wanted = device.properties.find("netdev");
    if (wanted == device.properties.end()) continue;
    std::vector<std::string_view> ids;
    ids.reserve(result_.machine.netdevs.size());
    for (const auto& netdev : result_.machine.netdevs) ids.push_back(netdev.backend.id);
    if (std::ranges::find(ids, std::string_view(wanted->second)) == ids.end())
      return fail("-device {},netdev={}: Property '{}.netdev' can't find value '{}'{}",
                  device.driver, wanted->second, device.driver, wanted->second,
                  choice_hint(wanted->second, ids));
  }
  return {};
}

}  // namespace limen::qemu
