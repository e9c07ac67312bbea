// Disks for people: info block, and what changes them.
#include <fmt/format.h>

#include <array>

#include "block/image_tool.h"
#include "machine/block_control.h"
#include "machine/machine.h"
#include "monitor/hmp/command.h"

namespace limen::monitor {
namespace {

void print_limits(HumanInterpreter& interpreter, const Json& inserted) {
  bool any = false;
  for (const char* name : {"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"})
    any |= inserted[name] != 0;
  if (!any) return;
  interpreter.print("    I/O throttling:   ");
  for (const char* kind : {"bps", "iops"}) {
    for (const char* end : {"", "_rd", "_wr"}) {
      const auto name = fmt::format("{}{}", kind, end);
      interpreter.print(" {}={}", name, inserted[name].get<int64_t>());
    }
    for (const char* end : {"", "_rd", "_wr"}) {
      const auto name = fmt::format("{}{}_max", kind, end);
      interpreter.print(" {}={}", name, inserted.value(name, int64_t{0}));
    }
  }
  interpreter.print(" iops_size={} group={}\n", inserted.value("iops_size", int64_t{0}),
                    inserted.value("group", ""));
}

void print_image(HumanInterpreter& interpreter, const Json& image) {
  interpreter.print("image: {}\nfile format: {}\nvirtual size: {} ({} bytes)\n",
                    image["filename"].get<std::string>(), image["format"].get<std::string>(),
                    block::human_size(image["virtual-size"]),
                    image["virtual-size"].get<uint64_t>());
  if (image.contains("actual-size"))
    interpreter.print("disk size: {}\n", block::human_size(image["actual-size"]));
  if (image.contains("cluster-size"))
    interpreter.print("cluster_size: {}\n", image["cluster-size"].get<uint64_t>());
  if (image.contains("backing-filename"))
    interpreter.print("backing file: {}\n", image["backing-filename"].get<std::string>());
  if (image.contains("backing-image")) {
    interpreter.print("\n");
    print_image(interpreter, image["backing-image"]);
  }
}

/// `info`: of query-block; null: a node alone. `inserted`: null: nothing is.
void print_block(HumanInterpreter& interpreter, const Json& info, const Json& inserted,
                 bool verbose) {
  const std::string device = info.is_null() ? "" : info.value("device", "");
  const std::string node = inserted.is_null() ? "" : inserted.value("node-name", "");
  if (!device.empty())
    interpreter.print("{}{}", device, node.empty() ? "" : fmt::format(" ({})", node));
  else
    interpreter.print("{}", !node.empty() ? node : info.value("qdev", "<anonymous>"));
  if (inserted.is_null())
    interpreter.print(": [not inserted]\n");
  else
    interpreter.print(": {} ({}{})\n", inserted["file"].get<std::string>(),
                      inserted["drv"].get<std::string>(),
                      inserted["ro"].get<bool>() ? ", read-only" : "");
  if (!info.is_null()) {
    if (info.contains("qdev"))
      interpreter.print("    Attached to:      {}\n", info["qdev"].get<std::string>());
    if (const auto status = info.value("io-status", "ok"); status != "ok")
      interpreter.print("    I/O status:       {}\n", status);
    if (info["removable"].get<bool>())
      interpreter.print("    Removable device: {}locked, tray {}\n",
                        info["locked"].get<bool>() ? "" : "not ",
                        info.value("tray_open", false) ? "open" : "closed");
  }
  if (inserted.is_null()) return;
  const auto& cache = inserted["cache"];
  interpreter.print("    Cache mode:       {}{}{}\n",
                    cache["writeback"].get<bool>() ? "writeback" : "writethrough",
                    cache["direct"].get<bool>() ? ", direct" : "",
                    cache["no-flush"].get<bool>() ? ", ignore flushes" : "");
  if (inserted.contains("backing_file"))
    interpreter.print("    Backing file:     {} (chain depth: {})\n",
                      inserted["backing_file"].get<std::string>(),
                      inserted["backing_file_depth"].get<int>());
  if (const auto zeroes = inserted.value("detect_zeroes", "off"); zeroes != "off")
    interpreter.print("    Detect zeroes:    {}\n", zeroes);
  print_limits(interpreter, inserted);
  if (!verbose) return;
  interpreter.print("\nImages:\n");
  print_image(interpreter, inserted["image"]);
}

Result<> resize(HumanInterpreter& interpreter, Words& words) {
  const auto device = words.word();
  if (device.empty()) return fail("block_resize: block device name expected");
  auto text = words.word();
  LIMEN_TRY(words.end());
  // Without a unit, mebibytes.
  if (!text.empty() && text.back() >= '0' && text.back() <= '9') text += 'M';
  const auto size = block::parse_byte_size(text);
  if (!size) return fail("invalid size");
  interpreter.perform("block_resize", {{"device", device}, {"size", static_cast<int64_t>(*size)}});
  return {};
}

Result<> set_io_throttle(HumanInterpreter& interpreter, Words& words) {
  const auto device = words.word();
  if (device.empty()) return fail("block_set_io_throttle: block device name expected");
  Json arguments = Json::object();
  for (const char* name : {"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"})
    arguments[name] = LIMEN_TRY(words.expression());
  LIMEN_TRY(words.end());
  // By the drive's name, or by the device's that has it.
  bool named = false;
  if (const auto blocks = interpreter.run("query-block"))
    for (const auto& block : *blocks) named |= block["device"] == device;
  arguments[named ? "device" : "id"] = device;
  interpreter.perform("block_set_io_throttle", arguments);
  return {};
}

Result<> eject(HumanInterpreter& interpreter, Words& words) {
  const bool force = words.flag('f');
  const auto device = words.word();
  if (device.empty()) return fail("eject: block device name expected");
  LIMEN_TRY(words.end());
  interpreter.perform("eject", {{"device", device}, {"force", force}});
  return {};
}

Result<> change(HumanInterpreter& interpreter, Words& words) {
  const bool force = words.flag('f');
  Json arguments = {{"device", words.word()}, {"filename", words.word()}, {"force", force}};
  if (arguments["device"] == "vnc") {  // "change vnc password PASSWORD"
    const auto what = arguments["filename"].get<std::string>();
    if (what != "password" && what != "passwd")
      return fail("Error: 'change vnc' changes its 'password', not '{}'", what);
    const auto password = words.word();
    if (password.empty()) return fail("change: password expected");
    interpreter.perform("change-vnc-password", {{"password", password}});
    return {};
  }
  if (arguments["filename"] == "") return fail("change: filename expected");
  if (const auto format = words.word(); !format.empty()) arguments["format"] = format;
  if (const auto mode = words.word(); !mode.empty()) arguments["read-only-mode"] = mode;
  LIMEN_TRY(words.end());
  interpreter.perform("blockdev-change-medium", arguments);
  return {};
}

Result<> snapshot(HumanInterpreter& interpreter, Words& words) {
  const bool reuse = words.flag('n');
  Json arguments = {{"device", words.word()},
                    {"snapshot-file", words.word()},
                    {"mode", reuse ? "existing" : "absolute-paths"}};
  if (const auto format = words.word(); !format.empty()) arguments["format"] = format;
  LIMEN_TRY(words.end());
  if (arguments["snapshot-file"] == "") return fail("Error: Parameter 'snapshot-file' is missing");
  interpreter.perform("blockdev-snapshot-sync", arguments);
  return {};
}

Result<> drive_delete(HumanInterpreter& interpreter, Words& words) {
  const auto id = words.word();
  if (id.empty()) return fail("drive_del: string expected");
  LIMEN_TRY(words.end());
  auto* board = interpreter.machine().board();
  if (board == nullptr) return fail("Error: Device '{}' not found", id);
  machine::BlockControl control(*board);
  auto deleted = control.find_node(id) != nullptr && control.find_node(id)->description.is_node()
                     ? control.delete_node(id)
                     : control.delete_drive(id);
  if (!deleted) return fail("Error: {}", deleted.error().message);
  return {};
}

constexpr std::array kDiskCommands = {
    HumanCommand{"eject", "[-f] device", "eject a removable medium", eject},
    HumanCommand{"change", "[-f] device filename [format [read-only-mode]]",
                 "change a removable medium", change},
    HumanCommand{"block_resize", "device size", "resize a block image", resize},
    HumanCommand{"block_set_io_throttle", "device bps bps_rd bps_wr iops iops_rd iops_wr",
                 "change I/O throttle limits for a block drive", set_io_throttle},
    HumanCommand{"snapshot_blkdev", "[-n] device new-image-file [format]",
                 "what is written from now on goes into an overlay (-n: which is there already)",
                 snapshot},
    HumanCommand{"drive_del", "device", "remove host block device", drive_delete},
};

}  // namespace

std::span<const HumanCommand> disk_commands() { return kDiskCommands; }

Result<> show_block(HumanInterpreter& interpreter, Words& words) {
  bool nodes = false, verbose = false;
  for (bool more = true; more;) {
    more = false;
    if (words.flag('n')) nodes = more = true;
    if (words.flag('v')) verbose = more = true;
  }
  const auto wanted = words.word();
  LIMEN_TRY(words.end());
  bool first = true;
  const auto print = [&](const Json& info, const Json& inserted) {
    if (!first) interpreter.print("\n");
    first = false;
    print_block(interpreter, info, inserted, verbose);
  };
  if (!nodes)
    if (const auto blocks = interpreter.run("query-block"))
      for (const auto& info : *blocks) {
        const Json inserted = info.value("inserted", Json());
        const bool meant = wanted.empty() || info["device"] == wanted ||
                           info.value("qdev", "") == wanted ||
                           (!inserted.is_null() && inserted["node-name"] == wanted);
        if (meant) print(info, inserted);
      }
  // A node that no device has, by its name.
  if (nodes || (first && !wanted.empty()))
    if (const auto all = interpreter.run("query-named-block-nodes"))
      for (const auto& inserted : *all)
        if (wanted.empty() || inserted["node-name"] == wanted) print(nullptr, inserted);
  return {};
}

}  // namespace limen::monitor
