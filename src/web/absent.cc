// What stands for the server in a build without LIMEN_WEB.
#if !LIMEN_WEB
#include "web/server.h"

namespace limen::web {

class Server::Hub {};
Server::Server(std::unique_ptr<Hub> hub) : hub_(std::move(hub)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::create(machine::Machine&,
                                               const machine::WebDescription& description) {
  return fail("{}: this Limen was built without it (cmake -DLIMEN_WEB=ON)", description.origin);
}

const std::string& Server::url() const {
  static const std::string kNone;
  return kNone;
}

}  // namespace limen::web
#endif
