// Options for whoever debugs the guest: -gdb, -s, -S.
#include "gdb/listener.h"
#include "qemu/builder.h"

namespace limen::qemu {

Result<> Builder::debugger(const std::string& argument) {
  const auto address = LIMEN_TRY(gdb::parse_listen_address(argument));
  result_.machine.gdb = address.kind == gdb::ListenAddress::Kind::kNone ? "" : argument;
  return {};
}

Result<> Builder::debugger_at_default(const std::string&) { return debugger("tcp::1234"); }

Result<> Builder::start_stopped(const std::string&) {
  result_.machine.start_stopped = true;
  return {};
}

}  // namespace limen::qemu
