// Who shows the machine's screen and takes a person's input.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "display/input.h"
#include "display/screen.h"
#include "machine/description.h"
#include "machine/events.h"
#include "vnc/server.h"

namespace limen::curses {
class CursesDisplay;
}

namespace limen::machine {

class Board;

class Displays {
 public:
  /// What the description asks for. `board`: nullptr for machine "none", whose screen is empty.
  /// `events` and `loop` outlive it.
  static Result<std::unique_ptr<Displays>> create(const MachineDescription& description,
                                                  Board* board, Events& events, EventLoop& loop);
  ~Displays();

  [[nodiscard]] const std::vector<std::unique_ptr<vnc::Server>>& vnc_servers() const {
    return vnc_servers_;
  }
  /// nullptr: there is none. "": the first.
  [[nodiscard]] vnc::Server* vnc_server(std::string_view id) const;
  /// Where viewers look and what they give their input to.
  [[nodiscard]] display::Screen& screen() { return *screen_; }
  [[nodiscard]] display::Input& input() { return *input_; }
  /// What a viewer with a monitor of its own has carried out: takes a line and returns what it
  /// prints. Called on the machine's loop.
  void set_monitor(std::function<std::string(std::string_view line)> monitor);

 private:
  Displays() = default;
  Result<> open_vnc(const MachineDescription& description, const vnc::ServerOptions& options,
                    Board* board, Events& events);

  std::unique_ptr<display::Screen> own_screen_;  ///< Where the board has none.
  std::unique_ptr<display::Input> own_input_;
  display::Screen* screen_ = nullptr;
  display::Input* input_ = nullptr;
  std::vector<std::unique_ptr<vnc::Server>> vnc_servers_;
  std::unique_ptr<curses::CursesDisplay> curses_;
};

}  // namespace limen::machine
