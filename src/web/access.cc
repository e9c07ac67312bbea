#include "web/access.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstdlib>

namespace limen::web {
namespace {

char lower(char each) { return static_cast<char>(std::tolower(static_cast<unsigned char>(each))); }

bool same_text(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

/// "host" of "host:port" and "[host]:port".
std::string_view name_of(std::string_view authority) {
  if (authority.starts_with('[')) {
    const auto end = authority.find(']');
    return end == std::string_view::npos ? std::string_view() : authority.substr(1, end - 1);
  }
  return authority.substr(0, authority.find(':'));
}

bool is_address(const std::string& name) {
  std::array<uint8_t, sizeof(in6_addr)> address{};
  return ::inet_pton(AF_INET, name.c_str(), address.data()) == 1 ||
         ::inet_pton(AF_INET6, name.c_str(), address.data()) == 1;
}

std::string own_host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

}  // namespace

bool same_secret(std::string_view given, std::string_view secret) {
  if (secret.empty()) return false;
  unsigned difference = given.size() == secret.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i)
    difference |= static_cast<unsigned char>(given[i]) ^
                  static_cast<unsigned>(static_cast<unsigned char>(secret[i % secret.size()]));
  return difference == 0;
}

std::optional<std::string_view> find_cookie(std::string_view header, std::string_view name) {
  while (!header.empty()) {
    const auto end = std::min(header.find(';'), header.size());
    auto pair = header.substr(0, end);
    header.remove_prefix(std::min(end + 1, header.size()));
    while (pair.starts_with(' ')) pair.remove_prefix(1);
    const auto equals = pair.find('=');
    if (equals != std::string_view::npos && pair.substr(0, equals) == name)
      return pair.substr(equals + 1);
  }
  return {};
}

std::string Access::random_token() {
  std::array<uint8_t, 32> bytes{};
  // Never short, nor interrupted, for so few (getrandom(2)).
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    std::abort();
  std::string text;
  for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

Access::Access(std::string host, std::optional<std::string> token)
    : host_(std::move(host)), token_(std::move(token)), session_(random_token()) {}

void Access::set_port(unsigned port) { cookie_name_ = fmt::format("limen_{}", port); }

std::string Access::cookie() const {
  return fmt::format("{}={}; Path=/; HttpOnly; SameSite=Strict", cookie_name_, session_);
}

/// Names that no other site can have: addresses, and those of this host.
bool Access::is_own_name(std::string_view host) const {
  const std::string name(name_of(host));
  if (name.empty()) return false;
  return is_address(name) || same_text(name, "localhost") || same_text(name, host_) ||
         same_text(name, own_host_name());
}

bool Access::shows_token(const Request& request) const {
  return token_ && same_secret(request.token, *token_);
}

Verdict Access::check(const Request& request) const {
  if (!is_own_name(request.host)) return Verdict::kForbidden;
  if (!request.origin.empty() && !same_text(request.origin, "http://" + request.host) &&
      !same_text(request.origin, "https://" + request.host))
    return Verdict::kForbidden;
  if (!token_ || shows_token(request)) return Verdict::kAllowed;
  const auto cookie = find_cookie(request.cookie, cookie_name_);
  return cookie && same_secret(*cookie, session_) ? Verdict::kAllowed : Verdict::kUnauthorized;
}

}  // namespace limen::web
