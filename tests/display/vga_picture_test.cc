#include "vga_fixture.h"

namespace limen::display::vga {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class VgaPicture : public VgaTest {
 protected:
  /// Gives a character a shape, as a BIOS loads fonts.
  void set_glyph(uint8_t character, std::initializer_list<uint8_t> lines, unsigned block = 0) {
    set_sequencer(2, 4);
    set_sequencer(4, 6);
    set_graphics(5, 0);
    set_graphics(6, 4);
    unsigned line = 0;
    for (const uint8_t dots : lines) poke(0xA0000 + block * 8192 + character * 32u + line++, dots);
    set_sequencer(2, 3);
    set_sequencer(4, 2);
    set_graphics(5, 0x10);
    set_graphics(6, 0x0E);
  }
  /// The cursor would blink through the tests.
  void text_mode() {
    set_mode(kText80x25);
    set_crtc(0x0A, 0x20);
  }
  void put(unsigned column, unsigned row, uint8_t character, uint8_t attribute) {
    poke(0xB8000 + 2 * (row * 80 + column), static_cast<uint64_t>(attribute << 8 | character), 2);
  }
};

TEST_F(VgaPicture, IsNotThereBeforeAModeIsSet) {
  EXPECT_THAT(update(true), IsEmpty());
  EXPECT_EQ(frame_.width, 0u);
}

TEST_F(VgaPicture, GoesBlackWhenSwitchedOff) {
  text_mode();
  set_glyph('A', {0xFF});
  put(0, 0, 'A', 0x0F);
  update();
  EXPECT_NE(pixel(0, 0), 0u);
  in(0x3DA);
  out(0x3C0, 0);
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 0, 720, 400}));
  EXPECT_EQ(pixel(0, 0), 0u);
  EXPECT_FALSE(vga_.text());
  EXPECT_THAT(update(), IsEmpty());
  out(0x3C0, 0x20);
  in(0x3DA);
  out(0x3C0, 0x20);
  update();
  EXPECT_NE(pixel(0, 0), 0u);
}

TEST_F(VgaPicture, TextIsDrawnByFontAndAttribute) {
  text_mode();
  set_glyph('A', {0x81, 0x00});
  put(2, 1, 'A', 0x4E);  // 14 on 4
  update();
  EXPECT_EQ(frame_.width, 720u);
  EXPECT_EQ(frame_.height, 400u);
  EXPECT_EQ(pixel(18, 16), colour(0x3E));
  EXPECT_EQ(pixel(19, 16), colour(4));
  EXPECT_EQ(pixel(25, 16), colour(0x3E));
  EXPECT_EQ(pixel(26, 16), colour(4));  // the ninth column is empty
  EXPECT_EQ(pixel(18, 17), colour(4));
  EXPECT_EQ(pixel(27, 16), colour(0));
}

TEST_F(VgaPicture, NinthColumnContinuesLines) {
  text_mode();
  set_glyph(0xC4, {0xFF});
  put(0, 0, 0xC4, 7);
  update();
  EXPECT_EQ(pixel(8, 0), colour(7));
}

TEST_F(VgaPicture, OnlyCellsThatChangedAreDrawn) {
  text_mode();
  update();
  EXPECT_THAT(update(), IsEmpty());
  put(10, 3, 'x', 7);
  put(12, 3, 'y', 7);
  put(0, 20, 'z', 7);
  EXPECT_THAT(update(), ElementsAre(Rectangle{90, 48, 27, 16}, Rectangle{0, 320, 9, 16}));
  EXPECT_THAT(update(), IsEmpty());
  set_glyph('q', {1});
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 0, 720, 400}));
}

TEST_F(VgaPicture, SecondFontIsChosenByAttributeBit3) {
  text_mode();
  set_glyph('A', {0x80}, 0);
  set_glyph('A', {0x40}, 1);
  set_sequencer(3, 0x04);  // bit 3 set: font 1 (map A); clear: font 0
  // Map numbers 0, 4, 1 are the first blocks; number 1 is the block at 4000h.
  set_glyph('A', {0x20}, 2);
  put(0, 0, 'A', 0x07);
  put(1, 0, 'A', 0x0F);
  update();
  EXPECT_EQ(pixel(0, 0), colour(7));
  EXPECT_EQ(pixel(9 + 2, 0), colour(0x3F));
  EXPECT_EQ(pixel(9 + 1, 0), colour(0));
}

TEST_F(VgaPicture, EightDotsAndFortyColumnsAndFiftyLines) {
  text_mode();
  set_sequencer(1, 1);
  update();
  EXPECT_EQ(frame_.width, 640u);
  set_sequencer(1, 9);
  set_crtc(0x11, 0);
  set_crtc(1, 39);
  update();
  EXPECT_EQ(frame_.width, 640u);
  EXPECT_EQ(vga_.text()->columns, 40u);
  set_crtc(9, 0x47);
  EXPECT_EQ(vga_.text()->rows, 50u);
}

TEST_F(VgaPicture, CursorIsALineThatBlinks) {
  text_mode();
  set_crtc(0x0A, 13);
  set_crtc(0x0B, 14);
  set_crtc(0x0F, 81);  // second row, second column
  put(1, 1, ' ', 0x02);
  update();
  EXPECT_EQ(pixel(9, 16 + 12), colour(0));
  EXPECT_EQ(pixel(9, 16 + 13), colour(2));
  EXPECT_EQ(pixel(17, 16 + 14), colour(2));
  EXPECT_EQ(pixel(9, 16 + 15), colour(0));
  ASSERT_TRUE(vga_.text()->cursor);
  EXPECT_EQ(vga_.text()->cursor->column, 1u);
  EXPECT_EQ(vga_.text()->cursor->row, 1u);
  time_ += std::chrono::milliseconds(250);
  EXPECT_THAT(update(), ElementsAre(Rectangle{9, 16, 9, 16}));
  EXPECT_EQ(pixel(9, 16 + 13), colour(0));
  set_crtc(0x0A, 0x20);
  EXPECT_FALSE(vga_.text()->cursor);
}

TEST_F(VgaPicture, BlinkingCharactersGoDarkOrHaveBrightGround) {
  text_mode();
  set_glyph('A', {0xFF});
  put(0, 0, 'A', 0x87);
  update();
  EXPECT_EQ(pixel(0, 0), colour(7));
  time_ += std::chrono::milliseconds(500);
  update();
  EXPECT_EQ(pixel(0, 0), colour(0));
  set_attribute(0x10, 0x04);  // no blinking
  update();
  EXPECT_EQ(pixel(0, 0), colour(7));
  EXPECT_EQ(pixel(0, 1), colour(0x38));
}

TEST_F(VgaPicture, TextScrollsByStartAddressAndSplits) {
  text_mode();
  set_glyph('A', {0xFF});
  put(0, 1, 'A', 7);
  set_crtc(0x0D, 80);
  update();
  EXPECT_EQ(pixel(0, 0), colour(7));
  EXPECT_EQ(vga_.text()->cells[0].character, 'A');
  // From line 200 on the memory's beginning shows: its second row 16 lines below.
  set_crtc(0x11, 0);
  set_crtc(7, 0x0F);
  set_crtc(9, 0x0F);
  set_crtc(0x18, 199);
  update();
  EXPECT_EQ(pixel(0, 200), colour(0));
  EXPECT_EQ(pixel(0, 216), colour(7));
}

TEST_F(VgaPicture, TextIsGivenToTerminals) {
  text_mode();
  put(79, 24, 0xDB, 0x1E);
  const auto text = vga_.text();
  ASSERT_TRUE(text);
  EXPECT_EQ(text->columns, 80u);
  EXPECT_EQ(text->rows, 25u);
  EXPECT_EQ(text->cells[24 * 80 + 79], (TextFrame::Cell{0xDB, 0x1E}));
}

TEST_F(VgaPicture, PlanesMakeSixteenColours) {
  set_mode(kPlanar640x480);
  set_sequencer(2, 5);
  poke(0xA0000 + 80, 0x80);  // second line, leftmost: colour 5
  set_sequencer(2, 2);
  poke(0xA0000 + 81, 0x01);
  update();
  EXPECT_EQ(frame_.width, 640u);
  EXPECT_EQ(frame_.height, 480u);
  EXPECT_EQ(pixel(0, 1), colour(5));
  EXPECT_EQ(pixel(1, 1), colour(0));
  EXPECT_EQ(pixel(15, 1), colour(2));
  set_attribute(0x12, 1);  // plane 0 alone
  update();
  EXPECT_EQ(pixel(0, 1), colour(1));
  EXPECT_EQ(pixel(15, 1), colour(0));
}

TEST_F(VgaPicture, LowResolutionIsDoubled) {
  set_mode(kPlanar320x200);
  poke(0xA0000 + 40, 0x80);
  update();
  EXPECT_EQ(frame_.width, 640u);
  EXPECT_EQ(frame_.height, 400u);
  for (const auto& [x, y] : {std::pair{0u, 2u}, std::pair{1u, 2u}, std::pair{0u, 3u}})
    EXPECT_EQ(pixel(x, y), colour(0x17)) << x << ", " << y;
  EXPECT_EQ(pixel(2, 2), colour(0));
  EXPECT_EQ(pixel(0, 4), colour(0));
}

TEST_F(VgaPicture, PackedPixelsHave256Colours) {
  set_mode(kPacked320x200);
  poke(0xA0000 + 320, 0xC5);
  poke(0xA0000 + 63999, 0x80);
  update();
  EXPECT_EQ(frame_.width, 640u);
  EXPECT_EQ(frame_.height, 400u);
  EXPECT_EQ(pixel(0, 2), colour(0xC5));
  EXPECT_EQ(pixel(1, 3), colour(0xC5));
  EXPECT_EQ(pixel(2, 2), colour(0));
  EXPECT_EQ(pixel(639, 399), colour(0x80));
  out(0x3C6, 0x3F);  // the DAC's mask
  update();
  EXPECT_EQ(pixel(0, 2), colour(0x05));
}

/// "Mode X": each plane has every fourth pixel, and there is room for pages.
TEST_F(VgaPicture, UnchainedPixelsAreWrittenByPlane) {
  set_mode(kPacked320x200);
  set_sequencer(4, 6);
  set_crtc(0x14, 0);
  set_crtc(0x17, 0xE3);
  set_sequencer(2, 4);
  poke(0xA0000 + 80 + 1, 9);  // the second line's pixel 6
  update();
  EXPECT_EQ(pixel(12, 2), colour(9));
  EXPECT_EQ(pixel(14, 2), colour(0));
  set_crtc(0x0D, 80);  // a line further
  update();
  EXPECT_EQ(pixel(12, 0), colour(9));
  set_attribute(0x13, 4);  // two pixels to the left
  update();
  EXPECT_EQ(pixel(8, 0), colour(9));
}

TEST_F(VgaPicture, CgaModesInterleaveLinesAndPixels) {
  set_mode(kCga320x200);
  poke(0xB8000, 0b00'01'10'11);
  poke(0xB8000 + 1, 0b11'00'00'00);
  poke(0xB8000 + 0x2000, 0b10'00'00'00);  // the second line
  poke(0xB8000 + 80, 0b01'00'00'00);      // the third
  update();
  EXPECT_EQ(frame_.width, 640u);
  EXPECT_EQ(frame_.height, 400u);
  EXPECT_EQ(pixel(0, 0), colour(0));
  EXPECT_EQ(pixel(2, 0), colour(0x13));
  EXPECT_EQ(pixel(4, 0), colour(0x15));
  EXPECT_EQ(pixel(6, 1), colour(0x17));
  EXPECT_EQ(pixel(8, 0), colour(0x17));
  EXPECT_EQ(pixel(0, 2), colour(0x15));
  EXPECT_EQ(pixel(0, 3), colour(0x15));
  EXPECT_EQ(pixel(0, 4), colour(0x13));
}

TEST_F(VgaPicture, CgaHighResolutionHasTwoColours) {
  set_mode(kCga640x200);
  poke(0xB8000, 0x40);
  poke(0xB8000 + 0x2000, 0x80);
  poke(0xB8000 + 80, 0x20);
  update();
  EXPECT_EQ(frame_.width, 640u);
  EXPECT_EQ(pixel(1, 0), colour(0x17));
  EXPECT_EQ(pixel(0, 0), colour(0));
  EXPECT_EQ(pixel(0, 2), colour(0x17));
  EXPECT_EQ(pixel(2, 4), colour(0x17));
}

TEST_F(VgaPicture, GraphicsSplitAndPan) {
  set_mode(kPlanar640x480);
  poke(0xA0000, 0xFF);         // the memory's first line
  poke(0xA0000 + 8000, 0x01);  // where the picture begins
  set_crtc(0x0C, 8000 >> 8);
  set_crtc(0x0D, 8000 & 0xFF);
  set_attribute(0x13, 3);
  set_attribute(0x10, 0x21);  // below the split nothing is panned
  set_crtc(7, 0x2E);
  set_crtc(9, 0x00);
  set_crtc(0x18, 99);
  update();
  EXPECT_EQ(pixel(4, 0), colour(0x3F));
  EXPECT_EQ(pixel(7, 0), colour(0));
  EXPECT_EQ(pixel(7, 100), colour(0x3F));
  EXPECT_EQ(pixel(0, 101), colour(0));
}

TEST_F(VgaPicture, OnlyRowsThatChangedAreDrawn) {
  set_mode(kPlanar640x480);
  update();
  EXPECT_THAT(update(), IsEmpty());
  poke(0xA0000 + 80 * 100, 1);
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 100, 640, 1}));
}

TEST_F(VgaPicture, VbeModesOfAllDepths) {
  struct Case {
    uint16_t bits;
    uint32_t value, seen;
  };
  for (const auto& [bits, value, seen] :
       {Case{15, 0x7C1F, 0xFF00FF}, Case{16, 0x07E0, 0x00FF00}, Case{16, 0x8000, 0x840000},
        Case{24, 0x123456, 0x123456}, Case{32, 0xAA123456, 0x123456}}) {
    vbe_mode(320, 200, bits);
    const unsigned bytes = (bits + 7u) / 8;
    std::memcpy(memory_.data() + (2 * 320 + 5) * bytes, &value, bytes);
    update();
    EXPECT_EQ(frame_.width, 320u);
    EXPECT_EQ(frame_.height, 200u);
    EXPECT_EQ(pixel(5, 2), seen) << bits;
    EXPECT_EQ(pixel(4, 2), 0u) << bits;
  }
}

TEST_F(VgaPicture, VbePalettesHaveSixOrEightBits) {
  vbe_mode(320, 200, 8);
  memory_[3] = std::byte{7};
  set_colour(7, 0x3F, 0x20, 0x01);
  update();
  EXPECT_EQ(pixel(3, 0), 0xFF8007u);
  vbe_mode(320, 200, 8, 0x41 | BochsVbe::kDac8Bit | BochsVbe::kNoClear);
  update();
  EXPECT_EQ(pixel(3, 0), 0x3F2001u);
}

TEST_F(VgaPicture, VbePlanarModes) {
  vbe_mode(800, 600, 4);
  set_attribute(0x12, 0x0F);
  for (uint8_t i = 0; i < 16; ++i) set_attribute(i, i);
  set_colour(9, 1, 2, 3);
  memory_[4 * 100 + 0] = std::byte{0x10};  // line 1, pixel 3, planes 0 and 3
  memory_[4 * 100 + 3] = std::byte{0x10};
  update();
  EXPECT_EQ(frame_.width, 800u);
  EXPECT_EQ(frame_.height, 600u);
  EXPECT_EQ(pixel(3, 1), 0x07080Fu);
}

TEST_F(VgaPicture, VbeScrollsWithinAVirtualScreen) {
  vbe_mode(640, 480, 32);
  vbe(BochsVbe::kVirtualWidth, 800);
  const uint32_t white = 0xFFFFFF;
  std::memcpy(memory_.data() + (30 * 800 + 20) * 4, &white, 4);
  vbe(BochsVbe::kXOffset, 20);
  vbe(BochsVbe::kYOffset, 30);
  update();
  EXPECT_EQ(pixel(0, 0), white);
}

TEST_F(VgaPicture, VbeBigEndianPixels) {
  vbe_mode(320, 200, 32);
  vga_.set_big_endian(true);
  const uint32_t value = 0x56341200;
  std::memcpy(memory_.data(), &value, 4);
  update();
  EXPECT_EQ(pixel(0, 0), 0x123456u);
}

TEST_F(VgaPicture, VbeTellsWhichPartChanged) {
  vbe_mode(1024, 768, 32);
  update();
  EXPECT_THAT(update(), IsEmpty());
  for (unsigned y = 100; y < 110; ++y) memory_[(y * 1024 + 512) * 4] = std::byte{1};
  memory_[(700 * 1024 + 10) * 4] = std::byte{1};
  const auto changed = update();
  ASSERT_EQ(changed.size(), 2u);
  EXPECT_EQ(changed[0].y, 100u);
  EXPECT_EQ(changed[0].height, 10u);
  EXPECT_LE(changed[0].x, 512u);
  EXPECT_GE(changed[0].x + changed[0].width, 513u);
  EXPECT_LE(changed[0].width, 64u);
  EXPECT_EQ(changed[1].y, 700u);
}

TEST_F(VgaPicture, LeavingVbeShowsTheModeOfTheRegisters) {
  text_mode();
  vbe_mode(640, 480, 32);
  update();
  EXPECT_EQ(frame_.height, 480u);
  EXPECT_FALSE(vga_.text());
  vbe(BochsVbe::kEnable, 0);
  text_mode();
  EXPECT_THAT(update(), ElementsAre(Rectangle{0, 0, 720, 400}));
  vga_.reset();
  EXPECT_FALSE(vga_.text());
}

}  // namespace
}  // namespace limen::display::vga
