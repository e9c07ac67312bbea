// Character back ends.
#include "base/base64.h"
#include "machine/characters.h"
#include "machine/machine.h"
#include "monitor/qmp/command_table.h"
#include "monitor/qmp/descriptor_store.h"
#include "monitor/shared.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kCharacterSchema = R"(
struct ChardevInfo { label: str, filename: str, frontend-open: bool }
command query-chardev -> [ChardevInfo]
struct ChardevBackendInfo { name: str }
command query-chardev-backends -> [ChardevBackendInfo]

enum SocketAddressType { inet, unix, fd }
struct InetSocketAddress { host: str, port: str, *to: uint, *ipv4: bool, *ipv6: bool, *numeric: bool,
  *keep-alive: bool }
struct UnixSocketAddress { path: str, *abstract: bool, *tight: bool }
struct String { str: str }
struct InetSocketAddressWrapper { data: InetSocketAddress }
struct UnixSocketAddressWrapper { data: UnixSocketAddress }
struct StringWrapper { data: String }
union SocketAddressLegacy { type: SocketAddressType } on type {
  inet: InetSocketAddressWrapper, unix: UnixSocketAddressWrapper, fd: StringWrapper }

enum ChardevBackendKind { file, null, pipe, pty, ringbuf, memory, socket, stdio, udp }
struct ChardevUdp { remote: SocketAddressLegacy, *local: SocketAddressLegacy, *logfile: str,
  *logappend: bool }
struct ChardevUdpWrapper { data: ChardevUdp }
struct ChardevFile { out: str, *append: bool, *logfile: str, *logappend: bool }
struct ChardevHostdev { device: str, *logfile: str, *logappend: bool }
struct ChardevCommon { *logfile: str, *logappend: bool }
struct ChardevRingbuf { *size: uint, *logfile: str, *logappend: bool }
struct ChardevStdio { *signal: bool, *logfile: str, *logappend: bool }
struct ChardevSocket { addr: SocketAddressLegacy, *server: bool, *wait: bool, *nodelay: bool,
  *telnet: bool, *reconnect: uint, *logfile: str, *logappend: bool }
struct ChardevFileWrapper { data: ChardevFile }
struct ChardevHostdevWrapper { data: ChardevHostdev }
struct ChardevCommonWrapper { data: ChardevCommon }
struct ChardevRingbufWrapper { data: ChardevRingbuf }
struct ChardevStdioWrapper { data: ChardevStdio }
struct ChardevSocketWrapper { data: ChardevSocket }
union ChardevBackend { type: ChardevBackendKind } on type {
  file: ChardevFileWrapper, null: ChardevCommonWrapper, pipe: ChardevHostdevWrapper,
  pty: ChardevCommonWrapper, ringbuf: ChardevRingbufWrapper, memory: ChardevRingbufWrapper,
  socket: ChardevSocketWrapper, stdio: ChardevStdioWrapper, udp: ChardevUdpWrapper }
struct ChardevReturn { *pty: str }
command chardev-add { id: str, backend: ChardevBackend } -> ChardevReturn
command chardev-change { id: str, backend: ChardevBackend } -> ChardevReturn
command chardev-remove { id: str }
command chardev-send-break { id: str }

enum DataFormat { utf8, base64 }
command ringbuf-write { device: str, data: str, *format: DataFormat }
command ringbuf-read { device: str, size: int, *format: DataFormat } -> str
)";

using machine::CharacterDescription;
using Kind = CharacterDescription::Kind;

Reply query_chardev(Context& context, const Json&) {
  Json all = Json::array();
  for (const auto& info : context.machine.characters().list())
    all.push_back({{"label", info.label},
                   {"filename", info.filename},
                   {"frontend-open", info.front_end_open}});
  return all;
}

Reply query_chardev_backends(Context&, const Json&) {
  Json all = Json::array();
  for (const char* name :
       {"file", "null", "pipe", "pty", "ringbuf", "memory", "socket", "stdio", "udp"})
    all.push_back({{"name", name}});
  return all;
}

/// fd: the name that getfd gave, or a number that was inherited.
Result<int> descriptor_of(Context& context, const std::string& text) {
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos)
    return std::atoi(text.c_str());
  return LIMEN_TRY(context.descriptors.take(text)).release();
}

Result<device::SocketAddress> socket_address(Context& context, const Json& wrapper) {
  const auto& data = wrapper["data"];
  device::SocketAddress address;
  if (wrapper["type"] == "unix") {
    address.path = data["path"];
    address.abstract = data.value("abstract", false);
    address.tight = data.value("tight", true);
  } else if (wrapper["type"] == "inet") {
    address.kind = device::SocketAddress::Kind::kInet;
    address.host = data["host"];
    address.port = data["port"];
    const uint64_t last = data.value("to", uint64_t{0});
    if (last > UINT16_MAX) return fail("Parameter 'backend.data.addr.data.to' expects uint16_t");
    address.last_port = static_cast<uint16_t>(last);
    address.ipv4 = data.value("ipv4", false);
    address.ipv6 = data.value("ipv6", false);
  } else {
    address.kind = device::SocketAddress::Kind::kDescriptor;
    address.descriptor = LIMEN_TRY(descriptor_of(context, data["str"]));
  }
  return address;
}

Result<CharacterDescription> describe(Context& context, const Json& backend) {
  CharacterDescription character;
  const std::string type = backend["type"];
  const auto& data = backend["data"];
  character.log_file = data.value("logfile", "");
  character.log_append = data.value("logappend", false);
  if (type == "file") {
    character.kind = Kind::kFile;
    character.path = data["out"];
    character.append = data.value("append", false);
  } else if (type == "pipe") {
    character.kind = Kind::kPipe;
    character.path = data["device"];
  } else if (type == "pty") {
    character.kind = Kind::kPty;
  } else if (type == "ringbuf" || type == "memory") {
    character.kind = Kind::kRing;
    character.ring_size = data.value("size", character.ring_size);
  } else if (type == "stdio") {
    character.kind = Kind::kStdio;
    character.signals = data.value("signal", true);
  } else if (type == "udp") {
    character.kind = Kind::kUdp;
    character.address = LIMEN_TRY(socket_address(context, data["remote"]));
    character.local.kind = device::SocketAddress::Kind::kInet;
    if (const auto local = data.find("local"); local != data.end())
      character.local = LIMEN_TRY(socket_address(context, *local));
    for (const auto* address : {&character.address, &character.local})
      if (address->kind != device::SocketAddress::Kind::kInet)
        return fail("Invalid parameter 'type': udp has addresses of type inet");
  } else if (type == "socket") {
    character.kind = Kind::kSocket;
    character.server = data.value("server", true);
    // QEMU waits here and holds everybody up; a monitor that does must not.
    character.wait = false;
    character.telnet = data.value("telnet", false);
    const uint64_t seconds = data.value("reconnect", uint64_t{0});
    if (character.server && seconds != 0)
      return fail("'reconnect' option is incompatible with socket in server listen mode");
    if (seconds > INT32_MAX) return fail("reconnect={} is too long", seconds);
    character.reconnect = std::chrono::seconds(seconds);
    character.address = LIMEN_TRY(socket_address(context, data["addr"]));
    character.address.no_delay = data.value("nodelay", true);
  }
  return character;
}

/// Opens a back end, in the place of another or for itself.
Reply open_backend(Context& context, const Json& arguments, bool change) {
  auto character = describe(context, arguments["backend"]);
  if (!character) return std::unexpected(Failure(std::move(character).error()));
  character->id = arguments["id"];
  auto& characters = context.machine.characters();
  if (auto opened = change ? characters.change(*character) : characters.add(*character, false);
      !opened)
    return std::unexpected(Failure(std::move(opened).error()));
  characters.keep_files();
  Json outcome = Json::object();
  if (const auto path = characters.terminal(character->id); !path.empty()) outcome["pty"] = path;
  return outcome;
}

Reply chardev_add(Context& context, const Json& arguments) {
  return open_backend(context, arguments, false);
}

Reply chardev_change(Context& context, const Json& arguments) {
  return open_backend(context, arguments, true);
}

Reply chardev_send_break(Context& context, const Json& arguments) {
  if (auto sent = context.machine.characters().send_break(arguments["id"]); !sent)
    return std::unexpected(Failure(std::move(sent).error()));
  return nothing();
}

Reply chardev_remove(Context& context, const Json& arguments) {
  if (auto removed = context.machine.characters().remove(arguments["id"]); !removed)
    return std::unexpected(Failure(std::move(removed).error()));
  return nothing();
}

std::expected<device::RingBackend*, Failure> ring_of(Context& context, const std::string& id) {
  if (!context.machine.characters().contains(id))
    return failure("GenericError", "Device '{}' not found", id);
  auto* ring = context.machine.characters().ring(id);
  if (ring == nullptr) return failure("GenericError", "{} is not a ringbuf device", id);
  return ring;
}

Reply ringbuf_write(Context& context, const Json& arguments) {
  const auto ring = ring_of(context, arguments["device"]);
  if (!ring) return std::unexpected(ring.error());
  const std::string data = arguments["data"];
  if (arguments.value("format", "utf8") == "utf8") {
    (*ring)->write({reinterpret_cast<const uint8_t*>(data.data()), data.size()});
    return nothing();
  }
  const auto bytes = decode_base64(data);
  if (!bytes) return failure("GenericError", "Base64 data '{}' is not valid", data);
  (*ring)->write(*bytes);
  return nothing();
}

Reply ringbuf_read(Context& context, const Json& arguments) {
  const auto ring = ring_of(context, arguments["device"]);
  if (!ring) return std::unexpected(ring.error());
  const int64_t size = arguments["size"];
  if (size <= 0) return failure("GenericError", "size must be greater than zero");
  const auto bytes = (*ring)->read(static_cast<size_t>(size));
  if (arguments.value("format", "utf8") == "base64") return encode_base64(bytes);
  return std::string(bytes.begin(), bytes.end());
}

}  // namespace

CommandGroup character_commands() {
  return {kCharacterSchema,
          {{"query-chardev", query_chardev},
           {"query-chardev-backends", query_chardev_backends},
           {"chardev-add", chardev_add},
           {"chardev-change", chardev_change},
           {"chardev-remove", chardev_remove},
           {"chardev-send-break", chardev_send_break},
           {"ringbuf-write", ringbuf_write},
           {"ringbuf-read", ringbuf_read}}};
}

}  // namespace limen::monitor
