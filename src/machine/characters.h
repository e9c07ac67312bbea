// The character back ends of a machine, by name: opened from their descriptions, handed to front
// ends, listed and removed by monitors.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "device/character/console_backend.h"
#include "device/character/exchangeable_backend.h"
#include "device/character/multiplexer.h"
#include "device/character/ring_backend.h"
#include "device/character_backend.h"
#include "machine/description.h"

namespace limen::machine {

/// All calls on the loop's thread, or before it runs.
class Characters {
 public:
  struct Info {
    std::string label;
    std::string filename;
    bool front_end_open = false;
  };

  Characters(EventLoop& loop, device::Multiplexer::Callbacks callbacks)
      : loop_(loop), callbacks_(std::move(callbacks)) {}
  ~Characters();
  Characters(const Characters&) = delete;
  Characters& operator=(const Characters&) = delete;

  /// Opens one. What QEMU says of a pseudo-terminal is said on standard output if `announce`.
  Result<> add(const CharacterDescription& description, bool announce);
  /// Opens another back end in the place of the one with that id, under its front end.
  Result<> change(const CharacterDescription& description);
  /// A break condition for its front end.
  Result<> send_break(const std::string& id);
  /// Fails for one that is not there, or that a front end has.
  Result<> remove(const std::string& id);

  /// The back end with that id, for one user, or for several if it is multiplexed.
  Result<device::CharacterBackend*> take(const std::string& id);
  /// The user of a back end without a multiplexer is done with it.
  void give_back(const std::string& id);

  [[nodiscard]] std::vector<Info> list() const;
  /// Null for what is not a ringbuf.
  [[nodiscard]] device::RingBackend* ring(const std::string& id) const;
  /// Those that a browser shows, in the order of their making.
  struct Console {
    std::string id;
    std::shared_ptr<device::ConsoleStream> stream;
  };
  [[nodiscard]] std::vector<Console> consoles() const;
  /// "/dev/pts/3"; "" for what is not a pseudo-terminal.
  [[nodiscard]] std::string terminal(const std::string& id) const;
  [[nodiscard]] bool contains(std::string_view id) const { return find(id) != nullptr; }

  /// The files that were made until here stay; before, they go with this object.
  void keep_files() { new_files_.clear(); }

 private:
  struct Entry {
    CharacterDescription description;
    std::unique_ptr<device::ExchangeableBackend> backend;  // null if `multiplexer` has it
    std::unique_ptr<device::Multiplexer> multiplexer;
    device::RingBackend* ring = nullptr;
    std::shared_ptr<device::ConsoleStream> console;
    std::string terminal;
    bool in_use = false;
  };

  Result<std::unique_ptr<device::CharacterBackend>> open(const CharacterDescription& description,
                                                         Entry& entry);
  Result<std::unique_ptr<device::CharacterBackend>> open_logged(
      const CharacterDescription& description, Entry& entry);
  [[nodiscard]] const Entry* find(std::string_view id) const;

  EventLoop& loop_;
  device::Multiplexer::Callbacks callbacks_;
  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<std::string> new_files_;
};

}  // namespace limen::machine
