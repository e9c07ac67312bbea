#include "device/character/console_backend.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace limen::device {
namespace {

std::span<const uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

class ConsoleBackendTest : public testing::Test {
 protected:
  std::string read(uint64_t from, size_t most = SIZE_MAX) {
    const auto piece = console_.stream()->read(from, most);
    next_ = piece.next;
    return {piece.bytes.begin(), piece.bytes.end()};
  }
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create();
  ConsoleBackend console_{*loop_};
  uint64_t next_ = 0;
};

TEST_F(ConsoleBackendTest, EveryViewerReadsAllAtItsOwnSpeed) {
  int told = 0;
  console_.stream()->set_listener([&] { ++told; });
  console_.write(bytes("hello "));
  console_.write(bytes("world"));
  EXPECT_EQ(told, 2);
  EXPECT_EQ(read(0), "hello world");
  EXPECT_EQ(read(next_), "");
  EXPECT_EQ(read(0, 4), "hell");
  EXPECT_EQ(read(next_, 4), "o wo");
  EXPECT_EQ(read(next_, 4), "rld");
  // Nobody is that far.
  EXPECT_EQ(read(1000), "");
  EXPECT_EQ(next_, 11u);
}

TEST_F(ConsoleBackendTest, OneThatIsTooSlowGoesOnAtAWholeLine) {
  const std::string line = std::string(99, 'x') + "\n";
  for (size_t i = 0; i < 2 * ConsoleStream::kKept / line.size(); ++i) console_.write(bytes(line));
  console_.write(bytes("end"));
  const auto text = read(0);
  EXPECT_LE(text.size(), ConsoleStream::kKept);
  EXPECT_GT(text.size(), ConsoleStream::kKept - 2 * line.size());
  EXPECT_EQ(text.substr(0, line.size()), line);
  EXPECT_TRUE(text.ends_with("x\nend"));
}

TEST_F(ConsoleBackendTest, MoreThanIsKeptLeavesItsEnd) {
  std::string all(3 * ConsoleStream::kKept, 'a');
  all.back() = 'z';
  console_.write(bytes("before"));
  console_.write(bytes(all));
  const auto text = read(0);
  EXPECT_EQ(text, all.substr(all.size() - ConsoleStream::kKept));
}

TEST_F(ConsoleBackendTest, WhatIsTypedWaitsForTheFrontEnd) {
  std::string got;
  size_t room = 0;
  console_.set_receiver([&] { return room; },
                        [&](std::span<const uint8_t> typed) {
                          got.append(typed.begin(), typed.end());
                          room -= typed.size();
                        });
  EXPECT_TRUE(console_.stream()->type(bytes("abcdef")));
  loop_->poll();
  EXPECT_EQ(got, "");
  room = 4;
  console_.accept_input();
  loop_->poll();
  EXPECT_EQ(got, "abcd");
  EXPECT_TRUE(console_.stream()->type(bytes("gh")));
  room = 10;
  console_.accept_input();
  loop_->poll();
  EXPECT_EQ(got, "abcdefgh");
}

TEST_F(ConsoleBackendTest, TooMuchTypedIsRefusedWhole) {
  const std::string much(ConsoleStream::kInputLimit, 'k');
  EXPECT_TRUE(console_.stream()->type(bytes(much)));
  EXPECT_FALSE(console_.stream()->type(bytes("x")));
}

TEST_F(ConsoleBackendTest, TheStreamMayOutliveIt) {
  std::shared_ptr<ConsoleStream> stream;
  {
    ConsoleBackend gone(*loop_);
    stream = gone.stream();
    gone.write(bytes("last words"));
  }
  EXPECT_EQ(stream->read(0, 100).bytes.size(), 10u);
  EXPECT_TRUE(stream->type(bytes("x")));
  loop_->poll();
}

}  // namespace
}  // namespace limen::device
