#include "qemu/secret.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/unique_fd.h"
#include "monitor/base64.h"

namespace limen::qemu {
namespace {

constexpr size_t kMostBytes = size_t{1} << 20;

Result<std::string> read_file(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return fail_errno(errno, fmt::format("Unable to read {}", path));
  std::string content;
  std::array<char, 4096> part{};
  while (true) {
    const ssize_t count = ::read(file.get(), part.data(), part.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, fmt::format("Unable to read {}", path));
    if (count == 0) return content;
    content.append(part.data(), static_cast<size_t>(count));
    if (content.size() > kMostBytes) return fail("Unable to read {}: no secret is so long", path);
  }
}

}  // namespace

Result<std::string> load_secret(const KeyValues& values) {
  constexpr std::array<std::string_view, 2> kFormats = {"raw", "base64"};
  const auto format = LIMEN_TRY(values.choice("format", kFormats, "raw"));
  const auto data = values.find("data"), file = values.find("file");
  if (data && file) return fail("'file' and 'data' are mutually exclusive");
  if (!data && !file) return fail("Must provide 'file' or 'data'");
  if (values.find("keyid") || values.find("iv"))
    return fail("keyid=: a secret that another one encrypts is not there; give it as it is");
  auto secret = file ? LIMEN_TRY(read_file(*file)) : *data;
  if (format == "raw") return secret;
  std::erase_if(secret, [](char c) { return c == '\n' || c == '\r'; });
  auto decoded = monitor::decode_base64(secret);
  if (!decoded) return fail("Base64 data is not valid base64");
  return std::string(decoded->begin(), decoded->end());
}

}  // namespace limen::qemu
