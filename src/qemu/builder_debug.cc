// Options for whoever debugs the guest: -gdb, -s.
#include "gdb/listener.h"
#include "qemu/builder.h"

namespace limen::qemu {

Result<> Builder::debugger(const std::string& argument) {
  const auto address = LIMEN_TRY(gdb::parse_listen_address(argument));
  result_.machine.gdb = address.kind == gdb::ListenAddress::Kind::kNone ? "" : argument;
  return {};
}

Result<> Builder::debugger_at_default(const std::string&) { return debugger("tcp::1234"); }

}  // namespace limen::qemu
