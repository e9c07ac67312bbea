// The JSON form of a network back end, for -netdev and netdev_add.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.h"
#include "net/options.h"

namespace limen::net {

/// {"type": "user", "a": {"b": 1}, "hostfwd": [{"str": "x"}]} as type=user,a.b=1,hostfwd=x, which
/// parse_backend() reads.
Result<Parameters> json_parameters(const nlohmann::json& object);

}  // namespace limen::net
