// What the monitors of one machine share.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "monitor/core_dump.h"
#include "monitor/keys.h"

namespace limen::monitor {

struct Shared {
  DumpJob dump;
  std::unique_ptr<KeyTypist> typist = {};  ///< Made when it is first needed.
  /// Where input-send-event put the pointer last: an event may name one direction alone.
  std::pair<std::optional<unsigned>, std::optional<unsigned>> last_position = {};
};

}  // namespace limen::monitor
