// What the monitors of one machine share.
#pragma once

#include "monitor/core_dump.h"

namespace limen::monitor {

struct Shared {
  DumpJob dump;
};

}  // namespace limen::monitor
