#include "curses/curses_display.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <clocale>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/delayed_library.h"
#include "base/loop_thread.h"
#include "curses/terminal_keys.h"

// Behind the others: it defines macros with plain names.
#include <curses.h>

namespace limen::curses {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kInterval{50};
constexpr size_t kMonitorLines = 500;
constexpr uint32_t kEscape = 27;
constexpr std::string_view kPrompt = "(qemu) ";

/// VGA counts its colours from blue, terminals from red.
constexpr std::array<short, 8> kColours = {COLOR_BLACK, COLOR_BLUE,    COLOR_GREEN,  COLOR_CYAN,
                                           COLOR_RED,   COLOR_MAGENTA, COLOR_YELLOW, COLOR_WHITE};

short pair_of(unsigned foreground, unsigned background) {
  return static_cast<short>(1 + foreground + 8 * background);
}

}  // namespace

class CursesDisplay::Terminal {
 public:
  Terminal(display::Screen& screen, display::Input& input, EventLoop& machine)
      : screen_(screen), input_(input), machine_(machine) {}
  ~Terminal();
  Result<> open();
  void set_monitor(std::function<std::string(std::string_view)> monitor) {
    const std::lock_guard lock(*mutex_);
    *monitor_ = std::move(monitor);
  }

 private:
  enum class View : uint8_t { kScreen, kMonitor };

  void look();
  void draw_text(const display::TextFrame& text);
  void draw_picture();
  void draw_monitor();
  void read_keys();
  void key(uint32_t code, bool function, bool alt);
  void monitor_key(uint32_t code, bool function);
  void show_output(const std::string& text);

  display::Screen& screen_;
  display::Input& input_;
  EventLoop& machine_;
  SCREEN* curses_ = nullptr;
  WINDOW* window_ = nullptr;  ///< All of it.
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<Timer> timer_;
  bool watching_ = false;

  // On the thread.
  View view_ = View::kScreen;
  bool escape_ = false;  ///< Esc came, and what follows it decides.
  unsigned since_picture_ = 0;
  std::string picture_size_;
  std::deque<std::string> lines_;
  std::string typed_;
  std::optional<display::TextFrame> shown_;

  // Shared with work that the machine's loop does, which may outlive this.
  std::shared_ptr<std::mutex> mutex_ = std::make_shared<std::mutex>();
  std::shared_ptr<std::function<std::string(std::string_view)>> monitor_ =
      std::make_shared<std::function<std::string(std::string_view)>>();
  std::shared_ptr<std::string> output_ = std::make_shared<std::string>();
};

Result<> CursesDisplay::Terminal::open() {
  if (::isatty(STDIN_FILENO) == 0 || ::isatty(STDOUT_FILENO) == 0)
    return fail("-display curses: standard input and output are no terminal");
  LIMEN_TRY(load_library(LIMEN_NCURSESW_LIBRARY));
  std::setlocale(LC_CTYPE, "");  // NOLINT(concurrency-mt-unsafe): before the thread
  curses_ = ::newterm(nullptr, stdout, stdin);
  if (curses_ == nullptr) return fail("-display curses: the terminal is not known (TERM)");
  ::set_term(curses_);
  ::raw();
  ::noecho();
  ::nonl();
  window_ = ::newwin(0, 0, 0, 0);
  if (window_ == nullptr) return fail("-display curses: the terminal has no room");
  ::keypad(window_, TRUE);
  ::nodelay(window_, TRUE);
  ::set_escdelay(25);
  if (::has_colors()) {
    ::start_color();
    for (unsigned back = 0; back < kColours.size(); ++back)
      for (unsigned fore = 0; fore < kColours.size(); ++fore)
        ::init_pair(pair_of(fore, back), kColours.at(fore), kColours.at(back));
  }
  thread_ = LIMEN_TRY(LoopThread::create("curses"));
  timer_ = std::make_unique<Timer>(thread_->loop(), [this] { look(); });
  LIMEN_TRY(thread_->loop().watch(STDIN_FILENO, EPOLLIN, [this](uint32_t) { read_keys(); }));
  watching_ = true;
  timer_->arm(Clock::now());
  return {};
}

CursesDisplay::Terminal::~Terminal() {
  if (thread_ != nullptr) {
    thread_->run_there([this] {
      timer_->disarm();
      if (watching_) thread_->loop().unwatch(STDIN_FILENO);
    });
    timer_.reset();
    thread_.reset();
  }
  if (curses_ == nullptr) return;
  if (window_ != nullptr) ::delwin(window_);
  ::endwin();
  ::delscreen(curses_);
}

void CursesDisplay::Terminal::look() {
  // An Esc that nothing followed is one.
  if (std::exchange(escape_, false)) key(kEscape, false, false);
  std::string output;
  {
    const std::lock_guard lock(*mutex_);
    output.swap(*output_);
  }
  if (!output.empty()) show_output(output);
  if (view_ == View::kMonitor) {
    draw_monitor();
  } else if (const auto text = screen_.text()) {
    draw_text(*text);
  } else {
    draw_picture();
  }
  ::wrefresh(window_);
  timer_->arm(Clock::now() + kInterval);
}

void CursesDisplay::Terminal::draw_text(const display::TextFrame& text) {
  if (!shown_ || shown_->columns != text.columns || shown_->rows != text.rows) ::werase(window_);
  const auto rows = std::min(text.rows, static_cast<unsigned>(std::max(getmaxy(window_), 0)));
  const auto columns = std::min(text.columns, static_cast<unsigned>(std::max(getmaxx(window_), 0)));
  if (text.cells.size() < size_t{text.rows} * text.columns) return;
  for (unsigned row = 0; row < rows; ++row)
    for (unsigned column = 0; column < columns; ++column) {
      const auto& cell = text.cells[size_t{row} * text.columns + column];
      const unsigned fore = cell.attribute & 7U, back = cell.attribute >> 4 & 7U;
      attr_t attributes = A_NORMAL;
      if ((cell.attribute & 8) != 0) attributes |= A_BOLD;
      if ((cell.attribute & 0x80) != 0) attributes |= A_BLINK;
      const std::array<wchar_t, 2> character = {unicode_of_437(cell.character), 0};
      cchar_t complex{};
      ::setcchar(&complex, character.data(), attributes, pair_of(fore, back), nullptr);
      mvwadd_wch(window_, static_cast<int>(row), static_cast<int>(column), &complex);
    }
  const bool seen = text.cursor && text.cursor->row < rows && text.cursor->column < columns;
  ::curs_set(seen ? 1 : 0);
  if (seen)
    ::wmove(window_, static_cast<int>(text.cursor->row), static_cast<int>(text.cursor->column));
  shown_ = text;
}

void CursesDisplay::Terminal::draw_picture() {
  // How large it is matters little: not worth a whole picture every time.
  constexpr unsigned kSeldom = 20;
  if (since_picture_++ % kSeldom == 0) {
    const auto frame = screen_.snapshot();
    picture_size_ = fmt::format("{} x {} Graphic mode", frame.width, frame.height);
  }
  shown_.reset();
  ::werase(window_);
  ::curs_set(0);
  mvwaddstr(window_, getmaxy(window_) / 2,
            std::max(0, (getmaxx(window_) - static_cast<int>(picture_size_.size())) / 2),
            picture_size_.c_str());
}

void CursesDisplay::Terminal::draw_monitor() {
  shown_.reset();
  ::werase(window_);
  ::curs_set(1);
  const size_t room = static_cast<size_t>(std::max(getmaxy(window_) - 1, 0));
  const size_t first = lines_.size() > room ? lines_.size() - room : 0;
  int row = 0;
  for (size_t i = first; i < lines_.size(); ++i)
    mvwaddnstr(window_, row++, 0, lines_[i].c_str(), getmaxx(window_));
  mvwaddstr(window_, row, 0, (std::string(kPrompt) + typed_).c_str());
}

void CursesDisplay::Terminal::show_output(const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    lines_.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  while (lines_.size() > kMonitorLines) lines_.pop_front();
}

void CursesDisplay::Terminal::read_keys() {
  pollfd terminal{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  ::poll(&terminal, 1, 0);
  if ((terminal.revents & (POLLHUP | POLLERR)) != 0 && watching_) {
    thread_->loop().unwatch(STDIN_FILENO);
    watching_ = false;
    return;
  }
  wint_t code = 0;
  for (int status = ::wget_wch(window_, &code); status != ERR;
       status = ::wget_wch(window_, &code)) {
    const bool function = status == KEY_CODE_YES;
    if (function && code == KEY_RESIZE) {
      shown_.reset();
      continue;
    }
    if (!function && code == kEscape && !escape_) {
      escape_ = true;
      continue;
    }
    key(code, function, std::exchange(escape_, false));
  }
}

void CursesDisplay::Terminal::key(uint32_t code, bool function, bool alt) {
  if (alt && (code == '1' || code == '2')) {
    view_ = code == '1' ? View::kScreen : View::kMonitor;
    return;
  }
  if (view_ == View::kMonitor) return monitor_key(code, function);
  const auto keys = keys_of_terminal(code, function, alt);
  for (const auto each : keys) input_.key(each, true);
  for (auto each = keys.rbegin(); each != keys.rend(); ++each) input_.key(*each, false);
}

void CursesDisplay::Terminal::monitor_key(uint32_t code, bool function) {
  constexpr uint32_t kDelete = 127;
  if (code == kDelete || code == '\b' || (function && code == KEY_BACKSPACE)) {
    if (!typed_.empty()) typed_.pop_back();
  } else if (code == '\r' || code == '\n') {
    show_output(std::string(kPrompt) + typed_ + "\n");
    machine_.post(
        [line = std::exchange(typed_, {}), mutex = mutex_, monitor = monitor_, output = output_] {
          std::function<std::string(std::string_view)> execute;
          {
            const std::lock_guard lock(*mutex);
            execute = *monitor;
          }
          if (!execute) return;
          const auto text = execute(line);
          const std::lock_guard lock(*mutex);
          *output += text;
        });
  } else if (!function && code >= ' ' && code < kDelete) {
    typed_ += static_cast<char>(code);
  }
}

CursesDisplay::CursesDisplay(std::unique_ptr<Terminal> terminal) : terminal_(std::move(terminal)) {}
CursesDisplay::~CursesDisplay() = default;

Result<std::unique_ptr<CursesDisplay>> CursesDisplay::create(display::Screen& screen,
                                                             display::Input& input,
                                                             EventLoop& machine) {
  auto terminal = std::make_unique<Terminal>(screen, input, machine);
  LIMEN_TRY(terminal->open());
  return std::unique_ptr<CursesDisplay>(new CursesDisplay(std::move(terminal)));
}

void CursesDisplay::set_monitor(std::function<std::string(std::string_view line)> monitor) {
  terminal_->set_monitor(std::move(monitor));
}

}  // namespace limen::curses
