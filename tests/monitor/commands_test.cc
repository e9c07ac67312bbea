// Each group of commands on a whole machine.
#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "base/unique_fd.h"
#include "monitor/monitor_fixture.h"

namespace limen::monitor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Commands : public testing::MonitorTest {
 protected:
  Json status() { return run("query-status"); }
};

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST_F(Commands, StopAndContChangeTheStateAndSaySo) {
  start();
  EXPECT_EQ(status(), (Json{{"running", false}, {"singlestep", false}, {"status", "prelaunch"}}));
  run("cont");
  EXPECT_EQ(status()["status"], "running");
  run("stop");
  EXPECT_EQ(status()["status"], "paused");
  run("stop");
  run("cont");
  EXPECT_THAT(events_, ElementsAre("RESUME", "STOP", "RESUME"));
}

TEST_F(Commands, ResetKeepsAMachineStill) {
  start();
  run("system_reset");
  EXPECT_THAT(events_, ElementsAre("RESET"));
  EXPECT_EQ(last_data_, (Json{{"guest", false}, {"reason", "host-qmp-system-reset"}}));
  EXPECT_EQ(status()["status"], "prelaunch");
  run("cont");
  run("system_reset");
  EXPECT_EQ(status()["status"], "running");
}

TEST_F(Commands, PowerButtonReachesTheGuest) {
  start();
  run("system_powerdown");
  EXPECT_THAT(events_, ElementsAre("POWERDOWN"));
  constexpr uint16_t kPm1Status = 0x600, kPowerButton = 1 << 8;
  EXPECT_NE(machine_->board()->ports().read(kPm1Status, 2) & kPowerButton, 0u);
}

TEST_F(Commands, GuestsPowerOffEndsOrPausesAsTheActionSays) {
  script_ = [](machine::testing::Guest& guest) {
    guest.machine.ports.write(0x604, 2, 5u << 10 | 1u << 13);
    guest.wait();
    return vcpu::Exit{};
  };
  description_.vcpus = 1;
  start();
  run("set-action", {{"shutdown", "pause"}});
  run("cont");
  while (machine_->run_state() == machine::RunState::kRunning) machine_->loop().poll();
  EXPECT_THAT(events_, ElementsAre("RESUME", "SHUTDOWN", "STOP"));
  EXPECT_EQ(status()["status"], "shutdown");
  EXPECT_EQ(error("cont"), "GenericError: Resetting the Virtual Machine is required");
  run("system_reset");
  EXPECT_EQ(status()["status"], "prelaunch");
  run("set-action", {{"shutdown", "poweroff"}});
  run("cont");
  EXPECT_EQ(machine_->run().value(), 0);
  EXPECT_EQ(events_.back(), "SHUTDOWN");
  EXPECT_EQ(last_data_, (Json{{"guest", true}, {"reason", "guest-shutdown"}}));
}

TEST_F(Commands, QuitEndsTheMachineAndSaysWhy) {
  start();
  run("quit");
  EXPECT_EQ(machine_->run().value(), 0);
  EXPECT_THAT(events_, ElementsAre("SHUTDOWN"));
  EXPECT_EQ(last_data_, (Json{{"guest", false}, {"reason", "host-qmp-quit"}}));
}

TEST_F(Commands, KeysReachTheKeyboard) {
  start();
  run("send-key",
      {{"keys", {{{"type", "qcode"}, {"data", "ctrl"}}, {{"type", "number"}, {"data", 0x1E}}}}});
  EXPECT_EQ(error("send-key", {{"keys", {{{"type", "qcode"}, {"data", "enter"}}}}}).substr(0, 38),
            "GenericError: invalid parameter: enter");
  EXPECT_EQ(type("sendkey ctrl-alt-f1"), "");
  EXPECT_THAT(type("sendkey ctrl-nokey"), StartsWith("invalid parameter: nokey"));
}

TEST_F(Commands, ProcessorsAreDescribed) {
  start();
  const Json cpus = run("query-cpus-fast");
  ASSERT_EQ(cpus.size(), 2u);
  EXPECT_EQ(cpus[1]["cpu-index"], 1);
  EXPECT_EQ(cpus[1]["props"]["core-id"], 1);
  const auto tid = cpus[0]["thread-id"].get<int>();
  EXPECT_EQ(::access(fmt::format("/proc/self/task/{}", tid).c_str(), F_OK), 0);
  EXPECT_EQ(run("query-hotpluggable-cpus").size(), 2u);
  EXPECT_GE(run("query-cpu-definitions").size(), 3u);
  const Json expanded =
      run("query-cpu-model-expansion", {{"type", "full"}, {"model", {{"name", "qemu64"}}}});
  EXPECT_TRUE(expanded["model"]["props"].contains("sse2"));
  EXPECT_EQ(error("query-cpu-model-expansion", {{"type", "full"}, {"model", {{"name", "Cray"}}}}),
            "GenericError: The CPU definition 'Cray' is unknown");
  EXPECT_EQ(run("qom-list", {{"path", cpus[0]["qom-path"]}})[0]["name"], "type");
}

TEST_F(Commands, WhatTheMachineIs) {
  description_.uuid = "11111111-2222-3333-4444-555555555555";
  start();
  EXPECT_EQ(run("query-name")["name"], "tested");
  EXPECT_EQ(run("query-uuid")["UUID"], "11111111-2222-3333-4444-555555555555");
  EXPECT_EQ(run("query-target")["arch"], "x86_64");
  EXPECT_EQ(run("query-machines")[0]["alias"], "pc");
  EXPECT_EQ(run("query-machines")[1]["alias"], "q35");
  EXPECT_EQ(run("query-memory-size-summary")["base-memory"], 16 << 20);
  EXPECT_EQ(error("query-balloon"), "DeviceNotActive: No balloon device has been activated");
  EXPECT_EQ(run("query-tpm-models"), (Json{"tpm-tis", "tpm-crb"}));
  EXPECT_EQ(run("query-tpm"), Json::array());
  run("query-kvm");
  run("query-command-line-options");
  EXPECT_EQ(error("query-command-line-options", {{"option", "x"}}),
            "GenericError: invalid option name: x");
  run("migrate-set-capabilities", {{"capabilities", run("query-migrate-capabilities")}});
}

TEST_F(Commands, ObjectsAreFoundByPath) {
  start();
  const Json list = run("qom-list", {{"path", "/machine/peripheral"}});
  EXPECT_EQ(list[1], (Json{{"name", "rng0"}, {"type", "child<virtio-rng-pci>"}}));
  EXPECT_EQ(run("qom-get", {{"path", "/machine/peripheral/rng0"}, {"property", "addr"}}), "0x5");
  EXPECT_EQ(error("qom-get", {{"path", "/machine/peripheral/rng0"}, {"property", "x"}}),
            "GenericError: Property 'virtio-rng-pci.x' not found");
  EXPECT_EQ(error("qom-list", {{"path", "/nowhere"}}),
            "DeviceNotFound: Device '/nowhere' not found");
  EXPECT_THAT(error("qom-set", {{"path", "/machine"}, {"property", "kernel"}, {"value", "x"}}),
              StartsWith("GenericError: "));
  bool found = false;
  for (const auto& type : run("qom-list-types", {{"implements", "device"}, {"abstract", false}}))
    found |= type["name"] == "virtio-blk-pci";
  EXPECT_TRUE(found);
  EXPECT_EQ(run("device-list-properties", {{"typename", "virtio-blk-pci"}})[1]["name"], "drive");
  EXPECT_EQ(error("device-list-properties", {{"typename", "x"}}),
            "DeviceNotFound: Device 'x' not found");
  run("object-add", {{"qom-type", "rng-random"}, {"id", "r"}, {"filename", "/dev/urandom"}});
  EXPECT_THAT(error("object-add", {{"qom-type", "rng-random"}, {"id", "r"}}),
              HasSubstr("duplicate"));
  run("object-del", {{"id", "r"}});
  EXPECT_EQ(error("object-del", {{"id", "r"}}), "GenericError: object 'r' not found");
}

TEST_F(Commands, DevicesArePluggedBehindRootPorts) {
  description_.type = "q35";
  description_.devices.push_back({"pcie-root-port", {{"id", "port1"}, {"chassis", "1"}}});
  start();
  run("device_add",
      {{"driver", "virtio-rng-pci"}, {"id", "late"}, {"bus", "port1"}, {"max-bytes", 64}});
  EXPECT_THAT(error("device_add", {{"driver", "virtio-rng-pci"}, {"bus", "pcie.0"}}),
              HasSubstr("does not support hotplugging"));
  EXPECT_EQ(error("device_add", {{"driver", "nothing"}}),
            "GenericError: 'nothing' is not a valid device model name");
  EXPECT_EQ(error("device_add", {{"driver", "virtio-rng-pci"}, {"id", "rng0"}}),
            "GenericError: Duplicate device ID 'rng0'");
  EXPECT_EQ(error("device_add", Json::object()), "GenericError: Parameter 'driver' is missing");
  run("device_del", {{"id", "late"}});
  EXPECT_EQ(error("device_del", {{"id", "nobody"}}), "DeviceNotFound: Device 'nobody' not found");
  EXPECT_EQ(error("balloon", {{"value", 1 << 20}}),
            "DeviceNotActive: No balloon device has been activated");
}

TEST_F(Commands, PciShowsFunctionsAndTheirRegions) {
  start();
  const Json devices = run("query-pci")[0]["devices"];
  bool found = false;
  for (const auto& device : devices) {
    if (device["qdev_id"] != "rng0") continue;
    found = true;
    EXPECT_EQ(device["slot"], 5);
    EXPECT_EQ(device["id"]["vendor"], 0x1AF4);
    EXPECT_FALSE(device["regions"].empty());
  }
  EXPECT_TRUE(found);
  EXPECT_THAT(type("info pci"), HasSubstr("PCI device 1af4:1044\r\n"));
  EXPECT_THAT(type("info pci"), HasSubstr("id \"rng0\""));
}

TEST_F(Commands, CharacterBackEndsComeAndGo) {
  start();
  run("chardev-add", {{"id", "ring"}, {"backend", {{"type", "ringbuf"}, {"data", {{"size", 8}}}}}});
  run("ringbuf-write", {{"device", "ring"}, {"data", "0123456789"}});
  EXPECT_EQ(run("ringbuf-read", {{"device", "ring"}, {"size", 4}}), "2345");
  EXPECT_EQ(run("ringbuf-read", {{"device", "ring"}, {"size", 9}, {"format", "base64"}}),
            "Njc4OQ==");
  EXPECT_EQ(error("ringbuf-write", {{"device", "ring"}, {"data", "!"}, {"format", "base64"}}),
            "GenericError: Base64 data '!' is not valid");
  const Json pty =
      run("chardev-add", {{"id", "p"}, {"backend", {{"type", "pty"}, {"data", Json::object()}}}});
  EXPECT_THAT(pty["pty"].get<std::string>(), StartsWith("/dev/pts/"));
  const Json socket = {
      {"type", "socket"},
      {"data", {{"addr", {{"type", "unix"}, {"data", {{"path", folder_ / "s"}}}}}}}};
  run("chardev-add", {{"id", "s"}, {"backend", socket}});
  EXPECT_THAT(error("chardev-add", {{"id", "s"}, {"backend", socket}}),
              HasSubstr("already exists"));
  EXPECT_EQ(run("query-chardev").size(), 3u);
  EXPECT_THAT(type("info chardev"), HasSubstr("ring: filename=ringbuf\r\n"));
  for (const char* id : {"ring", "p", "s"}) run("chardev-remove", {{"id", id}});
  EXPECT_EQ(error("chardev-remove", {{"id", "s"}}), "GenericError: Chardev 's' not found");
  EXPECT_EQ(error("chardev-add",
                  {{"id", "x"}, {"backend", {{"type", "file"}, {"data", Json::object()}}}}),
            "GenericError: Parameter 'backend.data.out' is missing");
}

TEST_F(Commands, CharacterBackEndInUseStays) {
  description_.characters.push_back({.id = "serial0"});
  description_.serials.push_back("serial0");
  start();
  EXPECT_EQ(error("chardev-remove", {{"id", "serial0"}}),
            "GenericError: Chardev 'serial0' is busy");
}

TEST_F(Commands, DisksAreDescribed) {
  std::ofstream(folder_ / "disk") << std::string(4096, 'd');
  description_.drives.push_back({.id = "d0", .file = folder_ / "disk", .interface = "none"});
  description_.devices.push_back({"virtio-blk-pci", {{"id", "disk0"}, {"drive", "d0"}}});
  start();
  const Json block = run("query-block");
  ASSERT_EQ(block.size(), 1u);
  EXPECT_EQ(block[0]["device"], "d0");
  EXPECT_EQ(block[0]["qdev"], "/machine/peripheral/disk0/virtio-backend");
  EXPECT_EQ(block[0]["inserted"]["image"]["virtual-size"], 4096);
  EXPECT_EQ(run("query-named-block-nodes", {{"flat", true}}).size(), 1u);
  auto& image = *machine_->board()->drives()[0].image;
  std::atomic<bool> done = false;
  char bytes[512];
  block::Request request{.kind = block::Request::Kind::kRead, .offset = 0};
  request.buffers = {{bytes, sizeof bytes}};
  request.done = [&](int) { done = true; };
  image.submit(std::move(request));
  while (!done) poll();
  const Json stats = run("query-blockstats");
  EXPECT_EQ(stats[0]["stats"]["rd_bytes"], 512);
  EXPECT_EQ(stats[0]["stats"]["rd_operations"], 1);
  EXPECT_EQ(run("query-blockstats", {{"query-nodes", true}})[0].contains("device"), false);
  EXPECT_EQ(error("eject", {{"device", "d0"}}), "GenericError: Device 'd0' is not removable");
  EXPECT_EQ(error("eject", {{"device", "x"}}), "DeviceNotFound: Device 'x' not found");
  EXPECT_THAT(type("info block"), HasSubstr("/disk (raw)\r\n"));
}

TEST_F(Commands, MemoryIsSavedAndShown) {
  start();
  const auto file = folder_ / "memory";
  run("pmemsave", {{"val", 0x100020}, {"size", 6}, {"filename", file}});
  EXPECT_EQ(content(file), "\xB8\x78\x56\x34\x12\xF4");
  run("memsave", {{"val", 0x100021}, {"size", 4}, {"filename", file}});
  EXPECT_EQ(content(file), "\x78\x56\x34\x12");
  EXPECT_EQ(error("memsave", {{"val", 0x80000000u}, {"size", 4}, {"filename", file}}).substr(0, 32),
            "GenericError: Invalid addr 0x000");
  EXPECT_EQ(type("xp /1xw 0x100021"), "0000000000100021: 0x12345678\r\n");
  EXPECT_EQ(type("xp /2xb 0x100020"), "0000000000100020: 0xb8 0x78\r\n");
  EXPECT_THAT(type("xp /1xw 0xfec00000"), ::testing::Not(HasSubstr("Cannot"))) << "the I/O APIC";
  EXPECT_THAT(type("xp /1xw 0xd0000000"), HasSubstr("Cannot access memory"));
  EXPECT_EQ(type("x /1dh 0x100021"), "0000000000100021: 22136\r\n");
  EXPECT_THAT(type("xp /2i 0x100020"), HasSubstr("mov $0x12345678, %eax"));
  EXPECT_EQ(type("p /x $rip+0x10"), "0x100030\r\n");
  EXPECT_EQ(type("p /d (2+3)*4-1"), "19\r\n");
  EXPECT_EQ(type("p 1/0"), "division by zero\r\n");
  EXPECT_EQ(type("p $nope"), "unknown register\r\n");
  EXPECT_EQ(type("gva2gpa 0x1234"), "gpa: 0x1234\r\n");
}

TEST_F(Commands, DumpIsAnElfCore) {
  start();
  const auto path = folder_ / "core";
  run("dump-guest-memory", {{"paging", false}, {"protocol", "file:" + path}});
  EXPECT_EQ(events_.back(), "DUMP_COMPLETED");
  EXPECT_EQ(run("query-dump")["status"], "completed");
  const auto core = content(path);
  EXPECT_EQ(core.substr(0, 4),
            "\x7F"
            "ELF");
  EXPECT_GT(core.size(), size_t{16} << 20);
  EXPECT_EQ(error("dump-guest-memory", {{"paging", false}, {"protocol", "http:x"}}),
            "GenericError: Invalid parameter 'protocol'");
}

TEST_F(Commands, DetachedDumpGoesToADescriptorThatWasHandedOver) {
  start();
  run("cont");
  std::vector<UniqueFd> sent;
  sent.emplace_back(::open((folder_ / "core").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  dispatcher_->descriptors().arrived(std::move(sent));
  run("getfd", {{"fdname", "dump"}});
  EXPECT_EQ(error("getfd", {{"fdname", "dump"}}),
            "GenericError: No file descriptor supplied via SCM_RIGHTS");
  run("dump-guest-memory", {{"paging", false}, {"protocol", "fd:dump"}, {"detach", true}});
  EXPECT_EQ(status()["status"], "paused");
  while (events_.back() != "RESUME" || events_.size() < 4) machine_->loop().poll();
  EXPECT_THAT(events_, ElementsAre("RESUME", "STOP", "DUMP_COMPLETED", "RESUME"));
  EXPECT_EQ(content(folder_ / "core").substr(1, 3), "ELF");
  EXPECT_EQ(error("closefd", {{"fdname", "dump"}}),
            "GenericError: File descriptor named 'dump' not found");
}

TEST_F(Commands, SetsOfDescriptors) {
  start();
  std::vector<UniqueFd> sent;
  sent.emplace_back(::open("/dev/null", O_RDWR | O_CLOEXEC));
  dispatcher_->descriptors().arrived(std::move(sent));
  const Json added = run("add-fd", {{"fdset-id", 7}, {"opaque", "log"}});
  EXPECT_EQ(added["fdset-id"], 7);
  EXPECT_EQ(run("query-fdsets")[0]["fds"][0]["opaque"], "log");
  run("remove-fd", {{"fdset-id", 7}});
  EXPECT_EQ(error("remove-fd", {{"fdset-id", 7}}),
            "GenericError: File descriptor named 'fdset-id:7' not found");
}

TEST_F(Commands, FilesAreOpenedFromSetsOfDescriptors) {
  description_.characters.push_back({.id = "serial0"});
  description_.serials.push_back("serial0");
  start();
  const auto path = folder_ / "handed-over";
  std::vector<UniqueFd> sent;
  sent.emplace_back(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  dispatcher_->descriptors().arrived(std::move(sent));
  const auto set = run("add-fd")["fdset-id"].get<int64_t>();
  const auto file = [](int64_t number) {
    return Json{
        {"id", "serial0"},
        {"backend", {{"type", "file"}, {"data", {{"out", fmt::format("/dev/fdset/{}", number)}}}}}};
  };
  EXPECT_THAT(error("chardev-change", file(set + 1)), HasSubstr("No such file or directory"));
  run("chardev-change", file(set));
  run("remove-fd", {{"fdset-id", set}});
  machine_->board()->ports().write(0x3F8, 1, 'f');
  poll();
  EXPECT_EQ(content(path), "f");
}

TEST_F(Commands, InterruptControllersAreShown) {
  start();
  EXPECT_THAT(type("info pic"), HasSubstr("ioapic0: ver=0x20 id=0x00"));
  EXPECT_THAT(type("info pic"), HasSubstr("pic0: irr=00 imr="));
  EXPECT_THAT(type("info lapic"), StartsWith("dumping local APIC state for CPU 0\r\n"));
  EXPECT_THAT(type("info lapic 1"), StartsWith("dumping local APIC state for CPU 1\r\n"));
  EXPECT_EQ(type("info lapic 2"), "No CPU with APIC ID 2 available\r\n");
  EXPECT_THAT(type("info irq"), StartsWith("IRQ statistics:\r\n"));
}

TEST_F(Commands, MachineNoneAnswersToo) {
  description_ = {};
  description_.type = "none";
  start();
  EXPECT_EQ(status()["status"], "prelaunch");
  for (const char* command : {"query-cpus-fast", "query-block", "query-pci", "query-chardev"})
    EXPECT_EQ(run(command), Json::array()) << command;
  run("system_reset");
  run("system_powerdown");
  EXPECT_THAT(error("inject-nmi"), HasSubstr("NMI"));
  for (const char* line :
       {"info registers", "info mem", "info mtree", "x 0", "info block", "info qtree", "info jit",
        "sendkey a", "i 0x60", "pmemsave 0 1 x", "info network", "info usernet", "info pic",
        "info lapic", "info irq", "netdev_add user,id=n", "set_link n off", "info memdev",
        "hostfwd_add x"})
    type(line);
}

TEST_F(Commands, HumanCommandsAndTheirErrors) {
  start();
  EXPECT_EQ(type("info status"), "VM status: paused (prelaunch)\r\n");
  EXPECT_EQ(run("human-monitor-command", {{"command-line", "info name"}}), "tested\r\n");
  EXPECT_EQ(type("nonsense"), "unknown command: 'nonsense'\r\n");
  EXPECT_EQ(type("info nonsense"), "unknown command: 'info nonsense'\r\n");
  EXPECT_EQ(type("stop now"), "extraneous characters at the end of line\r\n");
  EXPECT_EQ(type("cpu 9"), "invalid CPU index\r\n");
  EXPECT_EQ(type("c"), "");
  EXPECT_EQ(machine_->run_state(), machine::RunState::kRunning);
  EXPECT_THAT(type("info registers -a"), HasSubstr("CPU#1\r\nRAX="));
  EXPECT_THAT(type("info registers"), HasSubstr("RIP=0000000000100020"));
  EXPECT_THAT(type("info cpus"), HasSubstr("* CPU #0: thread_id="));
  EXPECT_THAT(type("info mtree"), HasSubstr("ACPI PM"));
  EXPECT_THAT(type("help"), HasSubstr("system_powerdown"));
  EXPECT_THAT(type("help info"), HasSubstr("info registers"));
  EXPECT_THAT(type("savevm x"), StartsWith("Error: "));
  EXPECT_EQ(type("s"), "");
  EXPECT_EQ(type("info mem"), "PG disabled\r\n");
  // Every command says something to no arguments and lives.
  for (const auto& command : run("query-commands"))
    if (command["name"] != "quit" && command["name"] != "qmp_capabilities")
      ask({{"execute", command["name"]}});
}

}  // namespace
}  // namespace limen::monitor
