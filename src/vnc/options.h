// What a person asked of a VNC server: -vnc and -display vnc=.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "device/character/socket_address.h"

namespace limen::vnc {

/// What a client's wish to be alone leads to.
enum class SharePolicy : uint8_t {
  kAllowExclusive,  ///< The others are disconnected.
  kForceShared,     ///< It is refused.
  kIgnore,          ///< Everybody shares.
};

/// Certificates of a tls-creds-x509 object, or none: tls-creds-anon.
struct TlsOptions {
  bool anonymous = false;
  std::string folder = {};  ///< Has server-cert.pem, server-key.pem, ca-cert.pem.
  bool verify_peer = true;  ///< A client needs a certificate of the authority's, too.
  std::string priority = {};
};

struct ServerOptions {
  std::string id = "default";
  std::string origin = {};  ///< "-vnc :0", for messages.
  bool listens = true;      ///< False: clients come by Server::adopt() alone.
  device::SocketAddress address = {};
  std::optional<device::SocketAddress> websocket = {};
  bool by_default = false;           ///< Nobody asked for it: where it listens is printed.
  bool password = false;             ///< Clients need one; as long as none is set, nobody gets in.
  std::string password_secret = {};  ///< Id of a secret object that has it; "": none.
  std::string tls_credentials = {};  ///< Id of a tls-creds object; "": no TLS.
  std::string screen = {};           ///< Id of the display device that is shown; "": the first.
  bool lossy = false;                ///< JPEG for clients that like it.
  SharePolicy share = SharePolicy::kAllowExclusive;
};

}  // namespace limen::vnc
