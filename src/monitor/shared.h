// What the monitors of one machine share.
#pragma once

#include "monitor/core_dump.h"
#include "monitor/qmp/descriptor_store.h"

namespace limen::monitor {

struct Shared {
  FdSets fd_sets;
  DumpJob dump;
};

}  // namespace limen::monitor
