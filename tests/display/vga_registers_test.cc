#include "vga_fixture.h"

namespace limen::display::vga {
namespace {

using testing::Each;
using VgaRegisters = VgaTest;

TEST_F(VgaRegisters, KeepOnlyTheBitsThatThereAre) {
  set_sequencer(1, 0xFF);
  EXPECT_EQ(in(0x3C5), 0x3Du);
  set_graphics(4, 0xFF);
  EXPECT_EQ(in(0x3CF), 0x03u);
  out(0x3C2, 0xFF);
  EXPECT_EQ(in(0x3CC), 0xEFu);
  set_attribute(0x14, 0xFF);
  EXPECT_EQ(in(0x3C1), 0x0Fu);
}

TEST_F(VgaRegisters, CrtcMovesBetweenMonochromeAndColour) {
  out(0x3C2, 1);
  set(0x3D4, 0x0C, 0x12);
  EXPECT_EQ(in(0x3D5), 0x12u);
  EXPECT_EQ(in(0x3B5), 0xFFu);
  out(0x3C2, 0);
  EXPECT_EQ(in(0x3D5), 0xFFu);
  EXPECT_EQ(in(0x3B5), 0x12u);
}

TEST_F(VgaRegisters, CrtcLockSparesBit8OfTheLineCompare) {
  out(0x3C2, 1);
  set_crtc(0, 0x5F);
  set_crtc(0x11, 0x80);
  set_crtc(0, 1);
  set_crtc(7, 0xFF);
  out(0x3D4, 0);
  EXPECT_EQ(in(0x3D5), 0x5Fu);
  out(0x3D4, 7);
  EXPECT_EQ(in(0x3D5), 0x10u);
}

TEST_F(VgaRegisters, AttributeControllerTakesIndexAndDataInTurns) {
  out(0x3C2, 1);
  in(0x3DA);
  out(0x3C0, 0x21);
  out(0x3C0, 0x2A);
  out(0x3C0, 0x22);  // an index again
  EXPECT_EQ(in(0x3C1), 0u);
  in(0x3DA);
  out(0x3C0, 0x21);
  EXPECT_EQ(in(0x3C1), 0x2Au);
}

TEST_F(VgaRegisters, DacCountsColoursOnItsOwn) {
  out(0x3C8, 10);
  for (unsigned i = 0; i < 6; ++i) out(0x3C9, i + 1);
  EXPECT_EQ(in(0x3C8), 12u);
  EXPECT_EQ(in(0x3C7), 0u);
  out(0x3C7, 10);
  EXPECT_EQ(in(0x3C7), 3u);
  for (unsigned i = 0; i < 6; ++i) EXPECT_EQ(in(0x3C9), i + 1);
}

/// Software waits for the retrace, and measures it.
TEST_F(VgaRegisters, RetraceComesSeventyTimesASecond) {
  set_mode(kText80x25);
  unsigned retraces = 0, blanked = 0, samples = 0;
  bool before = false;
  for (time_ = {}; time_ < std::chrono::seconds(1); time_ += std::chrono::microseconds(20)) {
    const auto status = in(0x3DA);
    const bool now = (status & 8) != 0;
    if (now && !before) ++retraces;
    before = now;
    blanked += (status & 1) != 0;
    ++samples;
  }
  EXPECT_GE(retraces, 69u);
  EXPECT_LE(retraces, 71u);
  // 400 of 449 lines, and 80 of 100 characters of each, show something.
  EXPECT_NEAR(static_cast<double>(blanked) / samples, 1 - 400.0 / 449 * 0.8, 0.02);
}

TEST_F(VgaRegisters, StrangeTimingsAreNoDivisionByZero) {
  out(0x3C2, 1);
  for (unsigned i = 0; i < 100; ++i) {
    time_ += std::chrono::milliseconds(7);
    in(0x3DA);
  }
  for (uint8_t i = 0; i < 0x19; ++i) set_crtc(i, 0xFF);
  in(0x3DA);
}

// --- The window at A0000h -----------------------------------------------------------------------

TEST_F(VgaRegisters, TextGoesToPlanesZeroAndOne) {
  set_mode(kText80x25);
  poke(0xB8000, 0x1741, 2);
  poke(0xB8003, 0x2E);
  EXPECT_EQ(memory_[0], std::byte{0x41});
  EXPECT_EQ(memory_[1], std::byte{0x17});
  EXPECT_EQ(memory_[5], std::byte{0x2E});
  EXPECT_EQ(peek(0xB8000, 4), 0x2E00'1741u);
  poke(0xA0000, 0x55);  // not where this mode is
  EXPECT_EQ(peek(0xA0000), 0xFFu);
}

TEST_F(VgaRegisters, WriteMode0RotatesSetsAndMasks) {
  set_mode(kPlanar640x480);
  poke(0xA0000, 0x81);
  EXPECT_THAT(std::vector(memory_.begin(), memory_.begin() + 4), Each(std::byte{0x81}));
  set_graphics(3, 1);  // rotate
  set_sequencer(2, 2);
  poke(0xA0000, 0x03);
  EXPECT_EQ(memory_[0], std::byte{0x81});
  EXPECT_EQ(memory_[1], std::byte{0x81});  // 03h turned by one
  set_graphics(3, 0);
  set_sequencer(2, 15);
  set_graphics(0, 5);  // planes 0 and 2,
  set_graphics(1, 7);  // of 0 to 2 that are set or reset
  poke(0xA0001, 0x3C);
  EXPECT_EQ(memory_[4], std::byte{0xFF});
  EXPECT_EQ(memory_[5], std::byte{0});
  EXPECT_EQ(memory_[6], std::byte{0xFF});
  EXPECT_EQ(memory_[7], std::byte{0x3C});
  set_graphics(1, 0);
  set_graphics(8, 0x0F);  // the upper half from the latches
  EXPECT_EQ(peek(0xA0001), 0xFFu);
  poke(0xA0002, 0x55);
  EXPECT_EQ(memory_[8], std::byte{0xF5});
  EXPECT_EQ(memory_[9], std::byte{0x05});
}

TEST_F(VgaRegisters, WriteMode0CombinesWithTheLatches) {
  set_mode(kPlanar640x480);
  poke(0xA0000, 0x0F);
  for (const auto& [function, result] :
       {std::pair{1, 0x05}, std::pair{2, 0x5F}, std::pair{3, 0x5A}}) {
    set_graphics(3, static_cast<uint8_t>(function << 3));
    peek(0xA0000);
    poke(0xA0001, 0x55);
    EXPECT_EQ(memory_[4], static_cast<std::byte>(result)) << function;
  }
}

TEST_F(VgaRegisters, WriteMode1CopiesTheLatches) {
  set_mode(kPlanar640x480);
  for (uint8_t plane = 0; plane < 4; ++plane) memory_[plane] = std::byte(plane + 1);
  set_graphics(5, 1);
  peek(0xA0000);
  poke(0xA0004, 0);
  for (uint8_t plane = 0; plane < 4; ++plane) EXPECT_EQ(memory_[16 + plane], std::byte(plane + 1));
}

TEST_F(VgaRegisters, WriteMode2IsAColourAndMode3AMask) {
  set_mode(kPlanar640x480);
  set_graphics(5, 2);
  set_graphics(8, 0xF0);
  peek(0xA0000);
  poke(0xA0000, 0x0A);
  EXPECT_EQ(memory_[0], std::byte{0});
  EXPECT_EQ(memory_[1], std::byte{0xF0});
  EXPECT_EQ(memory_[3], std::byte{0xF0});
  set_graphics(5, 3);
  set_graphics(0, 1);  // the colour
  set_graphics(8, 0x3C);
  peek(0xA0001);
  poke(0xA0001, 0x0F);
  EXPECT_EQ(memory_[4], std::byte{0x0C});
  EXPECT_EQ(memory_[5], std::byte{0});
}

TEST_F(VgaRegisters, ReadModesGiveAPlaneOrCompareColours) {
  set_mode(kPlanar640x480);
  memory_[0] = std::byte{0xF0};
  memory_[1] = std::byte{0xCC};
  set_graphics(4, 1);
  EXPECT_EQ(peek(0xA0000), 0xCCu);
  set_graphics(5, 8);
  set_graphics(2, 3);     // colour 3: planes 0 and 1 set,
  set_graphics(7, 0x0F);  // and the others clear
  EXPECT_EQ(peek(0xA0000), 0xC0u);
  set_graphics(7, 0x02);  // plane 1 alone counts
  EXPECT_EQ(peek(0xA0000), 0xCCu);
}

TEST_F(VgaRegisters, ChainedBytesLieOneAfterTheOther) {
  set_mode(kPacked320x200);
  poke(0xA0000, 0x0403'0201, 4);
  EXPECT_EQ(memory_[2], std::byte{3});
  EXPECT_EQ(peek(0xA0001, 2), 0x0302u);
  set_sequencer(2, 1);  // plane 0 alone is written
  poke(0xA0000, 0xFFFF'FFFF, 4);
  EXPECT_EQ(peek(0xA0000, 4), 0x0403'02FFu);
}

// --- Bochs VBE ----------------------------------------------------------------------------------

TEST_F(VgaRegisters, VbeTellsWhatItIsAndCan) {
  EXPECT_EQ(vbe(BochsVbe::kId), 0xB0C5u);
  vbe(BochsVbe::kId, 0xB0C2);
  EXPECT_EQ(vbe(BochsVbe::kId), 0xB0C2u);
  vbe(BochsVbe::kId, 0x1234);
  EXPECT_EQ(vbe(BochsVbe::kId), 0xB0C2u);
  EXPECT_EQ(vbe(BochsVbe::kMemory64K), kMemory / 65536);
  vbe(BochsVbe::kEnable, BochsVbe::kGetCapabilities);
  EXPECT_EQ(vbe(BochsVbe::kXres), 16000u);
  EXPECT_EQ(vbe(BochsVbe::kYres), 12000u);
  EXPECT_EQ(vbe(BochsVbe::kBpp), 32u);
}

TEST_F(VgaRegisters, VbeClearsUnlessToldOtherwise) {
  memory_[100] = std::byte{1};
  vbe_mode(640, 480, 32, 0x41 | BochsVbe::kNoClear);
  EXPECT_EQ(memory_[100], std::byte{1});
  vbe_mode(640, 480, 32);
  EXPECT_EQ(memory_[100], std::byte{0});
  EXPECT_EQ(vbe(BochsVbe::kVirtualWidth), 640u);
  EXPECT_EQ(vbe(BochsVbe::kVirtualHeight), kMemory / (640 * 4));
}

TEST_F(VgaRegisters, VbeModesLieWithinTheMemory) {
  vbe_mode(16000, 12000, 32);
  EXPECT_LE(vbe(BochsVbe::kYres) * 16000 * 4, kMemory);
  vbe_mode(1024, 768, 32);
  vbe(BochsVbe::kYOffset, 5000);
  EXPECT_EQ(vbe(BochsVbe::kYOffset), 0u);
  vbe(BochsVbe::kYOffset, 100);
  EXPECT_EQ(vbe(BochsVbe::kYOffset), 100u);
  update();
  EXPECT_EQ(frame_.width, 1024u);
}

TEST_F(VgaRegisters, VbeBanksMoveTheWindow) {
  vbe_mode(640, 480, 8);
  vbe(BochsVbe::kBank, 3);
  poke(0xA0010, 0x77);
  EXPECT_EQ(memory_[3 * 65536 + 16], std::byte{0x77});
  vbe(BochsVbe::kBank, 9999);
  EXPECT_EQ(vbe(BochsVbe::kBank), 3u);
}

}  // namespace
}  // namespace limen::display::vga
