#include "display/vga/registers.h"

namespace limen::display::vga {
namespace {

// What of each register there is.
constexpr std::array<uint8_t, 8> kSequencerBits = {0x03, 0x3D, 0x0F, 0x3F, 0x0E, 0, 0, 0xFF};
constexpr std::array<uint8_t, 16> kGraphicsBits = {0x0F, 0x0F, 0x0F, 0x1F, 0x03,
                                                   0x7B, 0x0F, 0x0F, 0xFF};
constexpr unsigned kCrtcRegisters = 0x19;
constexpr uint8_t kCrtcLocked = 0x80;  // of register 11h: 0 to 7 cannot be written

}  // namespace

/// The CRT controller and 3DAh move between 3Bxh and 3Dxh (miscellaneous output, bit 0).
bool Registers::decoded(uint16_t port) const {
  if (port < 0x3C0) return !colour();
  if (port >= 0x3D0) return colour();
  return true;
}

uint8_t Registers::read_port(uint16_t port, Time now) {
  if (!decoded(port)) return 0xFF;
  switch (port) {
    case 0x3C0:
      return attribute_data ? 0 : attribute_index;
    case 0x3C1:
      return attribute[attribute_index & 0x1F];
    case 0x3C2:
      return 0;  // input status 0: no interrupt, no sense
    case 0x3C4:
      return sequencer_index;
    case 0x3C5:
      return sequencer[sequencer_index];
    case 0x3C6:
      return dac_mask;
    case 0x3C7:
      return dac_state;
    case 0x3C8:
      return dac_write;
    case 0x3C9: {
      const uint8_t value = dac[dac_read * 3u + dac_part];
      if (++dac_part == 3) {
        dac_part = 0;
        ++dac_read;
      }
      return value;
    }
    case 0x3CA:
      return feature_control;
    case 0x3CC:
      return miscellaneous;
    case 0x3CE:
      return graphics_index;
    case 0x3CF:
      return graphics[graphics_index];
    case 0x3B4:
    case 0x3D4:
      return crtc_index;
    case 0x3B5:
    case 0x3D5:
      return crtc_index < crtc.size() ? crtc[crtc_index] : 0;
    case 0x3BA:
    case 0x3DA:
      attribute_data = false;
      return input_status(now);
    default:
      return 0;
  }
}

void Registers::write_port(uint16_t port, uint8_t value) {
  if (!decoded(port)) return;
  switch (port) {
    case 0x3C0:
      if (attribute_data)
        write_attribute(value);
      else
        attribute_index = value & 0x3F;
      attribute_data = !attribute_data;
      break;
    case 0x3C2:
      miscellaneous = value & 0xEF;
      break;
    case 0x3C4:
      sequencer_index = value & 7;
      break;
    case 0x3C5:
      sequencer[sequencer_index] = value & kSequencerBits[sequencer_index];
      break;
    case 0x3C6:
      dac_mask = value;
      break;
    case 0x3C7:
      dac_read = value;
      dac_part = 0;
      dac_state = 3;
      break;
    case 0x3C8:
      dac_write = value;
      dac_part = 0;
      dac_state = 0;
      break;
    case 0x3C9:
      dac_pending[dac_part] = value;
      if (++dac_part == 3) {
        // All three at once: a colour is never half of two.
        for (unsigned i = 0; i < 3; ++i) dac[dac_write * 3u + i] = dac_pending[i];
        dac_part = 0;
        ++dac_write;
      }
      break;
    case 0x3CE:
      graphics_index = value & 0x0F;
      break;
    case 0x3CF:
      graphics[graphics_index] = value & kGraphicsBits[graphics_index];
      break;
    case 0x3B4:
    case 0x3D4:
      crtc_index = value;
      break;
    case 0x3B5:
    case 0x3D5:
      write_crtc(value);
      break;
    case 0x3BA:
    case 0x3DA:
      feature_control = value & 0x10;
      break;
    default:
      break;
  }
}

void Registers::write_attribute(uint8_t value) {
  const unsigned index = attribute_index & 0x1F;
  if (index < 0x10)
    attribute[index] = value & 0x3F;
  else if (index == 0x10)
    attribute[index] = value & 0xEF;
  else if (index == 0x11)
    attribute[index] = value;
  else if (index == 0x12)
    attribute[index] = value & 0x3F;
  else if (index <= 0x14)
    attribute[index] = value & 0x0F;
}

void Registers::write_crtc(uint8_t value) {
  if (crtc_index >= kCrtcRegisters) return;
  if (crtc_index <= 7 && (crtc[0x11] & kCrtcLocked) != 0) {
    // Of the locked ones, bit 8 of the line compare alone can be written.
    if (crtc_index == 7) crtc[7] = static_cast<uint8_t>((crtc[7] & ~0x10) | (value & 0x10));
    return;
  }
  crtc[crtc_index] = value;
}

unsigned Registers::visible_lines() const {
  return (crtc[0x12] | (crtc[7] & 0x02u) << 7 | (crtc[7] & 0x40u) << 3) + 1;
}

unsigned Registers::line_compare() const {
  return crtc[0x18] | (crtc[7] & 0x10u) << 4 | (crtc[9] & 0x40u) << 3;
}

/// Bit 0: nothing is shown at the moment, bit 3: vertical retrace; by where a monitor's beam were.
uint8_t Registers::input_status(Time now) const {
  const bool clock28 = (miscellaneous & 0x0C) == 4;
  const uint64_t hertz = (clock28 ? 28'322'000u : 25'175'000u) / ((sequencer[1] & 8) != 0 ? 2 : 1);
  const uint64_t dots = (sequencer[1] & 1) != 0 ? 8 : 9;
  const uint64_t line_dots = (crtc[0] + 5u) * dots;
  const uint64_t lines = (crtc[6] | (crtc[7] & 1u) << 8 | (crtc[7] & 0x20u) << 4) + 2;
  const uint64_t retrace = crtc[0x10] | (crtc[7] & 4u) << 6 | (crtc[7] & 0x80u) << 2;
  uint64_t retrace_lines = ((crtc[0x11] & 0x0Fu) - retrace) & 0x0F;
  if (retrace_lines == 0) retrace_lines = 1;

  const auto nanoseconds = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now.time_since_epoch()).count());
  // Within a second, in dots: no product overflows.
  const uint64_t dot = nanoseconds % 1'000'000'000 * hertz / 1'000'000'000 % (line_dots * lines);
  const uint64_t line = dot / line_dots;
  uint8_t status = 0;
  if (line >= visible_lines() || dot % line_dots >= visible_characters() * dots) status |= 1;
  if (line >= retrace && line < retrace + retrace_lines) status |= 8 | 1;
  return status;
}

uint32_t Registers::colour_of(unsigned number, bool dac_8bit) const {
  const auto part = [&](unsigned i) -> uint32_t {
    const uint32_t value = dac[number * 3 + i];
    if (dac_8bit) return value;
    // 6 bits to 8, the lowest repeated, as other virtual machines show it.
    return (value & 0x3F) << 2 | (value & 1) << 1 | (value & 1);
  };
  return part(0) << 16 | part(1) << 8 | part(2);
}

Palette Registers::colours(bool dac_8bit) const {
  Palette palette;
  for (unsigned i = 0; i < palette.size(); ++i) palette[i] = colour_of(i & dac_mask, dac_8bit);
  return palette;
}

std::array<uint32_t, 16> Registers::colours16(bool dac_8bit) const {
  std::array<uint32_t, 16> palette;
  const bool select =
      (attribute[0x10] & 0x80) != 0;  // bits 4 and 5 from the colour select register
  for (unsigned i = 0; i < palette.size(); ++i) {
    const unsigned number = select ? (attribute[0x14] & 0x0Fu) << 4 | (attribute[i] & 0x0Fu)
                                   : (attribute[0x14] & 0x0Cu) << 4 | (attribute[i] & 0x3Fu);
    palette[i] = colour_of(number & dac_mask, dac_8bit);
  }
  return palette;
}

}  // namespace limen::display::vga
