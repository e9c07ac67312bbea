// What a browser, or anything else, sends to the web console: the headers that decide who gets in,
// and the messages of the control channel.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "web/access.h"
#include "web/assets.h"
#include "web/command.h"

namespace {

using namespace limen::web;  // NOLINT(google-build-using-namespace)

/// The next line of the input.
std::string take_line(std::string_view& input) {
  const auto end = std::min(input.find('\n'), input.size());
  std::string line(input.substr(0, end));
  input.remove_prefix(std::min(end + 1, input.size()));
  return line;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  static const std::string kToken = "0123456789abcdef";
  static const Access kAccess("127.0.0.1", kToken);
  static const Access kOpen("127.0.0.1", std::nullopt);
  Request request;
  request.path = take_line(input);
  request.token = take_line(input);
  request.host = take_line(input);
  request.origin = take_line(input);
  request.cookie = take_line(input);
  const auto verdict = kAccess.check(request);
  // Nothing but the token lets anybody in: the cookie is as random as it.
  if (verdict == Verdict::kAllowed && request.token != kToken) std::abort();
  if (verdict == Verdict::kAllowed && kOpen.check(request) != Verdict::kAllowed) std::abort();
  if (const auto* asset = find_asset(request.path); asset != nullptr && asset->path != request.path)
    std::abort();
  if (const auto command = parse_command(input); command && command_name(*command).empty())
    std::abort();
  return 0;
}
