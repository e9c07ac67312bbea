// Where the console listens.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "machine/description.h"

namespace limen::web {

struct Place {
  UniqueFd fd;
  std::string name;  ///< "127.0.0.1:5780", "[::1]:5780".

  [[nodiscard]] unsigned port() const;
  /// As others type it: a socket that listens at every address goes by the host's name.
  [[nodiscard]] std::string reachable() const;
  [[nodiscard]] bool is_loopback() const;
};

Result<Place> listen_for_browsers(const machine::WebDescription& description);

}  // namespace limen::web
