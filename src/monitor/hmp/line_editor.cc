#include "monitor/hmp/line_editor.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace limen::monitor {
namespace {

constexpr uint8_t control_key(char letter) { return static_cast<uint8_t>(letter & 0x1F); }
constexpr uint8_t kEscape = 27, kDelete = 127;

}  // namespace

void LineEditor::begin() {
  line_.clear();
  cursor_ = recalled_ = 0;
  callbacks_.print(prompt_);
}

void LineEditor::redraw() {
  // Back to the first column, everything, then back to the cursor.
  std::string text = "\r" + prompt_ + line_ + "\x1b[K";
  if (line_.size() > cursor_) text += fmt::format("\x1b[{}D", line_.size() - cursor_);
  callbacks_.print(text);
}

void LineEditor::insert(std::string_view text) {
  if (line_.size() + text.size() > kMostBytes) return;
  const bool at_end = cursor_ == line_.size();
  line_.insert(cursor_, text);
  cursor_ += text.size();
  if (at_end)
    callbacks_.print(text);
  else
    redraw();
}

void LineEditor::erase(size_t from, size_t to) {
  if (from >= to) return;
  line_.erase(from, to - from);
  cursor_ = from;
  redraw();
}

void LineEditor::move(size_t to) {
  if (to == cursor_ || to > line_.size()) return;
  cursor_ = to;
  redraw();
}

void LineEditor::replace(const std::string& text) {
  line_ = text;
  cursor_ = line_.size();
  redraw();
}

void LineEditor::recall(bool older) {
  if (older ? recalled_ == history_.size() : recalled_ == 0) return;
  if (recalled_ == 0) unfinished_ = line_;
  recalled_ += older ? 1 : static_cast<size_t>(-1);
  replace(recalled_ == 0 ? unfinished_ : history_[history_.size() - recalled_]);
}

void LineEditor::finish() {
  callbacks_.print("\r\n");
  const std::string line = std::move(line_);
  line_.clear();
  cursor_ = recalled_ = 0;
  if (!line.empty() && (history_.empty() || history_.back() != line)) {
    history_.push_back(line);
    if (history_.size() > kMostHistory) history_.pop_front();
  }
  callbacks_.line(line);
}

void LineEditor::complete() {
  const std::string before = line_.substr(0, cursor_);
  const auto matches = callbacks_.complete(before);
  if (matches.empty()) return;
  const auto space = before.rfind(' ');
  const size_t start = space == std::string::npos ? 0 : space + 1;
  const size_t typed = cursor_ - start;
  std::string common = matches.front();
  for (const auto& match : matches)
    common.resize(static_cast<size_t>(std::ranges::mismatch(common, match).in1 - common.begin()));
  if (common.size() > typed || matches.size() == 1) {
    insert(common.substr(typed) + (matches.size() == 1 ? " " : ""));
    return;
  }
  std::string list = "\r\n";
  for (const auto& match : matches) list += match + " ";
  callbacks_.print(list + "\r\n");
  redraw();
}

void LineEditor::sequence(uint8_t byte) {
  if (byte >= '0' && byte <= '9') {
    parameter_ = std::min(parameter_ * 10 + (byte - '0'), 1000u);
    return;
  }
  if (byte == ';') return;  // what is held with the key does not matter
  state_ = State::kPlain;
  switch (byte) {
    case 'A':
      return recall(true);
    case 'B':
      return recall(false);
    case 'C':
      return move(cursor_ + 1);
    case 'D':
      return move(cursor_ == 0 ? 0 : cursor_ - 1);
    case 'H':
      return move(0);
    case 'F':
      return move(line_.size());
    case '~':
      if (parameter_ == 1 || parameter_ == 7) return move(0);
      if (parameter_ == 4 || parameter_ == 8) return move(line_.size());
      if (parameter_ == 3) return erase(cursor_, std::min(cursor_ + 1, line_.size()));
      return;
    default:
      return;
  }
}

void LineEditor::control(uint8_t byte) {
  switch (byte) {
    case control_key('A'):
      return move(0);
    case control_key('E'):
      return move(line_.size());
    case control_key('B'):
      return move(cursor_ == 0 ? 0 : cursor_ - 1);
    case control_key('F'):
      return move(cursor_ + 1);
    case control_key('D'):
      return erase(cursor_, std::min(cursor_ + 1, line_.size()));
    case control_key('K'): {
      const size_t at = cursor_;
      return erase(at, line_.size());
    }
    case control_key('U'):
      return erase(0, cursor_);
    case control_key('W'): {
      size_t start = cursor_;
      while (start > 0 && line_[start - 1] == ' ') --start;
      while (start > 0 && line_[start - 1] != ' ') --start;
      return erase(start, cursor_);
    }
    case control_key('P'):
      return recall(true);
    case control_key('N'):
      return recall(false);
    case control_key('L'):
      callbacks_.print("\x1b[2J\x1b[1;1H");
      return redraw();
    case control_key('C'):
      callbacks_.print("\r\n");
      return begin();
    case control_key('H'):
    case kDelete:
      if (cursor_ > 0) erase(cursor_ - 1, cursor_);
      return;
    case '\t':
      return complete();
    case kEscape:
      state_ = State::kEscape;
      return;
    default:
      return;
  }
}

void LineEditor::key(uint8_t byte) {
  const bool follows_return = std::exchange(after_return_, byte == '\r');
  switch (state_) {
    case State::kEscape:
      parameter_ = 0;
      state_ = byte == '[' ? State::kSequence : byte == 'O' ? State::kSingleShift : State::kPlain;
      return;
    case State::kSequence:
    case State::kSingleShift:
      return sequence(byte);
    case State::kPlain:
      break;
  }
  // A telnet client ends a line with both.
  if ((byte == '\n' || byte == 0) && follows_return) return;
  if (byte == '\r' || byte == '\n') return finish();
  if (byte < 32 || byte == kDelete) return control(byte);
  const char c = static_cast<char>(byte);
  insert({&c, 1});
}

}  // namespace limen::monitor
