#include <gtest/gtest.h>

#include "device/ps2_keyboard.h"
#include "device/ps2_mouse.h"

namespace limen::device {
namespace {

using Bytes = std::vector<unsigned>;

Bytes drain(Ps2Device& device) {
  Bytes bytes;
  while (device.has_output()) bytes.push_back(device.take_output());
  return bytes;
}

Bytes ask(Ps2Device& device, std::initializer_list<uint8_t> commands) {
  for (const uint8_t byte : commands) device.command(byte);
  return drain(device);
}

class Ps2KeyboardTest : public testing::Test {
 protected:
  Ps2KeyboardTest() {
    keyboard_.reset();
    ask(keyboard_, {0xF4});
  }
  Bytes press(Ps2Keyboard::Key key) {
    keyboard_.key(key, true);
    return drain(keyboard_);
  }
  Bytes release(Ps2Keyboard::Key key) {
    keyboard_.key(key, false);
    return drain(keyboard_);
  }
  Ps2Keyboard keyboard_;
};

TEST_F(Ps2KeyboardTest, SpeaksTheScanCodeSetThatWasChosen) {
  EXPECT_EQ(press(0x1E), Bytes({0x1C}));
  EXPECT_EQ(release(0x1E), Bytes({0xF0, 0x1C}));
  EXPECT_EQ(ask(keyboard_, {0xF0, 1}), Bytes({0xFA, 0xFA}));
  EXPECT_EQ(press(0xC8), Bytes({0xE0, 0x48}));
  EXPECT_EQ(release(0xC8), Bytes({0xE0, 0xC8}));
  EXPECT_EQ(ask(keyboard_, {0xF0, 3}), Bytes({0xFA, 0xFA}));
  EXPECT_EQ(press(0xC8), Bytes({0x63}));
  EXPECT_EQ(release(0xC8), Bytes({0xF0, 0x63}));
  EXPECT_EQ(press(0x3B), Bytes({0x07}));
  EXPECT_EQ(ask(keyboard_, {0xF0, 0}), Bytes({0xFA, 0xFA, 3}));
  EXPECT_EQ(ask(keyboard_, {0xF0, 9, 0xF0, 0}), Bytes({0xFA, 0xFA, 0xFA, 0xFA, 3}));
}

TEST_F(Ps2KeyboardTest, HeldKeysAreRepeatedByWhoTypes) {
  EXPECT_EQ(press(0x1E), Bytes({0x1C}));
  EXPECT_EQ(press(0x1E), Bytes({0x1C}));
  EXPECT_EQ(release(0x1E), Bytes({0xF0, 0x1C}));
  EXPECT_EQ(release(0x1E), Bytes());
}

TEST_F(Ps2KeyboardTest, PauseAndPrintDependOnTheirModifiers) {
  EXPECT_EQ(press(Ps2Keyboard::kPause), Bytes({0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77}));
  EXPECT_EQ(release(Ps2Keyboard::kPause), Bytes());
  EXPECT_EQ(press(Ps2Keyboard::kPrint), Bytes({0xE0, 0x12, 0xE0, 0x7C}));
  EXPECT_EQ(release(Ps2Keyboard::kPrint), Bytes({0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12}));
  press(0x38);
  EXPECT_EQ(press(Ps2Keyboard::kPrint), Bytes({0x84}));  // SysRq
  EXPECT_EQ(release(Ps2Keyboard::kPrint), Bytes({0xF0, 0x84}));
  release(0x38);
  press(0x1D);
  EXPECT_EQ(press(Ps2Keyboard::kPause), Bytes({0xE0, 0x7E, 0xE0, 0xF0, 0x7E}));  // Break
}

TEST_F(Ps2KeyboardTest, FullQueueDropsPressesAndNoRelease) {
  keyboard_.key(0x1D, true);
  for (unsigned key = 0x02; key < 0x0C; ++key)
    for (int i = 0; i < 20; ++i) keyboard_.key(static_cast<Ps2Keyboard::Key>(key), true);
  keyboard_.key(0x2C, true);
  keyboard_.key(0x2C, false);
  keyboard_.key(0x1D, false);
  const auto bytes = drain(keyboard_);
  EXPECT_LE(bytes.size(), 70u);
  EXPECT_EQ(Bytes(bytes.end() - 2, bytes.end()), Bytes({0xF0, 0x14}));
  EXPECT_EQ(press(0x2C), Bytes({0x1A}));
}

TEST_F(Ps2KeyboardTest, KeepsItsLightsAndTakesKeyTypes) {
  EXPECT_EQ(ask(keyboard_, {0xED, 0x06}), Bytes({0xFA, 0xFA}));
  EXPECT_EQ(keyboard_.leds(), 6);
  EXPECT_EQ(ask(keyboard_, {0xFC, 0x1C, 0x1B, 0xEE}), Bytes({0xFA, 0xFA, 0xFA, 0xEE}));
  EXPECT_EQ(ask(keyboard_, {0xFF}), Bytes({0xFA, 0xAA}));
  EXPECT_EQ(keyboard_.leds(), 0);
}

TEST_F(Ps2KeyboardTest, IsSilentWhileItIsOff) {
  ask(keyboard_, {0xF5});
  EXPECT_EQ(press(0x1E), Bytes());
  ask(keyboard_, {0xF4});
  EXPECT_EQ(release(0x1E), Bytes());
}

class Ps2MouseTest : public testing::Test {
 protected:
  Ps2MouseTest() {
    mouse_.reset();
    ask(mouse_, {0xF4});
  }
  void become(uint8_t second_rate) {
    EXPECT_EQ(ask(mouse_, {0xF3, 200, 0xF3, second_rate, 0xF3, 80}), Bytes(6, 0xFA));
  }
  Bytes report() {
    mouse_.report();
    return drain(mouse_);
  }
  Ps2Mouse mouse_;
};

TEST_F(Ps2MouseTest, TellsMovementAndButtons) {
  mouse_.move(5, -3);
  mouse_.button(Ps2Mouse::kLeft, true);
  EXPECT_EQ(report(), Bytes({0x29, 5, 0xFD}));
  EXPECT_EQ(report(), Bytes());
  mouse_.button(Ps2Mouse::kLeft, false);
  mouse_.button(Ps2Mouse::kRight, true);
  EXPECT_EQ(report(), Bytes({0x0A, 0, 0}));
}

TEST_F(Ps2MouseTest, SplitsLargeMovements) {
  mouse_.move(-300, 10);
  EXPECT_EQ(report(), Bytes({0x18, 0x81, 10, 0x18, 0x81, 0, 0x18, 0xD2, 0}));
}

TEST_F(Ps2MouseTest, ClickWithinAReportIsTwoPackets) {
  mouse_.button(Ps2Mouse::kMiddle, true);
  mouse_.button(Ps2Mouse::kMiddle, false);
  EXPECT_EQ(report(), Bytes({0x0C, 0, 0, 0x08, 0, 0}));
}

TEST_F(Ps2MouseTest, BecomesAnIntelliMouseByItsRates) {
  mouse_.wheel(1);
  EXPECT_EQ(report(), Bytes());  // a plain mouse has no wheel
  become(100);
  EXPECT_EQ(ask(mouse_, {0xF2}), Bytes({0xFA, 3}));
  mouse_.wheel(-2);
  EXPECT_EQ(report(), Bytes({0x08, 0, 0, 2}));
  mouse_.wheel(1);
  EXPECT_EQ(report(), Bytes({0x08, 0, 0, 0xFF}));
  become(200);
  EXPECT_EQ(ask(mouse_, {0xF2}), Bytes({0xFA, 4}));
  mouse_.wheel(1);
  mouse_.button(Ps2Mouse::kSide, true);
  EXPECT_EQ(report(), Bytes({0x08, 0, 0, 0x1F}));
  mouse_.button(Ps2Mouse::kExtra, true);
  EXPECT_EQ(report(), Bytes({0x08, 0, 0, 0x30}));
  EXPECT_EQ(ask(mouse_, {0xFF, 0xF2}), Bytes({0xFA, 0xAA, 0, 0xFA, 0}));
}

TEST_F(Ps2MouseTest, RemoteModeTellsWhenAsked) {
  EXPECT_EQ(ask(mouse_, {0xF0}), Bytes({0xFA}));
  mouse_.move(7, 0);
  EXPECT_EQ(report(), Bytes());
  EXPECT_EQ(ask(mouse_, {0xEB}), Bytes({0xFA, 0x08, 7, 0}));
  EXPECT_EQ(ask(mouse_, {0xE9}), Bytes({0xFA, 0x60, 2, 100}));
  ask(mouse_, {0xEA});
  mouse_.move(1, 0);
  EXPECT_EQ(report(), Bytes({0x08, 1, 0}));
}

TEST_F(Ps2MouseTest, GathersWhatNobodyTakes) {
  for (int i = 0; i < 1000; ++i) {
    mouse_.move(1, 0);
    mouse_.report();
  }
  const auto bytes = drain(mouse_);
  unsigned sum = 0;
  for (size_t i = 1; i < bytes.size(); i += 3) sum += bytes[i];
  EXPECT_EQ(sum, 1000u);
  EXPECT_LT(bytes.size(), 40u);
}

}  // namespace
}  // namespace limen::device
