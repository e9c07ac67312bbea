// The machine's screen on a terminal, as long as it shows text.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "base/result.h"
#include "display/input.h"
#include "display/screen.h"

namespace limen::curses {

/// QEMU's -display curses: Alt-1 (or Esc 1) is the screen, Alt-2 the monitor. Everything happens on
/// a thread of its own; there is one at a time, as there is one terminal.
class CursesDisplay {
 public:
  /// Takes over the terminal. Fails where standard input or output is none.
  static Result<std::unique_ptr<CursesDisplay>> create(display::Screen& screen,
                                                       display::Input& input, EventLoop& machine);
  /// Puts the terminal back.
  ~CursesDisplay();
  CursesDisplay(const CursesDisplay&) = delete;
  CursesDisplay& operator=(const CursesDisplay&) = delete;

  /// Carries out the lines of the monitor, on the machine's loop.
  void set_monitor(std::function<std::string(std::string_view line)> monitor);

 private:
  class Terminal;
  explicit CursesDisplay(std::unique_ptr<Terminal> terminal);
  std::unique_ptr<Terminal> terminal_;
};

}  // namespace limen::curses
