// What stands for the server in a build without LIMEN_VNC.
#if !LIMEN_VNC
#include "vnc/server.h"

namespace limen::vnc {

class Server::Hub {};
Server::Server(std::unique_ptr<Hub> hub) : hub_(std::move(hub)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::create(const ServerOptions&, Parts) {
  return fail("this Limen was built without VNC (cmake -DLIMEN_VNC=ON)");
}

ServerInformation Server::information() { return {}; }
const ServerOptions& Server::options() const {
  static const ServerOptions kNone;
  return kNone;
}
Result<> Server::set_password(const std::string&) { return {}; }
void Server::expire_password(std::optional<std::chrono::system_clock::time_point>) {}
void Server::disconnect_clients() {}
void Server::adopt(UniqueFd) {}

}  // namespace limen::vnc
#endif
