// netdev_add, for programs and for people.
#pragma once

#include "monitor/qmp/command_table.h"
#include "net/options.h"

namespace limen::monitor {

/// Makes the back end; descriptors may be named as getfd named them.
Result<> add_netdev(Context& context, net::Parameters parameters);

}  // namespace limen::monitor
