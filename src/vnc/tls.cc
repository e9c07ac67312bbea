#include "vnc/tls.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

namespace limen::vnc {
namespace {

std::unexpected<Error> tls_error(const std::string& what, int error) {
  return fail("{}: {}", what, gnutls_strerror(error));
}

}  // namespace

Result<std::shared_ptr<TlsCredentials>> TlsCredentials::create(const TlsOptions& options) {
  std::shared_ptr<TlsCredentials> credentials(new TlsCredentials);
  credentials->options_ = options;
  if (options.anonymous) {
    if (const int error = gnutls_anon_allocate_server_credentials(&credentials->anonymous_);
        error != 0)
      return tls_error("TLS credentials", error);
    gnutls_anon_set_server_known_dh_params(credentials->anonymous_, GNUTLS_SEC_PARAM_MEDIUM);
    return credentials;
  }
  const auto file = [&](const char* name) { return options.folder + "/" + name; };
  for (const char* name : {"ca-cert.pem", "server-cert.pem", "server-key.pem"}) {
    std::error_code error;
    if (!std::filesystem::exists(file(name), error))
      return fail("Unable to access credentials {}: No such file or directory", file(name));
  }
  if (const int error = gnutls_certificate_allocate_credentials(&credentials->certificates_);
      error != 0)
    return tls_error("TLS credentials", error);
  if (const int count = gnutls_certificate_set_x509_trust_file(
          credentials->certificates_, file("ca-cert.pem").c_str(), GNUTLS_X509_FMT_PEM);
      count < 0)
    return tls_error("Cannot load CA certificate '" + file("ca-cert.pem") + "'", count);
  if (const int error = gnutls_certificate_set_x509_key_file(
          credentials->certificates_, file("server-cert.pem").c_str(),
          file("server-key.pem").c_str(), GNUTLS_X509_FMT_PEM);
      error < 0)
    return tls_error("Cannot load certificate '" + file("server-cert.pem") + "' & key '" +
                         file("server-key.pem") + "'",
                     error);
  if (std::filesystem::exists(file("ca-crl.pem")))
    if (const int count = gnutls_certificate_set_x509_crl_file(
            credentials->certificates_, file("ca-crl.pem").c_str(), GNUTLS_X509_FMT_PEM);
        count < 0)
      return tls_error("Cannot load CRL '" + file("ca-crl.pem") + "'", count);
  gnutls_certificate_set_known_dh_params(credentials->certificates_, GNUTLS_SEC_PARAM_MEDIUM);
  return credentials;
}

TlsCredentials::~TlsCredentials() {
  if (certificates_ != nullptr) gnutls_certificate_free_credentials(certificates_);
  if (anonymous_ != nullptr) gnutls_anon_free_server_credentials(anonymous_);
}

Result<std::unique_ptr<TlsSession>> TlsSession::create(
    std::shared_ptr<TlsCredentials> credentials) {
  std::unique_ptr<TlsSession> session(new TlsSession);
  session->credentials_ = std::move(credentials);
  const auto& its = *session->credentials_;
  if (const int error = gnutls_init(&session->session_, GNUTLS_SERVER | GNUTLS_NONBLOCK);
      error != 0)
    return tls_error("TLS session", error);
  auto* const tls = session->session_;
  const std::string priority = (its.options_.priority.empty() ? "NORMAL" : its.options_.priority) +
                               (its.options_.anonymous ? ":-VERS-TLS1.3:+ANON-DH:+ANON-ECDH" : "");
  if (const int error = gnutls_priority_set_direct(tls, priority.c_str(), nullptr); error != 0)
    return tls_error("Unable to set TLS session priority " + priority, error);
  if (its.options_.anonymous) {
    gnutls_credentials_set(tls, GNUTLS_CRD_ANON, its.anonymous_);
  } else {
    gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, its.certificates_);
    gnutls_certificate_server_set_request(
        tls, its.options_.verify_peer ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_IGNORE);
  }
  gnutls_transport_set_ptr(tls, session.get());
  gnutls_transport_set_push_function(
      tls, [](gnutls_transport_ptr_t self, const void* data, size_t size) -> ssize_t {
        const auto* bytes = static_cast<const uint8_t*>(data);
        auto& output = static_cast<TlsSession*>(self)->output_;
        output.insert(output.end(), bytes, bytes + size);
        return static_cast<ssize_t>(size);
      });
  gnutls_transport_set_pull_function(
      tls, [](gnutls_transport_ptr_t self, void* data, size_t size) -> ssize_t {
        auto& its_session = *static_cast<TlsSession*>(self);
        const size_t count = std::min(size, its_session.input_.size() - its_session.taken_);
        if (count == 0) {
          gnutls_transport_set_errno(its_session.session_, EAGAIN);
          return -1;
        }
        std::copy_n(its_session.input_.begin() + static_cast<ptrdiff_t>(its_session.taken_), count,
                    static_cast<uint8_t*>(data));
        its_session.taken_ += count;
        return static_cast<ssize_t>(count);
      });
  return session;
}

TlsSession::~TlsSession() {
  if (session_ != nullptr) gnutls_deinit(session_);
}

Result<> TlsSession::verify() {
  if (credentials_->options_.anonymous || !credentials_->options_.verify_peer) return {};
  unsigned status = 0;
  if (const int error = gnutls_certificate_verify_peers2(session_, &status); error != 0)
    return tls_error("the client's certificate cannot be verified", error);
  if (status != 0) return fail("the client's certificate is not trusted (status {:#x})", status);
  return {};
}

Result<> TlsSession::receive(std::span<const uint8_t> bytes, Bytes& data, Bytes& out) {
  input_.insert(input_.end(), bytes.begin(), bytes.end());
  const auto flush = [&] {
    out.insert(out.end(), output_.begin(), output_.end());
    output_.clear();
  };
  if (!up_) {
    const int error = gnutls_handshake(session_);
    if (error == 0) {
      LIMEN_TRY(verify());
      up_ = true;
      const Bytes early = std::exchange(waiting_, {});
      if (!early.empty()) LIMEN_TRY(send(early, out));
    } else if (gnutls_error_is_fatal(error) != 0) {
      flush();
      return tls_error("TLS handshake failed", error);
    }
  }
  while (up_ && !closed_) {
    std::array<uint8_t, 16384> plain;
    const auto count = gnutls_record_recv(session_, plain.data(), plain.size());
    if (count > 0) {
      data.insert(data.end(), plain.begin(), plain.begin() + count);
    } else if (count == 0) {
      closed_ = true;
    } else if (gnutls_error_is_fatal(static_cast<int>(count)) != 0) {
      flush();
      return tls_error("TLS", static_cast<int>(count));
    } else if (count == GNUTLS_E_AGAIN) {
      break;
    }
  }
  input_.erase(input_.begin(), input_.begin() + static_cast<ptrdiff_t>(taken_));
  taken_ = 0;
  flush();
  return {};
}

Result<> TlsSession::send(std::span<const uint8_t> data, Bytes& out) {
  if (!up_) {
    waiting_.insert(waiting_.end(), data.begin(), data.end());
    return {};
  }
  while (!data.empty()) {
    const auto count = gnutls_record_send(session_, data.data(), data.size());
    if (count < 0) return tls_error("TLS", static_cast<int>(count));
    data = data.subspan(static_cast<size_t>(count));
  }
  out.insert(out.end(), output_.begin(), output_.end());
  output_.clear();
  return {};
}

}  // namespace limen::vnc
