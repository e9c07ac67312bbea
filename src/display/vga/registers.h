// The registers of a VGA and the ports they are behind ("VGA" here: IBM PS/2 Video Subsystem
// Technical Reference, 1992; register names and numbers are its).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "display/linear_picture.h"

namespace limen::display::vga {

/// Ports that a VGA answers to.
inline constexpr uint16_t kFirstPort = 0x3B0, kPortCount = 0x30;

/// Plain data with the ports' behaviour, no lock: copied whole for drawing.
struct Registers {
  std::array<uint8_t, 8> sequencer{};
  std::array<uint8_t, 16> graphics{};
  std::array<uint8_t, 32> attribute{};
  std::array<uint8_t, 32> crtc{};
  std::array<uint8_t, 768> dac{};
  uint8_t miscellaneous = 0, feature_control = 0;
  uint8_t sequencer_index = 0, graphics_index = 0, crtc_index = 0;
  uint8_t attribute_index = 0;          ///< Bit 5: the picture is on.
  bool attribute_data = false;          ///< The next write to 3C0h is for the register.
  uint8_t dac_read = 0, dac_write = 0;  ///< Numbers of colours.
  uint8_t dac_part = 0;                 ///< Red, green, blue.
  uint8_t dac_state = 0;                ///< What 3C7h says: 0 while writing, 3 while reading.
  std::array<uint8_t, 3> dac_pending{};
  uint8_t dac_mask = 0xFF;

  using Time = std::chrono::steady_clock::time_point;

  /// A byte at a port from kFirstPort on. `now` is for the retrace bits of 3DAh.
  uint8_t read_port(uint16_t port, Time now);
  void write_port(uint16_t port, uint8_t value);

  // What they mean together.
  [[nodiscard]] bool colour() const { return (miscellaneous & 1) != 0; }
  [[nodiscard]] bool picture_on() const { return (attribute_index & 0x20) != 0; }
  [[nodiscard]] bool graphics_mode() const { return (graphics[6] & 1) != 0; }
  /// Lines that are shown, before any are doubled.
  [[nodiscard]] unsigned visible_lines() const;
  [[nodiscard]] unsigned visible_characters() const { return crtc[1] + 1u; }
  [[nodiscard]] unsigned line_compare() const;
  /// Words of four planes.
  [[nodiscard]] unsigned start_address() const { return crtc[0x0C] << 8 | crtc[0x0D]; }
  [[nodiscard]] unsigned line_offset() const { return crtc[0x13] * 2u; }
  [[nodiscard]] unsigned row_scans() const { return (crtc[9] & 0x1Fu) + 1; }
  [[nodiscard]] bool double_scan() const { return (crtc[9] & 0x80) != 0; }

  /// The DAC's colours as 00RRGGBBh, by what a pixel of 8 bits says.
  [[nodiscard]] Palette colours(bool dac_8bit) const;
  /// The same for pixels of 4 bits, by the attribute controller's palette.
  [[nodiscard]] std::array<uint32_t, 16> colours16(bool dac_8bit) const;

 private:
  [[nodiscard]] bool decoded(uint16_t port) const;
  [[nodiscard]] uint8_t input_status(Time now) const;
  void write_attribute(uint8_t value);
  void write_crtc(uint8_t value);
  [[nodiscard]] uint32_t colour_of(unsigned number, bool dac_8bit) const;
};

}  // namespace limen::display::vga
