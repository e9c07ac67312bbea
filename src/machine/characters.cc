#include "machine/characters.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <filesystem>

#include "base/nearest.h"
#include "device/character/basic_backends.h"
#include "device/character/datagram_backend.h"
#include "device/character/output_log.h"
#include "device/character/pipe_backend.h"
#include "device/character/pty_backend.h"
#include "device/character/socket_backend.h"
#include "device/character/stdio_backend.h"

namespace limen::machine {

Characters::~Characters() {
  for (const auto& path : new_files_) std::filesystem::remove(path);
}

Result<std::unique_ptr<device::CharacterBackend>> Characters::open(
    const CharacterDescription& description, Entry& entry) {
  using Kind = CharacterDescription::Kind;
  switch (description.kind) {
    case Kind::kNull:
      return std::make_unique<device::NullBackend>();
    case Kind::kFile:
      if (!std::filesystem::exists(description.path) &&
          !description.path.starts_with("/dev/fdset/"))
        new_files_.push_back(description.path);
      return device::FileBackend::create(description.path, description.append);
    case Kind::kStdio:
      return device::StdioBackend::create(
          loop_, {.keep_signals = description.signals && !description.multiplexed});
    case Kind::kSocket:
      return device::SocketBackend::create(loop_, {.address = description.address,
                                                   .server = description.server,
                                                   .wait = description.wait,
                                                   .telnet = description.telnet,
                                                   .reconnect = description.reconnect});
    case Kind::kPty: {
      auto pty = LIMEN_TRY(device::PtyBackend::create(loop_));
      entry.terminal = pty->path();
      return pty;
    }
    case Kind::kPipe:
      return device::PipeBackend::create(loop_, description.path);
    case Kind::kUdp:
      return device::DatagramBackend::create(loop_, description.address, description.local);
    case Kind::kRing: {
      if (!std::has_single_bit(description.ring_size))
        return fail("size of ringbuf chardev must be power of two");
      auto ring = std::make_unique<device::RingBackend>(description.ring_size);
      entry.ring = ring.get();
      return ring;
    }
    case Kind::kWeb: {
      auto console = std::make_unique<device::ConsoleBackend>(loop_);
      entry.console = console->stream();
      return console;
    }
  }
  return fail("unknown kind of character back end");
}

Result<std::unique_ptr<device::CharacterBackend>> Characters::open_logged(
    const CharacterDescription& description, Entry& entry) {
  auto backend = LIMEN_TRY(open(description, entry));
  if (description.log_file.empty()) return backend;
  auto log = LIMEN_TRY(device::FileBackend::create(description.log_file, description.log_append));
  return std::make_unique<device::OutputLog>(std::move(backend), std::move(log));
}

Result<> Characters::add(const CharacterDescription& description, bool announce) {
  if (contains(description.id)) return fail("Chardev '{}' already exists", description.id);
  auto entry = std::make_unique<Entry>();
  entry->description = description;
  auto backend = LIMEN_TRY(open_logged(description, *entry));
  if (description.multiplexed)
    entry->multiplexer =
        std::make_unique<device::Multiplexer>(loop_, std::move(backend), callbacks_);
  else
    entry->backend = std::make_unique<device::ExchangeableBackend>(std::move(backend));
  if (announce && !entry->terminal.empty()) {
    fmt::print("char device redirected to {} (label {})\n", entry->terminal, description.id);
    std::fflush(stdout);
  }
  entries_.push_back(std::move(entry));
  return {};
}

Result<> Characters::change(const CharacterDescription& description) {
  const auto found = std::ranges::find(entries_, description.id,
                                       [](const auto& entry) { return entry->description.id; });
  if (found == entries_.end()) return fail("Chardev '{}' does not exist", description.id);
  Entry& entry = **found;
  if (entry.multiplexer) return fail("Mux device hotswap not supported yet");
  Entry fresh;
  auto backend = LIMEN_TRY(open_logged(description, fresh));
  entry.backend->exchange(std::move(backend));
  entry.description = description;
  entry.ring = fresh.ring;
  entry.console = fresh.console;
  entry.terminal = fresh.terminal;
  return {};
}

Result<> Characters::send_break(const std::string& id) {
  const Entry* entry = find(id);
  if (entry == nullptr) return fail("Chardev '{}' not found", id);
  if (entry->multiplexer)
    entry->multiplexer->send_break();
  else
    entry->backend->send_break();
  return {};
}

const Characters::Entry* Characters::find(std::string_view id) const {
  for (const auto& entry : entries_)
    if (entry->description.id == id) return entry.get();
  return nullptr;
}

Result<> Characters::remove(const std::string& id) {
  const Entry* entry = find(id);
  if (entry == nullptr) return fail("Chardev '{}' not found", id);
  if (entry->in_use) return fail("Chardev '{}' is busy", id);
  std::erase_if(entries_, [&](const auto& each) { return each.get() == entry; });
  return {};
}

Result<device::CharacterBackend*> Characters::take(const std::string& id) {
  std::vector<std::string_view> ids;
  for (auto& entry : entries_) {
    ids.push_back(entry->description.id);
    if (entry->description.id != id) continue;
    if (entry->multiplexer) {
      auto* port = entry->multiplexer->add_front_end();
      if (port == nullptr)
        return fail("too many uses of multiplexed chardev '{}' (maximum is {})", id,
                    device::Multiplexer::kMostFrontEnds);
      entry->in_use = true;
      return port;
    }
    if (entry->in_use) return fail("Device '{}' is in use", id);
    entry->in_use = true;
    return entry->backend.get();
  }
  return fail("there is no character back end '{}'{}", id, choice_hint(id, ids));
}

void Characters::give_back(const std::string& id) {
  for (auto& entry : entries_)
    if (entry->description.id == id && !entry->multiplexer) entry->in_use = false;
}

std::vector<Characters::Info> Characters::list() const {
  std::vector<Info> all;
  for (const auto& entry : entries_) {
    const auto& backend = entry->multiplexer ? entry->multiplexer->backend() : *entry->backend;
    all.push_back({entry->description.id, backend.filename(), backend.has_front_end()});
  }
  return all;
}

device::RingBackend* Characters::ring(const std::string& id) const {
  const Entry* entry = find(id);
  return entry != nullptr ? entry->ring : nullptr;
}

std::vector<Characters::Console> Characters::consoles() const {
  std::vector<Console> all;
  for (const auto& entry : entries_)
    if (entry->console != nullptr) all.push_back({entry->description.id, entry->console});
  return all;
}

std::string Characters::terminal(const std::string& id) const {
  const Entry* entry = find(id);
  return entry != nullptr ? entry->terminal : "";
}

}  // namespace limen::machine
