// Editing one line on a terminal that sends every key at once.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace limen::monitor {

/// Understands what terminals send for the arrow keys, Home, End and Delete (ECMA-48, xterm's
/// control sequences), and the usual control keys: ^A ^E ^B ^F ^K ^U ^W ^H ^D ^P ^N ^L, Tab.
class LineEditor {
 public:
  static constexpr size_t kMostBytes = 4096;
  static constexpr size_t kMostHistory = 64;

  struct Callbacks {
    std::function<void(std::string_view)> print;
    std::function<void(const std::string&)> line;  ///< Return was pressed.
    std::function<std::vector<std::string>(std::string_view)> complete;
  };

  LineEditor(std::string prompt, std::deque<std::string>& history, Callbacks callbacks)
      : prompt_(std::move(prompt)), history_(history), callbacks_(std::move(callbacks)) {}

  void key(uint8_t byte);
  /// An empty line with its prompt.
  void begin();

 private:
  void control(uint8_t byte);
  void sequence(uint8_t byte);
  void insert(std::string_view text);
  void erase(size_t from, size_t to);
  void move(size_t to);
  void replace(const std::string& text);
  void recall(bool older);
  void finish();
  void complete();
  /// Writes the line again from `from` on, and puts the cursor where it belongs.
  void redraw();

  std::string prompt_;
  std::deque<std::string>& history_;
  Callbacks callbacks_;
  std::string line_;
  size_t cursor_ = 0;
  size_t recalled_ = 0;  // of the history, counted from its end; 0: the new line
  std::string unfinished_;
  enum class State : uint8_t { kPlain, kEscape, kSequence, kSingleShift } state_ = State::kPlain;
  unsigned parameter_ = 0;
  bool after_return_ = false;
};

}  // namespace limen::monitor
