// Who gets in: the token, the cookie that stands for it, and whether a browser was led here by
// another site.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace limen::web {

/// What a request says of itself; "" where it says nothing.
struct Request {
  std::string path = {};
  std::string token = {};  ///< Of the query.
  std::string host = {}, origin = {}, cookie = {};
};

enum class Verdict {
  kAllowed,
  kUnauthorized,  ///< No token, or a wrong one: 401.
  kForbidden,     ///< Another site is behind it: 403.
};

/// The first request carries the token; its answer sets a cookie (RFC 6265), which all others
/// carry. A page of another site neither knows the token nor gets the cookie sent along
/// (SameSite=Strict); one whose name was turned to this address (DNS rebinding) is told by its
/// `Host`, a WebSocket of another site by its `Origin` (RFC 6455 §10.2).
class Access {
 public:
  /// `host`: where the server listens. `token`: nothing: everybody gets in.
  Access(std::string host, std::optional<std::string> token);

  /// 256 bits, in hexadecimal digits.
  static std::string random_token();
  /// Cookies know no ports: those of several machines go by their ports' names. Before the first
  /// request.
  void set_port(unsigned port);

  [[nodiscard]] Verdict check(const Request& request) const;
  /// Whether it was the query's token that let it in: the cookie is to be set.
  [[nodiscard]] bool shows_token(const Request& request) const;
  /// The value of Set-Cookie.
  [[nodiscard]] std::string cookie() const;
  [[nodiscard]] const std::optional<std::string>& token() const { return token_; }

 private:
  [[nodiscard]] bool is_own_name(std::string_view host) const;

  const std::string host_;
  const std::optional<std::string> token_;
  const std::string session_;  ///< The cookie's value.
  std::string cookie_name_ = "limen";
};

/// Compares in a time that depends on `given` alone.
[[nodiscard]] bool same_secret(std::string_view given, std::string_view secret);
/// The value of cookie `name` in a Cookie header; nothing: it is not there.
[[nodiscard]] std::optional<std::string_view> find_cookie(std::string_view header,
                                                          std::string_view name);

}  // namespace limen::web
