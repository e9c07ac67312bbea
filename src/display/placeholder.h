// The picture of a screen that no guest has drawn on.
#pragma once

#include "display/screen.h"

namespace limen::display {

/// 640 by 480, black, with a line of text in its middle that says so.
[[nodiscard]] Frame placeholder_frame();

}  // namespace limen::display
