#include "machine/block_node.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/identifier.h"
#include "base/nearest.h"
#include "block/image_tool.h"
#include "machine/device_catalog.h"

namespace limen::machine {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 7> kDrivers = {"file",     "host_device", "raw",     "qcow2",
                                                      "throttle", "null-co",     "null-aio"};
constexpr std::array<std::string_view, 17> kKeys = {
    "driver",      "node-name",   "filename",       "file",       "read-only", "auto-read-only",
    "discard",     "cache",       "detect-zeroes",  "aio",        "locking",   "backing",
    "force-share", "read-zeroes", "throttle-group", "latency-ns", "size"};
constexpr std::array<std::string_view, 2> kCacheKeys = {"direct", "no-flush"};
constexpr std::array<std::string_view, 3> kAio = {"threads", "native", "io_uring"};
constexpr std::array<std::string_view, 4> kDiscards = {"unmap", "on", "ignore", "off"};
constexpr std::array<std::string_view, 3> kDetectZeroes = {"off", "on", "unmap"};
constexpr size_t kMostNameBytes = 31;
constexpr unsigned kMostDepth = 200;  ///< As deep as QEMU lets a backing chain be.

/// One node's object, its values of the type that is wanted or as text.
class Options {
 public:
  explicit Options(const Json& object) : object_(object) {}

  [[nodiscard]] const Json* find(std::string_view key) const {
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }
  Result<std::string> text(std::string_view key, std::string_view otherwise = {}) const {
    const auto* value = find(key);
    if (value == nullptr) return std::string(otherwise);
    if (!value->is_string()) return fail("Invalid parameter type for '{}', expected: string", key);
    return value->get<std::string>();
  }
  Result<bool> boolean(std::string_view key, bool otherwise) const {
    const auto* value = find(key);
    if (value == nullptr) return otherwise;
    if (value->is_boolean()) return value->get<bool>();
    if (!value->is_string()) return fail("Invalid parameter type for '{}', expected: boolean", key);
    auto parsed = parse_boolean(value->get<std::string>());
    if (!parsed) return fail("{}={}: {}", key, value->get<std::string>(), parsed.error().message);
    return *parsed;
  }
  Result<std::string> choice(std::string_view key, std::span<const std::string_view> choices,
                             std::string_view otherwise) const {
    auto value = LIMEN_TRY(text(key, otherwise));
    if (find(key) != nullptr &&
        std::ranges::find(choices, std::string_view(value)) == choices.end())
      return fail("Parameter '{}' does not accept value '{}'{}", key, value,
                  choice_hint(value, choices));
    return value;
  }
  Result<uint64_t> size(std::string_view key, uint64_t otherwise) const {
    const auto* value = find(key);
    if (value == nullptr) return otherwise;
    if (value->is_number_unsigned()) return value->get<uint64_t>();
    if (!value->is_string()) return fail("Invalid parameter type for '{}', expected: integer", key);
    return block::parse_byte_size(value->get<std::string>());
  }
  Result<> check(std::span<const std::string_view> known, std::string_view prefix) const {
    for (const auto& [key, ignored] : object_.items())
      if (std::ranges::find(known, std::string_view(key)) == known.end())
        return fail("unknown property '{}{}'{}", prefix, key, choice_hint(key, known));
    return {};
  }

 private:
  const Json& object_;
};

class NodeParser {
 public:
  explicit NodeParser(const NodeSurroundings& surroundings) : surroundings_(surroundings) {}

  Result<DriveDescription> parse(const Json& object, bool root, std::string_view otherwise) {
    if (++depth_ > kMostDepth) return fail("block nodes are nested too deeply");
    const Options options(object);
    LIMEN_TRY(options.check(kKeys, ""));
    const auto driver = LIMEN_TRY(options.text("driver", otherwise));
    if (driver.empty()) return fail("Parameter 'driver' is missing");
    if (std::ranges::find(kDrivers, std::string_view(driver)) == kDrivers.end())
      return fail("Parameter 'driver' does not accept value '{}'{}", driver,
                  choice_hint(driver, kDrivers));
    const auto name = LIMEN_TRY(node_name(options, root));
    auto node = LIMEN_TRY(base(options, driver));
    LIMEN_TRY(settings(options, node));
    if (driver == "throttle") {
      node.throttle_group = LIMEN_TRY(options.text("throttle-group"));
      if (node.throttle_group.empty()) return fail("Parameter 'throttle-group' is missing");
      if (!surroundings_.has_throttle_group(node.throttle_group))
        return fail("Throttle group '{}' does not exist", node.throttle_group);
    }
    LIMEN_TRY(backing(options, driver, node));
    node.id = node.node_name = name;
    node.node_driver = driver;
    node.interface = "none";
    --depth_;
    return node;
  }

  [[nodiscard]] std::vector<std::string> take_children() { return std::move(children_); }

 private:
  Result<std::string> node_name(const Options& options, bool root) {
    auto name = LIMEN_TRY(options.text("node-name"));
    if (options.find("node-name") == nullptr) {
      if (root) return fail("'node-name' must be specified for the root node");
      return name;
    }
    if (!is_identifier(name)) return fail("Invalid node-name: '{}'", name);
    if (name.size() > kMostNameBytes) return fail("Node name too long");
    if (const auto* other = surroundings_.find(name); other != nullptr) {
      if (other->node_name != name && other->id == name)
        return fail("node-name={} is conflicting with a device id", name);
      return fail("Duplicate nodes with node-name='{}'", name);
    }
    if (std::ranges::find(names_, name) != names_.end())
      return fail("Duplicate nodes with node-name='{}'", name);
    names_.push_back(name);
    return name;
  }

  /// What stands below a node, by reference or described on the spot.
  Result<DriveDescription> child(const Json& value, const char* key, std::string_view otherwise) {
    DriveDescription node;
    if (value.is_string()) {
      const auto name = value.get<std::string>();
      const auto* found = surroundings_.find(name);
      if (found == nullptr || found->node_name != name)
        return fail("Cannot find device='' nor node-name='{}'", name);
      if (!found->parent.empty() || std::ranges::find(children_, name) != children_.end())
        return fail("node '{}' is another node's already", name);
      children_.push_back(name);
      node = *found;
    } else if (value.is_object()) {
      node = LIMEN_TRY(parse(value, false, otherwise));
    } else {
      return fail("Invalid parameter type for '{}', expected: BlockdevRef", key);
    }
    if (!node.node_name.empty())
      node.nodes.insert(node.nodes.begin(), {node.node_name, node.node_driver});
    return node;
  }

  Result<DriveDescription> base(const Options& options, const std::string& driver) {
    DriveDescription node;
    node.format = "raw";
    if (driver == "null-co" || driver == "null-aio") {
      node.format = "null-co";
      return node;
    }
    const auto* file = options.find("file");
    if (driver == "file" || driver == "host_device") {
      if (options.find("filename") == nullptr) return fail("Parameter 'filename' is missing");
      node.file = LIMEN_TRY(options.text("filename"));
      if (node.file.empty()) return fail("The '{}' block driver requires a file name", driver);
      return node;
    }
    if (file == nullptr) return fail("A block device must be specified for \"file\"");
    node = LIMEN_TRY(child(*file, "file", "file"));
    if (driver == "qcow2") {
      if (node.format != "raw") return fail("Image is not in qcow2 format");
      node.format = driver;
    }
    return node;
  }

  Result<> settings(const Options& options, DriveDescription& node) {
    node.read_only = LIMEN_TRY(options.boolean("read-only", node.read_only));
    node.auto_read_only = LIMEN_TRY(options.boolean("auto-read-only", node.auto_read_only));
    if (const auto* cache = options.find("cache")) {
      if (!cache->is_object()) return fail("Invalid parameter type for 'cache', expected: object");
      const Options parts(*cache);
      LIMEN_TRY(parts.check(kCacheKeys, "cache."));
      const bool direct = LIMEN_TRY(parts.boolean("direct", node.cache == "none"));
      const bool no_flush = LIMEN_TRY(parts.boolean("no-flush", node.cache == "unsafe"));
      if (direct && no_flush)
        return fail("cache.no-flush=on with cache.direct=on is not there; use one of them");
      node.cache = direct ? "none" : no_flush ? "unsafe" : "writeback";
    }
    node.aio = LIMEN_TRY(options.choice("aio", kAio, node.aio));
    const auto discard =
        LIMEN_TRY(options.choice("discard", kDiscards, node.discard_unmap ? "unmap" : "ignore"));
    node.discard_unmap = discard == "unmap" || discard == "on";
    node.detect_zeroes =
        LIMEN_TRY(options.choice("detect-zeroes", kDetectZeroes, node.detect_zeroes));
    if (node.detect_zeroes == "unmap" && !node.discard_unmap)
      return fail(
          "setting detect-zeroes to unmap is not allowed without setting discard operation to "
          "unmap");
    if (const auto* locking = options.find("locking"); locking != nullptr && *locking != "auto")
      node.locking = LIMEN_TRY(options.boolean("locking", true));
    if (LIMEN_TRY(options.boolean("force-share", false))) {
      if (!node.read_only) return fail("force-share=on can only be used with read-only images");
      node.locking = false;
    }
    node.null_bytes = LIMEN_TRY(options.size("size", node.null_bytes));
    node.null_reads_zeroes = LIMEN_TRY(options.boolean("read-zeroes", node.null_reads_zeroes));
    if (node.aio == "native" && node.cache != "none")
      return fail(
          "aio=native was specified, but it requires cache.direct=on, which was not specified");
    return {};
  }

  Result<> backing(const Options& options, const std::string& driver, DriveDescription& node) {
    const auto* value = options.find("backing");
    if (value == nullptr) return {};
    if (driver != "qcow2") return fail("Driver '{}' does not support backing files", driver);
    node.own_backing = true;
    node.backing = nullptr;
    if (value->is_null() || *value == "") return {};
    auto below = LIMEN_TRY(child(*value, "backing", ""));
    if (below.format == "null-co")
      return fail("a backing image is a file here, not '{}'", below.node_driver);
    if (!below.node_name.empty()) {
      // child() has it among its own names, and it is listed as a node of the backing's.
      below.nodes.erase(below.nodes.begin());
    }
    below.read_only = true;
    node.backing = std::make_shared<const DriveDescription>(std::move(below));
    return {};
  }

  const NodeSurroundings& surroundings_;
  std::vector<std::string> children_;
  std::vector<std::string> names_;
  unsigned depth_ = 0;
};

}  // namespace

Result<ParsedNode> parse_node(const nlohmann::json& options, const NodeSurroundings& surroundings) {
  if (!options.is_object()) return fail("Invalid parameter type for 'options', expected: object");
  NodeParser parser(surroundings);
  ParsedNode parsed;
  parsed.description = LIMEN_TRY(parser.parse(options, true, ""));
  parsed.children = parser.take_children();
  return parsed;
}

Result<nlohmann::json> nested_options(
    const std::vector<std::pair<std::string, std::string>>& pairs) {
  Json object = Json::object();
  for (const auto& [key, value] : pairs) {
    Json* at = &object;
    size_t begin = 0;
    for (size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.', begin)) {
      at = &(*at)[key.substr(begin, dot - begin)];
      if (at->is_null()) *at = Json::object();
      if (!at->is_object())
        return fail("Parameters '{}.*' used inconsistently", key.substr(0, dot));
      begin = dot + 1;
    }
    auto& place = (*at)[key.substr(begin)];
    if (place.is_object()) return fail("Parameters '{}.*' used inconsistently", key);
    if (!place.is_null()) return fail("property '{}' is given twice", key);
    place = value;
  }
  return object;
}

Result<std::string> plain_image_path(const std::string& file) {
  if (file.starts_with("file:")) return file.substr(5);
  // As QEMU decides: a protocol is what stands before the first colon, unless a slash does.
  const auto colon = file.find(':');
  if (colon == std::string::npos || file.find('/') < colon || colon == 0) return file;
  const auto protocol = file.substr(0, colon);
  constexpr std::array<std::string_view, 12> kProtocols = {"nbd",     "http",  "https", "ftp",
                                                           "ssh",     "iscsi", "rbd",   "nfs",
                                                           "gluster", "fat",   "json",  "vvfat"};
  if (std::ranges::find(kProtocols, std::string_view(protocol)) != kProtocols.end())
    return fail("Unknown protocol '{}': an image is a file or a block device here", protocol);
  return file;
}

}  // namespace limen::machine
