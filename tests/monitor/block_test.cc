// What monitors do to disks while the machine runs.
#include <filesystem>
#include <fstream>
#include <future>

#include "block/image_tool.h"
#include "block/open_image.h"
#include "block/qcow2_scratch.h"
#include "block/scsi/cd.h"
#include "monitor/monitor_fixture.h"

namespace limen::monitor {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uint64_t kMebibyte = 1 << 20;

class Disks : public testing::MonitorTest {
 protected:
  std::string raw(const std::string& name, uint64_t size, char fill = 'd') {
    std::ofstream(folder_ / name) << std::string(size, fill);
    return folder_ / name;
  }
  std::string qcow2(const std::string& name, uint64_t size) {
    block::make_qcow2(folder_ / name, {.size = size});
    return folder_ / name;
  }
  machine::Drive& drive(const std::string& name) {
    for (auto& each : machine_->board()->drives())
      if (each.description.id == name || each.description.node_name == name) return each;
    ADD_FAILURE() << "no drive " << name;
    return machine_->board()->drives().front();
  }
  static int write(machine::Drive& drive, uint64_t offset, char fill) {
    return block::write_at(*drive.image, offset, std::vector<uint8_t>(4096, uint8_t(fill)));
  }
  static char read(machine::Drive& drive, uint64_t offset) {
    std::vector<uint8_t> bytes(512);
    EXPECT_EQ(block::run(*drive.image, {.kind = block::Request::Kind::kRead,
                                        .offset = offset,
                                        .buffers = {block::buffer_of(bytes)}}),
              0);
    return static_cast<char>(bytes[0]);
  }
  Json block_of(const std::string& name) {
    for (auto& each : run("query-block"))
      if (each["device"] == name || each.value("qdev", "") == name) return each;
    return {};
  }
  Json node_of(const std::string& name) {
    for (auto& each : run("query-named-block-nodes"))
      if (each["node-name"] == name) return each;
    return {};
  }
  bool file_is_free(const std::string& path) {
    return block::open_image(path, "raw", {}).has_value();
  }
  void with_root_ports() {
    for (const char* id : {"port1", "port2"})
      description_.devices.push_back({"pcie-root-port", {{"id", id}}});
    description_.devices.push_back({"virtio-scsi-pci", {{"id", "scsi0"}}});
  }
  void with_disk(const std::string& file, const std::string& format = "raw") {
    description_.drives.push_back(
        {.id = "d0", .file = file, .format = format, .interface = "none"});
    description_.devices.push_back({"virtio-blk-pci", {{"id", "disk0"}, {"drive", "d0"}}});
  }
  void with_cd(const std::string& file) {
    description_.drives.push_back({.id = "cd",
                                   .file = file,
                                   .format = file.empty() ? "" : "raw",
                                   .interface = "none",
                                   .read_only = true,
                                   .cdrom = true});
    description_.devices.push_back({"virtio-scsi-pci", {{"id", "scsi0"}}});
    description_.devices.push_back({"scsi-cd", {{"id", "cd0"}, {"drive", "cd"}}});
  }
};

TEST_F(Disks, NodesAreAddedUsedAndDeleted) {
  with_root_ports();
  start();
  const auto file = qcow2("a", 8 * kMebibyte);
  run("blockdev-add", {{"driver", "file"}, {"node-name", "storage"}, {"filename", file}});
  EXPECT_EQ(node_of("storage")["drv"], "file");
  run("blockdev-add", {{"driver", "qcow2"},
                       {"node-name", "format"},
                       {"file", "storage"},
                       {"discard", "unmap"},
                       {"detect-zeroes", "unmap"},
                       {"cache", {{"no-flush", true}}}});
  EXPECT_EQ(node_of("format")["image"]["virtual-size"], 8 * kMebibyte);
  EXPECT_EQ(node_of("format")["detect_zeroes"], "unmap");
  EXPECT_EQ(node_of("format")["cache"]["no-flush"], true);
  EXPECT_EQ(node_of("storage")["drv"], "file");
  EXPECT_EQ(run("query-block").size(), 0u);
  EXPECT_FALSE(file_is_free(file));
  run("device_add",
      {{"driver", "virtio-blk-pci"}, {"id", "late"}, {"bus", "port1"}, {"drive", "format"}});
  const auto qdev = "/machine/peripheral/late/virtio-backend";
  EXPECT_EQ(block_of(qdev)["device"], "");
  EXPECT_EQ(block_of(qdev)["inserted"]["node-name"], "format");
  EXPECT_EQ(error("blockdev-del", {{"node-name", "format"}}),
            "GenericError: Node format is in use");
  EXPECT_EQ(error("blockdev-del", {{"node-name", "storage"}}),
            "GenericError: Block device storage is in use");
  // A part counts nothing of its own.
  EXPECT_EQ(run("query-blockstats", {{"query-nodes", true}}).size(), 1u);
  // The guest lets go.
  machine_->board()->remove_device("port1");
  EXPECT_EQ(run("query-block").size(), 0u);
  run("blockdev-del", {{"node-name", "format"}});
  EXPECT_TRUE(file_is_free(file));
  // What it consisted of can be used again.
  run("blockdev-add", {{"driver", "raw"}, {"node-name", "bytes"}, {"file", "storage"}});
  EXPECT_EQ(node_of("bytes")["image"]["virtual-size"], std::filesystem::file_size(file));
  run("blockdev-del", {{"node-name", "bytes"}});
  run("blockdev-del", {{"node-name", "storage"}});
  EXPECT_EQ(run("query-named-block-nodes").size(), 0u);
}

TEST_F(Disks, NodesThatCannotBe) {
  with_disk(raw("disk", 4096));
  description_.objects.push_back({.type = "throttle-group", .id = "g"});
  start();
  const auto add = [&](Json options) { return error("blockdev-add", options); };
  EXPECT_EQ(add({{"driver", "raw"}}), "GenericError: Parameter 'file' is missing");
  EXPECT_EQ(add({{"driver", "file"}, {"filename", "x"}}),
            "GenericError: 'node-name' must be specified for the root node");
  EXPECT_EQ(add({{"driver", "fil"}, {"node-name", "n"}}),
            "GenericError: Parameter 'driver' does not accept value 'fil'");
  EXPECT_EQ(add({{"driver", "null-co"}, {"node-name", "d0"}}),
            "GenericError: node-name=d0 is conflicting with a device id");
  EXPECT_EQ(add({{"driver", "null-co"}, {"node-name", "1x"}}),
            "GenericError: Invalid node-name: '1x'");
  EXPECT_EQ(add({{"driver", "raw"}, {"node-name", "n"}, {"file", "m"}}),
            "GenericError: Cannot find device='' nor node-name='m'");
  EXPECT_EQ(add({{"driver", "raw"}, {"node-name", "n"}, {"file", 7}}),
            "GenericError: Invalid parameter type for 'file', expected: BlockdevRef");
  EXPECT_EQ(add({{"driver", "throttle"},
                 {"node-name", "n"},
                 {"throttle-group", "h"},
                 {"file", {{"driver", "null-co"}}}}),
            "GenericError: Throttle group 'h' does not exist");
  EXPECT_THAT(add({{"driver", "file"}, {"node-name", "n"}, {"filename", folder_ / "none"}}),
              HasSubstr("No such file"));
  EXPECT_THAT(add({{"driver", "qcow2"},
                   {"node-name", "n"},
                   {"file", {{"driver", "file"}, {"filename", raw("r", 1024)}}}}),
              HasSubstr("qcow2"));
  EXPECT_THAT(add({{"driver", "file"}, {"node-name", "n"}, {"filename", folder_ / "disk"}}),
              HasSubstr("lock"));
  run("blockdev-add", {{"driver", "null-co"}, {"node-name", "z"}, {"size", kMebibyte}});
  EXPECT_EQ(add({{"driver", "null-co"}, {"node-name", "z"}}),
            "GenericError: Duplicate nodes with node-name='z'");
  EXPECT_EQ(error("blockdev-del", {{"node-name", "y"}}),
            "GenericError: Failed to find node with node-name='y'");
  run("blockdev-add",
      {{"driver", "throttle"}, {"node-name", "t"}, {"throttle-group", "g"}, {"file", "z"}});
  EXPECT_EQ(node_of("t")["drv"], "throttle");
  EXPECT_EQ(node_of("z")["drv"], "null-co");
  EXPECT_THAT(add({{"driver", "raw"}, {"node-name", "u"}, {"file", "z"}}),
              HasSubstr("another node's already"));
  run("blockdev-del", {{"node-name", "t"}});
  run("blockdev-del", {{"node-name", "z"}});
}

TEST_F(Disks, BackingImagesAreNodes) {
  start();
  const auto base = raw("base", kMebibyte, 'b');
  const auto top = qcow2("top", kMebibyte);
  run("blockdev-add", {{"driver", "raw"},
                       {"node-name", "base"},
                       {"read-only", true},
                       {"file", {{"driver", "file"}, {"filename", base}}}});
  run("blockdev-add", {{"driver", "qcow2"},
                       {"node-name", "top"},
                       {"backing", "base"},
                       {"file", {{"driver", "file"}, {"filename", top}, {"node-name", "f"}}}});
  EXPECT_EQ(read(drive("top"), 0), 'b');
  EXPECT_EQ(write(drive("top"), 0, 't'), 0);
  EXPECT_EQ(read(drive("top"), 0), 't');
  EXPECT_EQ(read(drive("top"), 4096), 'b');
  const Json node = node_of("top");
  EXPECT_EQ(node["backing_file_depth"], 1);
  EXPECT_EQ(node["image"]["backing-image"]["filename"], base);
  EXPECT_EQ(node_of("base")["ro"], true);
  EXPECT_EQ(node_of("f")["drv"], "file");
  EXPECT_EQ(error("blockdev-del", {{"node-name", "base"}}),
            "GenericError: Block device base is in use");
  EXPECT_EQ(error("blockdev-del", {{"node-name", "f"}}),
            "GenericError: Node f is not owned by the monitor");
  run("blockdev-del", {{"node-name", "top"}});
  run("blockdev-del", {{"node-name", "base"}});
}

TEST_F(Disks, SizesChange) {
  with_disk(raw("disk", kMebibyte));
  const auto image = qcow2("q", kMebibyte);
  description_.drives.push_back(
      {.id = "q0", .node_name = "qn", .file = image, .format = "qcow2", .interface = "none"});
  start();
  run("block_resize", {{"device", "d0"}, {"size", 2 * kMebibyte}});
  EXPECT_EQ(std::filesystem::file_size(folder_ / "disk"), 2 * kMebibyte);
  EXPECT_EQ(block_of("d0")["inserted"]["image"]["virtual-size"], 2 * kMebibyte);
  EXPECT_EQ(write(drive("d0"), 2 * kMebibyte - 4096, 'e'), 0);
  EXPECT_EQ(type("block_resize d0 4096B"), "");
  EXPECT_EQ(drive("d0").image->size(), 4096u);
  EXPECT_EQ(write(drive("d0"), 4096, 'e'), EIO);
  EXPECT_EQ(read(drive("d0"), 0), 'd');
  run("block_resize", {{"node-name", "qn"}, {"size", 64 * kMebibyte}});
  EXPECT_EQ(write(drive("q0"), 60 * kMebibyte, 'e'), 0);
  EXPECT_EQ(error("block_resize", {{"device", "d0"}, {"size", -1}}),
            "GenericError: Parameter 'size' expects a >0 size");
  EXPECT_EQ(error("block_resize", {{"device", "d0"}, {"size", 1000}}),
            "GenericError: The new size must be a multiple of 512");
  EXPECT_EQ(error("block_resize", {{"device", "x"}, {"size", 512}}),
            "GenericError: Cannot find device='x' nor node-name=''");
  EXPECT_EQ(type("block_resize d0 much"), "invalid size\r\n");
  machine_.reset();
  block::expect_sound(image);
}

TEST_F(Disks, ReadOnlyAndNullKeepTheirSize) {
  description_.drives.push_back({.id = "ro",
                                 .file = raw("r", 1024),
                                 .format = "raw",
                                 .interface = "none",
                                 .read_only = true});
  description_.drives.push_back({.id = "null", .format = "null-co", .interface = "none"});
  start();
  EXPECT_EQ(error("block_resize", {{"device", "ro"}, {"size", 512}}),
            "GenericError: Block node is read-only");
  EXPECT_EQ(error("block_resize", {{"device", "null"}, {"size", 512}}),
            "GenericError: Image format driver does not support resize");
}

TEST_F(Disks, LimitsAreSetAndLifted) {
  with_disk(raw("disk", kMebibyte));
  start();
  Json limits = {{"device", "d0"}, {"bps", 0},     {"bps_rd", 0},  {"bps_wr", 65536},
                 {"iops", 0},      {"iops_rd", 0}, {"iops_wr", 0}, {"bps_wr_max", 131072}};
  run("block_set_io_throttle", limits);
  const Json shown = block_of("d0")["inserted"];
  EXPECT_EQ(shown["bps_wr"], 65536);
  EXPECT_EQ(shown["bps_wr_max"], 131072);
  EXPECT_EQ(shown["bps_wr_max_length"], 1);
  EXPECT_EQ(shown["group"], "d0");
  EXPECT_FALSE(shown.contains("iops_max"));
  EXPECT_THAT(type("info block d0"), HasSubstr("bps_wr=65536"));
  // After one that is more than may be written at once the next wait; lifting the limit lets them
  // go.
  EXPECT_EQ(block::write_at(*drive("d0").image, 0, std::vector<uint8_t>(kMebibyte)), 0);
  std::vector<std::future<int>> ends;
  for (int i = 0; i < 16; ++i)
    ends.push_back(std::async(std::launch::async,
                              [&, i] { return write(drive("d0"), uint64_t(i) * 4096, 'w'); }));
  EXPECT_EQ(ends.front().wait_for(std::chrono::milliseconds(300)), std::future_status::timeout);
  EXPECT_EQ(type("block_set_io_throttle d0 0 0 0 0 0 0"), "");
  for (auto& end : ends) EXPECT_EQ(end.get(), 0);
  EXPECT_FALSE(block_of("d0")["inserted"].contains("group"));

  limits["group"] = "shared";
  limits["device"] = "d0";
  run("block_set_io_throttle", limits);
  EXPECT_EQ(block_of("d0")["inserted"]["group"], "shared");
  limits.erase("device");
  limits["id"] = "disk0";
  limits["bps"] = 1;
  EXPECT_THAT(error("block_set_io_throttle", limits), HasSubstr("cannot be used at the same time"));
  limits["bps"] = -1;
  EXPECT_THAT(error("block_set_io_throttle", limits), HasSubstr("must be within [0,"));
  limits["device"] = "d0";
  EXPECT_EQ(error("block_set_io_throttle", limits),
            "GenericError: Need exactly one of 'device' and 'id'");
  limits.erase("id");
  limits["device"] = "none";
  EXPECT_EQ(error("block_set_io_throttle", limits), "DeviceNotFound: Device 'none' not found");
}

TEST_F(Disks, SnapshotsTakeWhatIsWrittenFromThenOn) {
  const auto disk = raw("disk", kMebibyte);
  with_disk(disk);
  start();
  // Requests are under way all the time.
  std::atomic<bool> done = false;
  auto writer = std::async(std::launch::async, [&] {
    int failed = 0;
    for (uint64_t i = 0; !done; ++i)
      failed += write(drive("d0"), 65536 + i % 64 * 4096, 'w') == 0 ? 0 : 1;
    return failed;
  });
  EXPECT_EQ(write(drive("d0"), 0, '1'), 0);
  run("blockdev-snapshot-sync", {{"device", "d0"}, {"snapshot-file", folder_ / "s1"}});
  EXPECT_EQ(write(drive("d0"), 0, '2'), 0);
  EXPECT_EQ(type("snapshot_blkdev d0 " + (folder_ / "s2") + " qcow2"), "");
  EXPECT_EQ(write(drive("d0"), 4096, '3'), 0);
  done = true;
  EXPECT_EQ(writer.get(), 0);
  EXPECT_EQ(read(drive("d0"), 0), '2');
  EXPECT_EQ(read(drive("d0"), 4096), '3');
  EXPECT_EQ(read(drive("d0"), 8192), 'd');
  const Json shown = block_of("d0")["inserted"];
  EXPECT_EQ(shown["file"], folder_ / "s2");
  EXPECT_EQ(shown["drv"], "qcow2");
  EXPECT_EQ(shown["backing_file_depth"], 2);
  EXPECT_EQ(shown["image"]["full-backing-filename"], folder_ / "s1");
  EXPECT_EQ(shown["image"]["backing-image"]["backing-image"]["filename"], disk);
  EXPECT_THAT(type("info block -v d0"), HasSubstr("(chain depth: 2)"));
  // The raw image is only read now.
  EXPECT_TRUE(block::open_image(disk, "raw", {.read_only = true}).has_value());
  machine_.reset();
  block::expect_sound(folder_ / "s1");
  block::expect_sound(folder_ / "s2");
  std::ifstream first(disk);
  EXPECT_EQ(first.get(), '1');
}

TEST_F(Disks, SnapshotsThatCannotBe) {
  with_disk(raw("disk", kMebibyte));
  description_.drives.push_back({.id = "null", .format = "null-co", .interface = "none"});
  start();
  const auto attempt = [&](Json more) {
    Json arguments = {{"device", "d0"}, {"snapshot-file", folder_ / "s"}};
    arguments.update(more);
    return error("blockdev-snapshot-sync", arguments);
  };
  EXPECT_EQ(attempt({{"device", "x"}}), "GenericError: Cannot find device='x' nor node-name=''");
  EXPECT_EQ(attempt({{"format", "raw"}}),
            "GenericError: The overlay does not support backing images");
  EXPECT_EQ(attempt({{"format", "zip"}}), "GenericError: Unknown driver 'zip'");
  EXPECT_THAT(attempt({{"snapshot-file", folder_ / "disk"}}), HasSubstr("Failed to get"));
  EXPECT_THAT(attempt({{"snapshot-file", "/nonexistent/x"}}), HasSubstr("/nonexistent/x"));
  EXPECT_THAT(attempt({{"mode", "existing"}}), HasSubstr("No such file"));
  EXPECT_EQ(attempt({{"snapshot-node-name", "d0"}}),
            "GenericError: node-name=d0 is conflicting with a device id");
  EXPECT_THAT(attempt({{"device", "null"}}), HasSubstr("null-co"));
  // An existing file that is no image: the disk goes on with what it had.
  raw("s", 65536);
  EXPECT_THAT(attempt({{"mode", "existing"}}), HasSubstr("qcow2"));
  EXPECT_EQ(write(drive("d0"), 0, 'x'), 0);
  EXPECT_EQ(read(drive("d0"), 0), 'x');
  EXPECT_EQ(block_of("d0")["inserted"]["drv"], "raw");
  block::make_qcow2(folder_ / "e", {.size = kMebibyte});
  run("blockdev-snapshot-sync",
      {{"device", "d0"}, {"snapshot-file", folder_ / "e"}, {"mode", "existing"}});
  EXPECT_EQ(read(drive("d0"), 0), 'x');
}

TEST_F(Disks, TransactionsAndOverlaysThatAreNodes) {
  with_disk(raw("disk", kMebibyte));
  with_root_ports();
  start();
  const auto node = [&](const std::string& name) {
    run("blockdev-add", {{"driver", "qcow2"},
                         {"node-name", name},
                         {"backing", nullptr},
                         {"file", {{"driver", "file"}, {"filename", qcow2(name, kMebibyte)}}}});
  };
  run("blockdev-add", {{"driver", "raw"},
                       {"node-name", "base"},
                       {"file", {{"driver", "file"}, {"filename", raw("b", kMebibyte, 'b')}}}});
  run("device_add",
      {{"driver", "virtio-blk-pci"}, {"id", "late"}, {"bus", "port1"}, {"drive", "base"}});
  node("o1");
  run("transaction",
      {{"actions",
        {{{"type", "blockdev-snapshot"}, {"data", {{"node", "base"}, {"overlay", "o1"}}}},
         {{"type", "blockdev-snapshot-sync"},
          {"data", {{"device", "d0"}, {"snapshot-file", folder_ / "s"}}}}}}});
  EXPECT_EQ(read(drive("o1"), 0), 'b');
  EXPECT_EQ(write(drive("o1"), 0, 'o'), 0);
  EXPECT_EQ(node_of("o1")["backing_file_depth"], 1);
  EXPECT_EQ(node_of("base")["ro"], true);
  EXPECT_EQ(block_of("d0")["inserted"]["drv"], "qcow2");
  EXPECT_EQ(error("blockdev-snapshot", {{"node", "o1"}, {"overlay", "nobody"}}),
            "GenericError: Cannot find device='nobody' nor node-name='nobody'");
  EXPECT_EQ(error("blockdev-snapshot", {{"node", "o1"}, {"overlay", "o1"}}),
            "GenericError: The overlay is already in use");
  // Nothing is done when one of them cannot be.
  EXPECT_THAT(
      error("transaction", {{"actions",
                             {{{"type", "blockdev-snapshot-sync"},
                               {"data", {{"device", "d0"}, {"snapshot-file", folder_ / "t"}}}},
                              {{"type", "blockdev-snapshot-sync"},
                               {"data", {{"device", "x"}, {"snapshot-file", folder_ / "u"}}}}}}}),
      HasSubstr("Cannot find device='x'"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "t"));
  machine_->board()->remove_device("port1");
  run("blockdev-del", {{"node-name", "o1"}});
  run("blockdev-del", {{"node-name", "base"}});
}

TEST_F(Disks, OverlaysGoWithTheDeviceThatTheyWereMadeFor) {
  with_root_ports();
  start();
  const auto disk = raw("b", kMebibyte, 'b');
  run("blockdev-add", {{"driver", "file"}, {"node-name", "base"}, {"filename", disk}});
  run("device_add",
      {{"driver", "virtio-blk-pci"}, {"id", "late"}, {"bus", "port1"}, {"drive", "base"}});
  EXPECT_EQ(error("blockdev-snapshot-sync", {{"node-name", "base"}, {"snapshot-file", "s"}}),
            "GenericError: New overlay node name missing");
  for (const char* name : {"s1", "s2"})
    run("blockdev-snapshot-sync", {{"node-name", name[1] == '1' ? "base" : "s1"},
                                   {"snapshot-file", folder_ / name},
                                   {"snapshot-node-name", name}});
  EXPECT_EQ(node_of("s1")["ro"], true);
  EXPECT_EQ(error("blockdev-del", {{"node-name", "s1"}}),
            "GenericError: Node s1 is not owned by the monitor");
  EXPECT_EQ(error("blockdev-del", {{"node-name", "base"}}),
            "GenericError: Block device base is in use");
  machine_->board()->remove_device("port1");
  EXPECT_EQ(run("query-named-block-nodes").size(), 1u);
  run("blockdev-del", {{"node-name", "base"}});
  for (const char* name : {"b", "s1", "s2"}) EXPECT_TRUE(file_is_free(folder_ / name));
}

TEST_F(Disks, DiscsAreChanged) {
  const auto first = raw("one.iso", 4096, '1'), second = raw("two.iso", 8192, '2');
  with_cd(first);
  with_disk(raw("disk", 4096));
  start();
  EXPECT_EQ(block_of("cd")["removable"], true);
  EXPECT_EQ(block_of("cd")["tray_open"], false);
  EXPECT_EQ(block_of("d0")["removable"], false);
  run("blockdev-change-medium", {{"id", "cd0"}, {"filename", second}, {"format", "raw"}});
  poll();
  EXPECT_EQ(events_, (std::vector<std::string>{"DEVICE_TRAY_MOVED", "DEVICE_TRAY_MOVED"}));
  EXPECT_EQ(last_data_, (Json{{"device", "cd"}, {"id", "cd0"}, {"tray-open", false}}));
  EXPECT_EQ(read(drive("cd"), 0), '2');
  EXPECT_EQ(block_of("cd")["inserted"]["file"], second);
  EXPECT_EQ(block_of("cd")["inserted"]["ro"], true);
  run("eject", {{"device", "cd"}});
  EXPECT_FALSE(block_of("cd").contains("inserted"));
  EXPECT_EQ(block_of("cd")["tray_open"], true);
  EXPECT_THAT(type("info block cd"),
              HasSubstr("cd: [not inserted]\r\n    Attached to:      /machine/peripheral/cd0\r\n"
                        "    Removable device: not locked, tray open\r\n"));
  run("blockdev-close-tray", {{"device", "cd"}});
  EXPECT_EQ(error("blockdev-remove-medium", {{"id", "cd0"}}),
            "GenericError: Tray of device 'cd0' is not open");
  EXPECT_EQ(type("change cd " + first + " raw"), "");
  EXPECT_EQ(read(drive("cd"), 0), '1');
  // Step by step, with a node.
  run("blockdev-add", {{"driver", "raw"},
                       {"node-name", "disc"},
                       {"read-only", true},
                       {"file", {{"driver", "file"}, {"filename", second}}}});
  EXPECT_EQ(error("blockdev-insert-medium", {{"id", "cd0"}, {"node-name", "disc"}}),
            "GenericError: Tray of device 'cd0' is not open");
  run("blockdev-open-tray", {{"id", "cd0"}});
  EXPECT_EQ(error("blockdev-insert-medium", {{"id", "cd0"}, {"node-name", "disc"}}),
            "GenericError: There already is a medium in device 'cd0'");
  run("blockdev-remove-medium", {{"id", "cd0"}});
  run("blockdev-insert-medium", {{"id", "cd0"}, {"node-name", "disc"}});
  run("blockdev-close-tray", {{"id", "cd0"}});
  EXPECT_EQ(read(drive("cd"), 0), '2');
  EXPECT_EQ(block_of("cd")["inserted"]["node-name"], "disc");
  EXPECT_EQ(error("blockdev-del", {{"node-name", "disc"}}), "GenericError: Node disc is in use");
  run("eject", {{"id", "cd0"}, {"force", true}});
  run("blockdev-del", {{"node-name", "disc"}});
}

TEST_F(Disks, DiscsThatCannotBeChanged) {
  with_cd(raw("one.iso", 4096, '1'));
  with_disk(raw("disk", 4096));
  start();
  for (const char* command : {"eject", "blockdev-open-tray", "blockdev-close-tray"}) {
    EXPECT_EQ(error(command, {{"device", "d0"}}), "GenericError: Device 'd0' is not removable");
    EXPECT_EQ(error(command, {{"device", "x"}}), "DeviceNotFound: Device 'x' not found");
    EXPECT_EQ(error(command, Json::object()),
              "GenericError: Need exactly one of 'device' and 'id'");
  }
  EXPECT_THAT(error("blockdev-change-medium", {{"id", "cd0"}, {"filename", folder_ / "none"}}),
              HasSubstr("No such file"));
  EXPECT_EQ(error("blockdev-change-medium", {{"id", "cd0"}, {"filename", "x"}, {"format", "zip"}}),
            "GenericError: Unknown driver 'zip'");
  EXPECT_EQ(read(drive("cd"), 0), '1');
  EXPECT_EQ(error("blockdev-insert-medium", {{"id", "cd0"}, {"node-name", "x"}}),
            "GenericError: Node 'x' not found");
  // The guest holds it.
  auto* cd = drive("cd").cd;
  const auto lock = [&](uint8_t code) {
    for (int i = 0; i < 2; ++i) {  // the first time the unit tells of its power-on
      block::scsi::Command command;
      command.cdb[0] = block::scsi::kPreventAllowMediumRemoval;
      command.cdb[4] = code;
      std::promise<void> done;
      command.done = [&](const auto&) { done.set_value(); };
      cd->execute(std::move(command));
      done.get_future().get();
    }
  };
  lock(1);
  EXPECT_EQ(block_of("cd")["locked"], true);
  const auto held =
      "GenericError: Device 'cd0' is locked and force was not specified, wait for tray to open and "
      "try again";
  EXPECT_EQ(error("eject", {{"id", "cd0"}}), held);
  EXPECT_EQ(error("blockdev-change-medium", {{"id", "cd0"}, {"filename", folder_ / "one.iso"}}),
            held);
  run("blockdev-open-tray", {{"id", "cd0"}});
  EXPECT_EQ(block_of("cd")["tray_open"], false);
  run("eject", {{"id", "cd0"}, {"force", true}});
  EXPECT_EQ(block_of("cd")["tray_open"], true);
}

TEST_F(Disks, DriveWithoutDriveHasADiscPutIn) {
  description_.devices.push_back({"virtio-scsi-pci", {{"id", "scsi0"}}});
  description_.devices.push_back({"scsi-cd", {{"id", "cd0"}}});
  start();
  EXPECT_EQ(block_of("/machine/peripheral/cd0")["device"], "");
  run("blockdev-change-medium",
      {{"id", "cd0"}, {"filename", raw("a.iso", 2048, 'a')}, {"format", "raw"}});
  EXPECT_EQ(block_of("/machine/peripheral/cd0")["inserted"]["drv"], "raw");
  run("eject", {{"id", "cd0"}});
  EXPECT_FALSE(block_of("/machine/peripheral/cd0").contains("inserted"));
}

TEST_F(Disks, ScsiUnitsComeAndGo) {
  with_root_ports();
  description_.devices.push_back({"virtio-scsi-pci", {{"id", "fixed"}, {"hotplug", "off"}}});
  start();
  run("blockdev-add", {{"driver", "null-co"}, {"node-name", "z"}, {"size", kMebibyte}});
  const Json unit = {{"driver", "scsi-hd"}, {"id", "u"},    {"drive", "z"},
                     {"bus", "scsi0.0"},    {"scsi-id", 3}, {"lun", 1}};
  run("device_add", unit);
  EXPECT_EQ(block_of("/machine/peripheral/u")["inserted"]["node-name"], "z");
  EXPECT_THAT(error("device_add", unit), HasSubstr("Duplicate device ID 'u'"));
  EXPECT_THAT(error("device_add", {{"driver", "scsi-hd"}, {"drive", "z"}, {"bus", "scsi0.0"}}),
              HasSubstr("already in use by another device"));
  run("blockdev-add", {{"driver", "null-co"}, {"node-name", "y"}});
  EXPECT_THAT(
      error(
          "device_add",
          {{"driver", "scsi-hd"}, {"drive", "y"}, {"bus", "scsi0.0"}, {"scsi-id", 3}, {"lun", 1}}),
      HasSubstr("lun already used"));
  EXPECT_THAT(error("device_add", {{"driver", "scsi-hd"}, {"drive", "y"}, {"bus", "fixed.0"}}),
              HasSubstr("does not support hotplugging"));
  // What could not be made has left the node as it was.
  run("blockdev-del", {{"node-name", "y"}});
  run("device_del", {{"id", "u"}});
  poll();
  EXPECT_EQ(events_, std::vector<std::string>{"DEVICE_DELETED"});
  EXPECT_EQ(last_data_, (Json{{"device", "u"}, {"path", "/machine/peripheral/u"}}));
  run("device_add", {{"driver", "scsi-cd"}, {"id", "c"}, {"bus", "scsi0.0"}});
  EXPECT_EQ(block_of("/machine/peripheral/c")["tray_open"], false);
  run("device_del", {{"id", "c"}});
  EXPECT_EQ(run("query-block").size(), 0u);
  run("blockdev-del", {{"node-name", "z"}});
  EXPECT_EQ(error("device_del", {{"id", "u"}}), "DeviceNotFound: Device 'u' not found");
}

TEST_F(Disks, AdapterThatGoesTakesItsUnitsAlong) {
  with_root_ports();
  start();
  run("blockdev-add", {{"driver", "null-co"}, {"node-name", "z"}});
  run("device_add", {{"driver", "virtio-scsi-pci"}, {"id", "s"}, {"bus", "port1"}});
  run("device_add", {{"driver", "scsi-hd"}, {"id", "u"}, {"drive", "z"}, {"bus", "s.0"}});
  machine_->board()->remove_device("port1");
  run("blockdev-del", {{"node-name", "z"}});
  EXPECT_EQ(error("device_del", {{"id", "u"}}), "DeviceNotFound: Device 'u' not found");
  EXPECT_THAT(error("device_add", {{"driver", "scsi-cd"}, {"bus", "s.0"}}),
              HasSubstr("Bus 's.0' not found"));
}

TEST_F(Disks, DrivesAreDeletedByPeople) {
  description_.drives.push_back({.id = "spare", .format = "null-co", .interface = "none"});
  with_disk(raw("disk", 4096));
  start();
  EXPECT_EQ(type("drive_del spare"), "");
  EXPECT_EQ(type("drive_del spare"), "Error: Device 'spare' not found\r\n");
  EXPECT_THAT(type("drive_del d0"), StartsWith("Error: Node #block"));
}

}  // namespace
}  // namespace limen::monitor
