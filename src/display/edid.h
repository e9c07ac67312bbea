// What a monitor says of itself: an EDID block (VESA E-EDID Standard, release A, revision 2).
#pragma once

#include <array>
#include <cstdint>

namespace limen::display {

inline constexpr unsigned kEdidBytes = 128;

struct EdidProperties {
  unsigned width = 1280, height = 800;  ///< The mode that it likes best.
};

/// One block of EDID 1.4 with that mode first, at 75 Hz where its pixel clock can be said,
/// otherwise slower, and the usual smaller ones. `width` and `height` are at most 4095.
[[nodiscard]] std::array<uint8_t, kEdidBytes> make_edid(const EdidProperties& properties);

}  // namespace limen::display
