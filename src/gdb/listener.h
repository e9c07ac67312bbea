// Where a debugger connects: -gdb's argument, a chardev's as QEMU writes it.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace limen::gdb {

struct ListenAddress {
  enum class Kind : uint8_t { kNone, kTcp, kUnix, kStdio } kind = Kind::kNone;
  std::string host = {};  ///< kTcp; "": every address.
  std::string port = {};  ///< kTcp.
  std::string path = {};  ///< kUnix.
};

/// tcp:[HOST]:PORT[,server=on][,wait=off], unix:PATH[,...], stdio or none.
Result<ListenAddress> parse_listen_address(std::string_view text);

/// A socket that listens, not blocking. Not for kNone and kStdio.
Result<UniqueFd> listen_at(const ListenAddress& address);

}  // namespace limen::gdb
