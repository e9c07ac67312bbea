// A VNC server: shows a screen to several clients at once and takes their input.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "display/input.h"
#include "display/screen.h"
#include "vnc/options.h"

namespace limen::vnc {

struct ClientInformation {
  std::string host = {}, service = {}, family = {};
  bool websocket = false;
  bool initialized = false;
};

/// Where a server listens.
struct EndpointInformation {
  std::string host = {}, service = {}, family = {};
  bool websocket = false;
};

struct ServerInformation {
  std::string id = {};
  std::vector<EndpointInformation> endpoints = {};
  /// As QMP has it: "none", "vnc", "vencrypt+tls+vnc", ...
  std::string authentication = {};
  std::string sub_authentication = {};
  std::vector<ClientInformation> clients = {};
};

/// What happened to a client; called on the server's thread. As QMP's events have it.
struct ServerEvent {
  enum class Kind : uint8_t { kConnected, kInitialized, kDisconnected } kind = Kind::kConnected;
  EndpointInformation server = {};
  std::string authentication = {};
  ClientInformation client = {};
};

class Server {
 public:
  struct Parts {
    display::Screen& screen;
    display::Input& input;
    std::string machine_name = {};  ///< What clients call the picture.
    std::optional<std::string> password = {};
    std::optional<TlsOptions> tls = {};
    std::function<void(const ServerEvent&)> tell = {};
  };
  /// Listens. `parts` outlive the server. Its public functions are called on one thread at a time.
  static Result<std::unique_ptr<Server>> create(const ServerOptions& options, Parts parts);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] ServerInformation information();
  [[nodiscard]] const ServerOptions& options() const;
  /// Who is connected stays. Fails where no password is asked for.
  Result<> set_password(const std::string& password);
  /// From then on nobody gets in; nothing: it does not expire.
  void expire_password(std::optional<std::chrono::system_clock::time_point> when);
  void disconnect_clients();
  /// Takes a connected, non-blocking stream socket as a client.
  void adopt(UniqueFd fd);

 private:
  class Hub;
  explicit Server(std::unique_ptr<Hub> hub);
  std::unique_ptr<Hub> hub_;
};

}  // namespace limen::vnc
