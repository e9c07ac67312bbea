#include "web/http_messages.h"

#include <algorithm>
#include <array>
#include <string>

namespace limen::web {
namespace {

constexpr size_t kPart = 16384;  // of an answer's content, written at a time

/// Nothing but what the page consists of, from here alone. xterm.js and noVNC make style elements.
constexpr std::string_view kContentPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'";

std::string header(lws* wsi, lws_token_indexes token) {
  const int size = lws_hdr_total_length(wsi, token);
  if (size <= 0) return {};
  std::string value(static_cast<size_t>(size) + 1, '\0');
  const int copied = lws_hdr_copy(wsi, value.data(), size + 1, token);
  value.resize(static_cast<size_t>(std::max(copied, 0)));
  return value;
}

bool add_header(lws* wsi, const char* name, std::string_view value, unsigned char** at,
                unsigned char* end) {
  return lws_add_http_header_by_name(wsi, reinterpret_cast<const unsigned char*>(name),
                                     reinterpret_cast<const unsigned char*>(value.data()),
                                     static_cast<int>(value.size()), at, end) == 0;
}

}  // namespace

std::optional<Request> request_of(lws* wsi) {
  char* path = nullptr;
  int size = 0;
  if (lws_http_get_uri_and_method(wsi, &path, &size) != LWSHUMETH_GET) return {};
  Request request{.path = std::string(path, static_cast<size_t>(size)),
                  .token = {},
                  .host = header(wsi, WSI_TOKEN_HOST),
                  .origin = header(wsi, WSI_TOKEN_ORIGIN),
                  .cookie = header(wsi, WSI_TOKEN_HTTP_COOKIE)};
  std::array<char, 512> token{};
  if (const char* value =
          lws_get_urlarg_by_name(wsi, "token=", token.data(), static_cast<int>(token.size())))
    request.token = value;
  return request;
}

bool send_header(ClientEntry& client) {
  const auto& response = client.response;
  std::array<unsigned char, LWS_PRE + 2048> buffer;
  unsigned char* const start = buffer.data() + LWS_PRE;
  unsigned char* const end = buffer.data() + buffer.size();
  unsigned char* at = start;
  const size_t size = response.text.empty() ? response.content.size() : response.text.size();
  const std::string type(response.type);
  if (lws_add_http_common_headers(client.wsi, response.status, type.c_str(), size, &at, end) != 0)
    return false;
  const auto add = [&](const char* name, std::string_view value) {
    return add_header(client.wsi, name, value, &at, end);
  };
  if (response.compressed && !add("content-encoding:", "gzip")) return false;
  if (!response.cookie.empty() && !add("set-cookie:", response.cookie)) return false;
  if (!add("content-security-policy:", kContentPolicy) ||
      !add("x-content-type-options:", "nosniff") || !add("x-frame-options:", "DENY") ||
      !add("referrer-policy:", "no-referrer") || !add("cache-control:", "no-store") ||
      !add("cross-origin-resource-policy:", "same-origin") ||
      !add("cross-origin-opener-policy:", "same-origin"))
    return false;
  return lws_finalize_write_http_header(client.wsi, start, &at, end) == 0;
}

Result<bool> send_content(ClientEntry& client) {
  const auto& response = client.response;
  auto content = response.content;
  if (!response.text.empty())
    content = {reinterpret_cast<const uint8_t*>(response.text.data()), response.text.size()};
  const size_t part = std::min(content.size() - client.sent, kPart);
  std::array<unsigned char, LWS_PRE + kPart> buffer;
  std::copy_n(content.begin() + static_cast<ptrdiff_t>(client.sent), part,
              buffer.begin() + LWS_PRE);
  client.sent += part;
  const bool last = client.sent == content.size();
  if (lws_write(client.wsi, buffer.data() + LWS_PRE, part,
                last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < static_cast<int>(part))
    return fail("the connection broke");
  return last;
}

std::string_view reason_of(unsigned status) {
  switch (status) {
    case 401:
      return "401: the address with the token in it, as Limen printed it, is needed\n";
    case 403:
      return "403: not for another site's pages\n";
    case 404:
      return "404: there is nothing here\n";
    case 405:
      return "405: GET alone\n";
    default:
      return "400: that is not understood\n";
  }
}

}  // namespace limen::web
