// What the monitors of one machine share.
#pragma once

#include <map>
#include <string>

#include "monitor/core_dump.h"
#include "monitor/qmp/descriptor_store.h"

namespace limen::monitor {

struct Shared {
  FdSets fd_sets;
  DumpJob dump;
  std::map<std::string, std::string> objects;  ///< What object-add made: id to type.
};

}  // namespace limen::monitor
