#include "device/i8042.h"

#include <atomic>
#include <chrono>
#include <deque>
#include <thread>

#include "device/pc_fixture.h"

namespace limen::device {
namespace {

class Keyboard : public DeviceTest {
 protected:
  uint32_t status() { return in(0x64); }
  std::vector<uint32_t> drain() {
    std::vector<uint32_t> bytes;
    while ((status() & 1) != 0) bytes.push_back(in(0x60));
    return bytes;
  }
  void command(uint8_t value) { out(0x64, value); }
  void data(uint8_t value) { out(0x60, value); }
  uint32_t command_byte() {
    command(0x20);
    return in(0x60);
  }

  int resets_ = 0;
  int uses_ = 0;
  std::vector<bool> a20_;
  I8042 controller_{ports_,
                    line(1),
                    line(12),
                    {.reset = [this] { ++resets_; },
                     .a20 = [this](bool on) { a20_.push_back(on); },
                     .used = [this] { ++uses_; }}};
};

using Bytes = std::vector<uint32_t>;

TEST_F(Keyboard, ControllerPassesItsSelfTests) {
  command(0xAA);
  EXPECT_EQ(drain(), Bytes({0x55}));
  command(0xAB);
  EXPECT_EQ(drain(), Bytes({0x00}));
  command(0xA9);
  EXPECT_EQ(drain(), Bytes({0x00}));
}

TEST_F(Keyboard, KeysAndButtonsAreAUseAndMovementIsNot) {
  controller_.key(0x1E, true);
  EXPECT_EQ(uses_, 1);
  controller_.move(1, 1);
  controller_.report();
  EXPECT_EQ(uses_, 1);
  controller_.button(Ps2Mouse::kLeft, true);
  EXPECT_EQ(uses_, 2);
}

TEST_F(Keyboard, CommandByteIsReadAndWritten) {
  command(0x60);
  EXPECT_NE(status() & 0x08, 0u);
  data(0x30);
  EXPECT_EQ(status() & 0x08, 0u);
  EXPECT_EQ(command_byte(), 0x30u);
  command(0xAE);
  EXPECT_EQ(command_byte(), 0x20u);
  command(0xA8);
  EXPECT_EQ(command_byte(), 0x00u);
  command(0xA7);
  EXPECT_EQ(command_byte(), 0x20u);
}

TEST_F(Keyboard, KeyboardAnswersResetIdentifyAndEnable) {
  command(0x60);
  data(0x01);  // no translation
  data(0xFF);
  EXPECT_EQ(drain(), Bytes({0xFA, 0xAA}));
  data(0xF2);
  EXPECT_EQ(drain(), Bytes({0xFA, 0xAB, 0x83}));
  data(0xF4);
  EXPECT_EQ(drain(), Bytes({0xFA}));
  data(0xED);
  EXPECT_EQ(drain(), Bytes({0xFA}));
  data(0x07);
  EXPECT_EQ(drain(), Bytes({0xFA}));
  data(0xF0);
  data(0x00);
  EXPECT_EQ(drain(), Bytes({0xFA, 0xFA, 0x02}));
  data(0xEE);
  EXPECT_EQ(drain(), Bytes({0xEE}));
}

TEST_F(Keyboard, EveryByteMakesAnEdgeOnItsLine) {
  data(0xFF);
  EXPECT_TRUE(sink_.level(1));
  EXPECT_EQ(sink_.rises(1), 1);
  in(0x60);
  EXPECT_TRUE(sink_.level(1));  // the second byte
  EXPECT_EQ(sink_.rises(1), 2);
  in(0x60);
  EXPECT_FALSE(sink_.level(1));
}

// A guest whose handler takes one byte for each edge, as Linux' does.
TEST_F(Keyboard, NoEdgeIsLostToAKeyThatIsPressedWhileTheGuestReads) {
  constexpr int kStrokes = 1000;
  data(0xF4);  // tells of keys
  drain();
  const int before = sink_.rises(1);
  std::atomic<int> taken = 0;
  std::jthread person([&] {
    for (int stroke = 0; stroke < kStrokes; ++stroke) {
      controller_.key(0x12, true);
      controller_.key(0x12, false);
      while (taken < 2 * stroke) std::this_thread::yield();
    }
  });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (taken < 2 * kStrokes && std::chrono::steady_clock::now() < deadline) {
    if (sink_.rises(1) - before > taken) {
      in(0x60);
      ++taken;
    }
  }
  EXPECT_EQ(taken, 2 * kStrokes);
  taken = 2 * kStrokes;  // for the person to end
}

TEST_F(Keyboard, MouseAnswersThroughTheAuxiliaryPort) {
  command(0xD4);
  data(0xFF);
  EXPECT_EQ(status() & 0x21, 0x21u);
  EXPECT_TRUE(sink_.level(12));
  EXPECT_FALSE(sink_.level(1));
  EXPECT_EQ(drain(), Bytes({0xFA, 0xAA, 0x00}));
  command(0xD4);
  data(0xF2);
  EXPECT_EQ(drain(), Bytes({0xFA, 0x00}));
  command(0xD4);
  data(0xF3);
  command(0xD4);
  data(40);
  command(0xD4);
  data(0xE9);
  EXPECT_EQ(drain(), Bytes({0xFA, 0xFA, 0xFA, 0x00, 0x02, 40}));
}

TEST_F(Keyboard, AuxiliaryLoopbackComesBackAsMouseData) {
  command(0xD3);
  data(0xA5);
  EXPECT_EQ(status() & 0x21, 0x21u);
  EXPECT_EQ(in(0x60), 0xA5u);
  command(0xD2);
  data(0x5A);
  EXPECT_EQ(status() & 0x21, 0x01u);
  EXPECT_EQ(in(0x60), 0x5Au);
}

TEST_F(Keyboard, DisabledInterfaceHoldsItsBytes) {
  command(0x60);
  data(0x30);
  controller_.key(0x1E, true);
  data(0xF4);  // also turns the keyboard's interface on
  EXPECT_EQ(drain(), Bytes({0xFA}));
  controller_.key(0x1E, true);
  EXPECT_EQ(drain(), Bytes({0x1C}));
  EXPECT_EQ(sink_.rises(1), 0);  // its interrupt is off
}

TEST_F(Keyboard, TranslatesScanCodesToSet1) {
  data(0xF4);
  drain();
  controller_.key(0x1E, true);
  controller_.key(0x1E, false);
  controller_.key(0xC8, true);
  controller_.key(0xC8, false);
  controller_.key(0x41, true);  // F7, whose code of set 2 has bit 7
  EXPECT_EQ(drain(), Bytes({0x1E, 0x9E, 0xE0, 0x48, 0xE0, 0xC8, 0x41}));
  controller_.key(Ps2Keyboard::kPause, true);
  controller_.key(Ps2Keyboard::kPause, false);
  EXPECT_EQ(drain(), Bytes({0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5}));
}

TEST_F(Keyboard, ResetPulseAndOutputPort) {
  command(0xFE);
  EXPECT_EQ(resets_, 1);
  command(0xFF);
  EXPECT_EQ(resets_, 1);
  command(0xD1);
  data(0xDE);
  EXPECT_EQ(resets_, 2);
}

TEST_F(Keyboard, GatesAddressLine20) {
  command(0xDD);
  command(0xDF);
  command(0xD1);
  data(0xDD);
  EXPECT_EQ(a20_, std::vector<bool>({false, true, false}));
  command(0xD0);
  EXPECT_EQ(in(0x60) & 2, 0u);
}

TEST_F(Keyboard, UnreadAnswersDoNotPileUp) {
  for (int i = 0; i < 1000; ++i) command(0x20);
  for (int i = 0; i < 1000; ++i) data(0xEE);
  EXPECT_LE(drain().size(), 70u);
}

}  // namespace
}  // namespace limen::device
