#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "device/character/basic_backends.h"
#include "device/character/escape_filter.h"
#include "device/character/multiplexer.h"
#include "device/character/stdio_backend.h"

namespace limen::device {
namespace {

std::span<const uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
std::string text(std::span<const uint8_t> from) { return {from.begin(), from.end()}; }

TEST(EscapeFilter, CarriesOutCommandsAndPassesOnTheRest) {
  int quits = 0;
  std::string shown;
  EscapeFilter filter({.quit = [&] { ++quits; }, .print = [&](std::string_view t) { shown += t; }});
  const auto typed = [&](std::string_view keys) { return text(filter.filter(bytes(keys))); };
  EXPECT_EQ(typed("ls\r"), "ls\r");
  EXPECT_EQ(typed("a\x01"
                  "ab"),
            "a\x01"
            "b");
  EXPECT_EQ(typed("\x01\x01"), "\x01");
  EXPECT_EQ(typed("\x01"), "");
  EXPECT_EQ(quits, 0);
  EXPECT_EQ(typed("x!"), "!");
  EXPECT_EQ(quits, 1);
  EXPECT_EQ(typed("\x01h"), "");
  EXPECT_NE(shown.find("Ctrl-a x"), std::string::npos);
}

TEST(FileBackend, WritesToANewFileAndNamesABadPath) {
  const auto path =
      std::filesystem::temp_directory_path() / ("limen-serial-" + std::to_string(::getpid()));
  std::ofstream(path) << "old contents";
  {
    auto backend = FileBackend::create(path.string()).value();
    backend->write(bytes("new"));
  }
  std::string contents;
  std::getline(std::ifstream(path), contents);
  EXPECT_EQ(contents, "new");
  std::filesystem::remove(path);
  const auto bad = FileBackend::create("/nonexistent/serial.log");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("/nonexistent/serial.log"), std::string::npos);
}

struct Pipe {
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) == 0) {
      read.reset(ends[0]);
      write.reset(ends[1]);
    }
  }
  std::string take() {
    std::string all;
    char buffer[65536];
    pollfd poll{.fd = read.get(), .events = POLLIN, .revents = 0};
    while (::poll(&poll, 1, 0) == 1 && (poll.revents & POLLIN) != 0) {
      const ssize_t count = ::read(read.get(), buffer, sizeof buffer);
      if (count <= 0) break;
      all.append(buffer, static_cast<size_t>(count));
    }
    return all;
  }
  UniqueFd read, write;
};

class Stdio : public ::testing::Test {
 protected:
  std::unique_ptr<StdioBackend> make() {
    auto backend =
        StdioBackend::create(*loop_, {.input = input_.read.get(), .output = output_.write.get()})
            .value();
    connect(*backend);
    return backend;
  }
  std::unique_ptr<Multiplexer> make_multiplexed() {
    auto backend =
        StdioBackend::create(*loop_, {.input = input_.read.get(), .output = output_.write.get()})
            .value();
    auto multiplexer = std::make_unique<Multiplexer>(
        *loop_, std::move(backend),
        Multiplexer::Callbacks{.quit = [this] { quit_ = true; }, .save = [this] { ++saves_; }});
    connect(*multiplexer->add_front_end());
    return multiplexer;
  }
  void connect(CharacterBackend& backend) {
    backend.set_receiver([this] { return room_; },
                         [this](std::span<const uint8_t> got) {
                           EXPECT_LE(got.size(), room_);
                           received_ += text(got);
                           room_ -= got.size();
                         });
  }
  void poll() {
    for (int i = 0; i < 5; ++i) loop_->poll();
  }
  void type(std::string_view keys) {
    ASSERT_EQ(::write(input_.write.get(), keys.data(), keys.size()),
              static_cast<ssize_t>(keys.size()));
  }

  std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  Pipe input_, output_;
  size_t room_ = 1000;
  std::string received_;
  bool quit_ = false;
  int saves_ = 0;
};

TEST_F(Stdio, WritesAtOnce) {
  auto backend = make();
  backend->write(bytes("login: "));
  EXPECT_EQ(output_.take(), "login: ");
}

TEST_F(Stdio, LeavesTheSharedDescriptorBlocking) {
  auto backend = make();
  EXPECT_EQ(::fcntl(output_.write.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(Stdio, SlowReaderGetsEverythingInOrderWithoutBlockingTheWriter) {
  auto backend = make();
  std::string sent;
  for (int i = 0; i < 40'000; ++i) {
    const std::string line = std::to_string(i) + "\n";
    backend->write(bytes(line));
    sent += line;
  }
  std::string got;
  for (int round = 0; round < 1000 && got.size() < sent.size(); ++round) {
    got += output_.take();
    loop_->poll();
  }
  EXPECT_EQ(got, sent);
}

TEST_F(Stdio, DropsWhatAReaderThatNeverReadsLeavesOver) {
  auto backend = make();
  const std::string block(size_t{1} << 16, 'x');
  for (int i = 0; i < 64; ++i) backend->write(bytes(block));
  std::string got;
  for (int round = 0; round < 1000; ++round) {
    got += output_.take();
    loop_->poll();
  }
  EXPECT_GE(got.size(), StdioBackend::kOutputLimit);
  EXPECT_LE(got.size(), StdioBackend::kOutputLimit + 2 * block.size());
  backend->write(bytes("later"));
  EXPECT_EQ(output_.take(), "later");
}

TEST_F(Stdio, ReaderThatWentAwayIsSilence) {
  auto backend = make();
  output_.read.reset();
  for (int i = 0; i < 10; ++i) backend->write(bytes("nobody hears this"));
  loop_->poll();
}

TEST_F(Stdio, SendsWhatIsKeptBeforeItEnds) {
  auto backend = make();
  const std::string block(100'000, 'y');
  backend->write(bytes(block));
  std::string got = output_.take();
  EXPECT_LT(got.size(), block.size());
  backend.reset();
  got += output_.take();
  EXPECT_EQ(got, block);
}

TEST_F(Stdio, PassesInputOnAsTheGuestHasRoom) {
  auto backend = make();
  room_ = 4;
  type("123456789");
  loop_->poll();
  EXPECT_EQ(received_, "1234");
  room_ = 3;
  backend->accept_input();
  loop_->poll();
  EXPECT_EQ(received_, "1234567");
  room_ = 10;
  backend->accept_input();
  loop_->poll();
  EXPECT_EQ(received_, "123456789");
}

TEST_F(Stdio, EscapeEndsTheMachineEvenIfTheGuestReadsNothing) {
  auto multiplexer = make_multiplexed();
  room_ = 0;
  for (int i = 0; i < 5; ++i) {
    type(std::string(30'000, 'z'));
    for (int n = 0; n < 20; ++n) loop_->poll();
  }
  EXPECT_FALSE(quit_);
  type("\x01x");
  loop_->poll();
  EXPECT_TRUE(quit_);
}

TEST_F(Stdio, HelpGoesToThePersonAndNotToTheGuest) {
  auto multiplexer = make_multiplexed();
  type("\x01h");
  loop_->poll();
  EXPECT_NE(output_.take().find("Ctrl-a x"), std::string::npos);
  EXPECT_TRUE(received_.empty());
}

TEST_F(Stdio, MultiplexerGivesTheKeyboardToOneFrontEndAtATime) {
  auto multiplexer = make_multiplexed();
  std::string other;
  std::vector<CharacterEvent> events;
  auto* second = multiplexer->add_front_end();
  second->set_receiver([] { return size_t{100}; },
                       [&](std::span<const uint8_t> got) { other += text(got); });
  second->set_event_handler([&](CharacterEvent event) { events.push_back(event); });
  type(
      "guest\x01"
      "cmonitor\x01"
      "cguest again");
  poll();
  EXPECT_EQ(received_, "guestguest again");
  EXPECT_EQ(other, "monitor");
  EXPECT_EQ(events, (std::vector{CharacterEvent::kMuxIn, CharacterEvent::kMuxOut}));
  second->write(bytes("both are heard"));
  EXPECT_EQ(output_.take(), "both are heard");
}

TEST_F(Stdio, MultiplexerSendsBreakSavesAndMarksLinesWithTheTime) {
  auto multiplexer = make_multiplexed();
  auto* second = multiplexer->add_front_end();
  std::vector<CharacterEvent> events;
  second->set_event_handler([&](CharacterEvent event) { events.push_back(event); });
  type(
      "\x01"
      "s\x01"
      "c\x01"
      "b\x01t");
  poll();
  EXPECT_EQ(saves_, 1);
  EXPECT_EQ(events, (std::vector{CharacterEvent::kMuxIn, CharacterEvent::kBreak}));
  second->write(bytes("\nline"));
  const auto shown = output_.take();
  EXPECT_TRUE(shown.starts_with("\n[00:00:0")) << shown;
  EXPECT_TRUE(shown.ends_with("] line")) << shown;
}

TEST_F(Stdio, WithoutTheMultiplexerCtrlAIsTheGuests) {
  auto backend = make();
  type("\x01x");
  loop_->poll();
  EXPECT_EQ(received_, "\x01x");
  EXPECT_FALSE(quit_);
}

TEST_F(Stdio, EndOfInputIsNotTheEndOfTheMachine) {
  auto backend = make();
  type("last");
  input_.write.reset();
  for (int i = 0; i < 5; ++i) loop_->poll();
  EXPECT_EQ(received_, "last");
  EXPECT_FALSE(quit_);
  backend->write(bytes("still here"));
  EXPECT_EQ(output_.take(), "still here");
}

TEST_F(Stdio, ReadsARegularFileAsTheGuestHasRoom) {
  const auto path =
      std::filesystem::temp_directory_path() / ("limen-input-" + std::to_string(::getpid()));
  std::ofstream(path) << "root\npassword\n";
  input_.read.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::filesystem::remove(path);
  room_ = 5;
  auto backend = make();
  loop_->poll();
  EXPECT_EQ(received_, "root\n");
  room_ = 100;
  backend->accept_input();
  loop_->poll();
  EXPECT_EQ(received_, "root\npassword\n");
}

TEST_F(Stdio, SocketThatIsFullDoesNotBlock) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  output_.read.reset(ends[0]);
  output_.write.reset(ends[1]);
  auto backend = make();
  const std::string block(500'000, 's');
  backend->write(bytes(block));
  std::string got;
  for (int round = 0; round < 1000 && got.size() < block.size(); ++round) {
    got += output_.take();
    loop_->poll();
  }
  EXPECT_EQ(got.size(), block.size());
}

TEST(RawTerminal, IsRawWhileHeldAndRestoredAfterwards) {
  int master = -1;
  int slave = -1;
  ASSERT_EQ(::openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  UniqueFd master_fd(master);
  UniqueFd slave_fd(slave);
  // In a child with the terminal as its own, as a shell's foreground job has it.
  const pid_t child = ::fork();
  if (child == 0) {
    ::setsid();
    if (::login_tty(slave) != 0) ::_exit(10);
    termios mode{};
    auto terminal = RawTerminal::create(0, false);
    if (!terminal || *terminal == nullptr) ::_exit(11);
    ::tcgetattr(0, &mode);
    if ((mode.c_lflag & (ICANON | ECHO | ISIG)) != 0) ::_exit(12);
    if ((mode.c_oflag & OPOST) == 0) ::_exit(13);
    terminal->reset();
    ::tcgetattr(0, &mode);
    if ((mode.c_lflag & (ICANON | ECHO | ISIG)) != (ICANON | ECHO | ISIG)) ::_exit(14);
    ::_exit(0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(RawTerminal, IsRestoredWhenAFatalSignalEndsTheProcess) {
  int master = -1;
  int slave = -1;
  ASSERT_EQ(::openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  UniqueFd master_fd(master);
  UniqueFd slave_fd(slave);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::login_tty(slave) != 0) ::_exit(10);
    auto terminal = RawTerminal::create(0, false);
    if (!terminal || *terminal == nullptr) ::_exit(11);
    ::raise(SIGTERM);
    ::_exit(12);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
  termios mode{};
  ASSERT_EQ(::tcgetattr(slave, &mode), 0);
  EXPECT_EQ(mode.c_lflag & (ICANON | ECHO), static_cast<tcflag_t>(ICANON | ECHO));
}

}  // namespace
}  // namespace limen::device
