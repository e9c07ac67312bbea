// What a person asked for, in a form that no command line owns: qemu/ and cli/ fill it in, machine/
// builds it.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "block/filters/throttle_limits.h"
#include "device/character/socket_address.h"
#include "net/options.h"
#include "vnc/options.h"
#include "x86/topology.h"

namespace limen::machine {

/// A block node that has no drive of its own, being part of another's chain.
struct NodeName {
  std::string name = {};
  std::string driver = {};
};

/// A disk image and all that stands before it: -drive, or the node of a -blockdev.
struct DriveDescription {
  std::string id = {};         ///< "" for an unnamed -drive; of a -blockdev its node's name.
  std::string node_name = {};  ///< For messages and the monitor.
  std::string file = {};       ///< "": an empty drive for removable media.
  std::string format = {};     ///< raw, qcow2, null-co, or "" to guess.
  /// "virtio", "none" (a -device refers to it by id), "ide" (of the board's own controller).
  std::string interface = "virtio";
  /// Of "ide": index=, or bus= and unit=; nothing: the first place that is free.
  std::optional<unsigned> index = {}, bus = {}, unit = {};
  bool read_only = false;
  bool auto_read_only = false;         ///< For reading alone when it cannot be written.
  bool cdrom = false;                  ///< media=cdrom.
  std::string cache = "writeback";     ///< none, writeback, writethrough, directsync, unsafe.
  std::string aio = {};                ///< threads, native, io_uring; "": what is best.
  bool discard_unmap = true;           ///< discard=unmap; false: discard=ignore.
  std::string detect_zeroes = "off";   ///< off, on, unmap.
  std::string read_errors = "report";  ///< report, ignore, stop, enospc.
  std::string write_errors = "enospc";
  bool snapshot = false;  ///< What is written is gone when the machine ends.
  bool locking = true;    ///< Other processes are kept out.
  block::ThrottleLimits throttle = {};
  std::string throttle_group = {};          ///< "": of its own.
  uint64_t null_bytes = uint64_t{1} << 30;  ///< null-co.
  bool null_reads_zeroes = false;           ///< null-co.
  std::string serial = {};
  /// What the image's own header says of a backing image does not count: it is this, or none.
  bool own_backing = false;
  std::shared_ptr<const DriveDescription> backing = {};
  /// The named nodes between this one and the file, as -blockdev had them.
  std::vector<NodeName> nodes = {};
  std::string node_driver = {};  ///< Of a -blockdev: its driver=.
  /// The node that was made separately and now has this one as its "file" or "backing"; such a
  /// drive is not open. "": none.
  std::string parent = {};
  /// The monitor did not make the node: it goes with the device that has it.
  bool implicit = false;

  /// Made by -blockdev or blockdev-add.
  [[nodiscard]] bool is_node() const { return !id.empty() && id == node_name; }
};

/// -device DRIVER,property=value,...
struct DeviceDescription {
  std::string driver = {};
  std::map<std::string, std::string> properties = {};  ///< id, addr, drive, chardev, ... as given.
};

/// A character back end, QEMU's chardev.
struct CharacterDescription {
  std::string id = {};
  enum class Kind : uint8_t { kStdio, kFile, kNull, kSocket, kPty, kPipe, kRing, kUdp, kWeb };
  Kind kind = Kind::kNull;
  std::string path = {};     ///< kFile, kPipe.
  bool append = false;       ///< kFile: keep what is there.
  bool multiplexed = false;  ///< Several front ends share it; Ctrl-a is the escape.
  bool signals = true;       ///< kStdio: Ctrl-c ends the machine; false: it goes to the guest.
  device::SocketAddress address =
      {};                            ///< kSocket, as the rest up to `reconnect`; kUdp: the peer's.
  device::SocketAddress local = {};  ///< kUdp.
  bool server = false;
  bool wait = false;  ///< The machine starts when a client is there.
  bool telnet = false;
  std::chrono::milliseconds reconnect{0};
  uint64_t ring_size = 65536;  ///< kRing: a power of two.
  std::string log_file = {};   ///< What is written is written here, too.
  bool log_append = false;
};

/// -display web: the console in a browser.
struct WebDescription {
  std::string origin = {};                 ///< "-display web", for messages.
  std::string host = {};                   ///< Where it listens.
  uint16_t first_port = 0, last_port = 0;  ///< The first of them that is free.
  std::string token = {};                  ///< Who has it gets in; "": one is made up.
  bool needs_token = true;
};

/// A monitor, QEMU's -mon.
struct MonitorDescription {
  std::string id = {};
  std::string character = {};  ///< Id of one of `characters`.
  bool control = false;        ///< QMP; false: for a person.
  bool pretty = false;         ///< QMP indented.
};

/// What follows an event of the guest's, QEMU's -action.
struct Actions {
  enum class Reboot : uint8_t { kReset, kShutdown } reboot = Reboot::kReset;
  enum class Shutdown : uint8_t { kPowerOff, kPause } shutdown = Shutdown::kPowerOff;
  enum class Panic : uint8_t { kShutdown, kPause, kExitFailure, kNone } panic = Panic::kShutdown;
  enum class Watchdog : uint8_t {
    kReset,
    kShutdown,
    kPowerOff,
    kPause,
    kDebug,
    kNone,
    kInjectNmi
  } watchdog = Watchdog::kReset;
};

/// Any -object, and what object-add makes.
struct ObjectDescription {
  std::string type = {};
  std::string id = {};
  std::map<std::string, std::string> properties = {};  ///< As given.
};

/// What stands behind a TPM's interface, QEMU's tpmdev: swtpm at the other end of a socket.
struct TpmDescription {
  std::string id = {};
  std::string character = {};  ///< Id of one of `characters`.
};

/// What stands behind a network card, QEMU's netdev.
struct NetdevDescription {
  net::BackendDescription backend = {};
  std::string origin = {};  ///< "-netdev user,id=n0", for messages.
};

/// -rtc.
struct ClockDescription {
  enum class Base : uint8_t { kUtc, kLocalTime, kDate } base = Base::kUtc;
  int64_t date = 0;  ///< kDate: what the clock shows when the machine starts, seconds since 1970.
  bool catch_up = false;  ///< driftfix=slew: lost periodic interrupts come later.
};

/// -boot.
struct BootDescription {
  std::string order = {};  ///< Letters: a floppy, c disk, d CD, n network; "": the board's.
  std::string once = {};   ///< The same, until the first reset.
  bool menu = false;
  bool strict = false;                     ///< From nothing that has no bootindex=.
  std::optional<uint64_t> splash_time;     ///< Milliseconds that the menu waits.
  std::optional<uint64_t> reboot_timeout;  ///< Milliseconds until another try.
};

/// -fw_cfg.
struct FirmwareItem {
  std::string name;
  std::vector<uint8_t> content;
};

/// What is written down of the engine's work, QEMU's -d, -D and -perfmap.
struct LogDescription {
  std::set<std::string> items = {};  ///< Among machine::log_items().
  std::string file = {};             ///< "": standard error.
  bool perf_map = false;
  std::vector<std::string> events = {};  ///< Patterns for trace::choose().
  std::string event_file = {};           ///< "": as `file`.
};

/// What board microvm leaves to choose; the others have all of it.
struct MicrovmDescription {
  bool pcie = false;       ///< A PCI Express host bridge, as board q35 has it.
  bool rtc = true;         ///< The real-time clock.
  bool isa_serial = true;  ///< Serial ports.
  bool pic = true;         ///< The tables tell of the 8259 pair.
  /// Where no table tells of virtio devices, the kernel's command line does.
  bool auto_kernel_command_line = true;
};

struct MachineDescription {
  std::string type = "pc";  ///< Or "q35", "microvm", or "none": nothing but monitors.
  std::string accelerator = "soft";
  std::map<std::string, std::string> accelerator_properties = {};
  LogDescription log = {};
  std::string cpu = "max";  ///< Model and features, as -cpu has them.
  unsigned vcpus = 1;
  /// Groups exactly `vcpus`; nothing: they are cores of one socket.
  std::optional<x86::Topology> topology = {};
  uint64_t memory_bytes = uint64_t{128} << 20;
  std::string memory_backend = {};  ///< Id of one of `objects` that is the memory; "": none.
  bool preallocate_memory = false;  ///< The host has all of it ready from the start.
  std::string name = {};
  std::string kernel = {};
  std::string initrd = {};
  std::string append = {};
  std::string bios = {};  ///< File of the firmware; "": SeaBIOS, where no kernel is given.
  BootDescription boot = {};
  std::vector<FirmwareItem> firmware_items = {};
  std::string uuid = {};      ///< In QEMU's form, lower case; "": none was given.
  bool start_paused = false;  ///< -S: the processors wait for a monitor's or debugger's word.
  std::vector<CharacterDescription> characters = {};
  std::vector<MonitorDescription> monitors = {};
  std::vector<std::string> serials = {};  ///< Ids of `characters`, in COM order; "": no port.
  std::vector<DriveDescription> drives = {};
  std::vector<DriveDescription> child_nodes = {};  ///< Nodes that have a `parent`.
  std::vector<NetdevDescription> netdevs = {};
  std::vector<TpmDescription> tpms = {};
  std::vector<ObjectDescription> objects = {};
  std::vector<DeviceDescription> devices = {};
  ClockDescription clock = {};
  bool hpet = true;
  bool acpi = true;  ///< Tables that describe the board to the guest.
  /// S3 and S4, which board microvm does not have.
  bool suspend_to_ram = true, suspend_to_disk = true;
  bool pit = true;  ///< The 8254, with port 61H.
  MicrovmDescription microvm = {};
  std::string gdb = {};  ///< Where a debugger connects, as -gdb has it; "": nowhere.
  Actions actions = {};
  /// What shows the screen; kDefault: whatever suits, which is a VNC server.
  enum class Display : uint8_t { kDefault, kNone, kVnc, kCurses, kWeb } display = Display::kDefault;
  std::vector<vnc::ServerOptions> vnc_servers = {};
  std::optional<WebDescription> web = {};
};

}  // namespace limen::machine
