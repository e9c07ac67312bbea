// TLS over memory: bytes of the connection in, bytes of the client out.
#pragma once

#include <memory>
#include <span>

#include "base/result.h"
#include "vnc/options.h"
#include "vnc/protocol.h"

struct gnutls_certificate_credentials_st;
struct gnutls_anon_server_credentials_st;
struct gnutls_session_int;

namespace limen::vnc {

/// Certificates and keys, read once; sessions refer to them.
class TlsCredentials {
 public:
  /// Fails for a file that is missing or wrong, in QEMU's words.
  static Result<std::shared_ptr<TlsCredentials>> create(const TlsOptions& options);
  ~TlsCredentials();
  TlsCredentials(const TlsCredentials&) = delete;
  TlsCredentials& operator=(const TlsCredentials&) = delete;

 private:
  friend class TlsSession;
  TlsCredentials() = default;
  TlsOptions options_;
  gnutls_certificate_credentials_st* certificates_ = nullptr;
  gnutls_anon_server_credentials_st* anonymous_ = nullptr;
};

class TlsSession {
 public:
  static Result<std::unique_ptr<TlsSession>> create(std::shared_ptr<TlsCredentials> credentials);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  /// What came from the connection: what it says in the clear is appended to `data`, what is to be
  /// sent on the connection to `out`.
  Result<> receive(std::span<const uint8_t> bytes, Bytes& data, Bytes& out);
  /// Encrypts; what was sent before the handshake's end follows it.
  Result<> send(std::span<const uint8_t> data, Bytes& out);
  [[nodiscard]] bool is_up() const { return up_; }
  [[nodiscard]] bool peer_closed() const { return closed_; }

 private:
  TlsSession() = default;
  Result<> verify();

  std::shared_ptr<TlsCredentials> credentials_;
  gnutls_session_int* session_ = nullptr;
  Bytes input_;  ///< Not yet taken.
  size_t taken_ = 0;
  Bytes output_;
  Bytes waiting_;  ///< For the handshake.
  bool up_ = false;
  bool closed_ = false;
};

}  // namespace limen::vnc
