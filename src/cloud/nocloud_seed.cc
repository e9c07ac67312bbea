#include "cloud/nocloud_seed.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <span>

#include "base/delayed_library.h"

namespace limen::cloud {
namespace {

constexpr size_t kMaxFile = size_t{16} << 20;

/// How a part of user data says what it is (cloud-init's documentation, "User data formats").
constexpr std::array<std::string_view, 10> kFormats = {
    "#cloud-config",      "#!",
    "#include",           "#cloud-boothook",
    "#part-handler",      "#cloud-config-archive",
    "## template: jinja", "Content-Type:",
    "MIME-Version:",      "\x1f\x8b"};

std::string_view first_line(std::string_view text) {
  const auto line = text.substr(0, text.find('\n'));
  return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
}

Result<> check_format(std::string_view what, std::string_view text) {
  const bool known = std::ranges::any_of(
      kFormats, [&](std::string_view format) { return text.starts_with(format); });
  if (text.empty() || known) return {};
  return fail(
      "{} begins with '{}': cloud-init would ignore it; should be #cloud-config, #! and a "
      "script's interpreter, #include, #cloud-boothook, #part-handler, ## template: jinja, or a "
      "MIME header",
      what, first_line(text).substr(0, 60));
}

/// RFC 1123 §2.1: labels of letters, digits and hyphens, none of these at an end.
bool is_host_name(std::string_view name) {
  constexpr size_t kMaxName = 253, kMaxLabel = 63;
  if (name.size() > kMaxName) return false;
  for (;;) {
    const auto label = name.substr(0, name.find('.'));
    if (label.empty() || label.size() > kMaxLabel || label.front() == '-' || label.back() == '-')
      return false;
    if (!std::ranges::all_of(label, [](unsigned char c) { return std::isalnum(c) || c == '-'; }))
      return false;
    if (label.size() == name.size()) return true;
    name.remove_prefix(label.size() + 1);
  }
}

/// FNV-1a: tells seeds apart, and need not withstand anybody.
uint64_t fingerprint(const NoCloudSeed& seed) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const std::string_view text :
       {std::string_view(seed.user_data),
        std::string_view(seed.network_config ? *seed.network_config : std::string_view()),
        std::string_view(seed.vendor_data ? *seed.vendor_data : std::string_view()),
        std::string_view(seed.host_name)}) {
    for (const char byte : text) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
    hash = (hash ^ 0x100) * 0x100000001B3;  // where a file ends
  }
  return hash;
}

struct FreeArchive {
  void operator()(archive* a) const { archive_write_free(a); }
};
struct FreeEntry {
  void operator()(archive_entry* e) const { archive_entry_free(e); }
};
using Archive = std::unique_ptr<archive, FreeArchive>;

la_ssize_t append(archive*, void* image, const void* bytes, size_t size) {
  auto& out = *static_cast<std::vector<uint8_t>*>(image);
  const auto* begin = static_cast<const uint8_t*>(bytes);
  out.insert(out.end(), begin, begin + size);
  return static_cast<la_ssize_t>(size);
}

Result<> add_file(archive* image, const char* name, std::string_view content) {
  const std::unique_ptr<archive_entry, FreeEntry> entry(archive_entry_new());
  archive_entry_set_pathname(entry.get(), name);
  archive_entry_set_size(entry.get(), static_cast<la_int64_t>(content.size()));
  archive_entry_set_filetype(entry.get(), AE_IFREG);
  archive_entry_set_perm(entry.get(), 0444);
  if (archive_write_header(image, entry.get()) != ARCHIVE_OK ||
      archive_write_data(image, content.data(), content.size()) !=
          static_cast<la_ssize_t>(content.size()))
    return fail("the seed's {}: {}", name, archive_error_string(image));
  return {};
}

}  // namespace

Result<std::string> read_seed_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail("cannot open '{}': {}", path, std::strerror(errno));
  std::string text(kMaxFile + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.fail() && !file.eof()))
    return fail("cannot read '{}': {}", path, std::strerror(errno));
  if (!file.eof()) return fail("'{}' is larger than {} MiB", path, kMaxFile >> 20);
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

Result<> check(const NoCloudSeed& seed) {
  LIMEN_TRY(check_format("user data", seed.user_data));
  if (seed.vendor_data) LIMEN_TRY(check_format("vendor data", *seed.vendor_data));
  if (!seed.meta_data.empty() && seed.meta_data.find("instance-id") == std::string::npos)
    return fail(
        "meta data has no instance-id: cloud-init would not take it; write for example "
        "'instance-id: {}'",
        seed.host_name.empty() ? "guest-1" : seed.host_name);
  if (!seed.meta_data.empty() && !seed.host_name.empty())
    return fail("host name '{}' beside meta data: write 'local-hostname: {}' there", seed.host_name,
                seed.host_name);
  if (!seed.host_name.empty() && !is_host_name(seed.host_name))
    return fail("'{}' is no host name: letters, digits and hyphens, with dots between",
                seed.host_name);
  return {};
}

std::string default_meta_data(const NoCloudSeed& seed) {
  std::string text = fmt::format("instance-id: iid-{:016x}\n", fingerprint(seed));
  if (!seed.host_name.empty()) text += fmt::format("local-hostname: {}\n", seed.host_name);
  return text;
}

Result<std::vector<uint8_t>> make_image(const NoCloudSeed& seed) {
  LIMEN_TRY(check(seed));
  LIMEN_TRY(load_library(LIMEN_ARCHIVE_LIBRARY));
  std::vector<uint8_t> bytes;
  const Archive image(archive_write_new());
  if (image == nullptr || archive_write_set_format_iso9660(image.get()) != ARCHIVE_OK ||
      archive_write_set_options(image.get(), "volume-id=cidata,joliet,rockridge=useful") !=
          ARCHIVE_OK ||
      archive_write_open(image.get(), &bytes, nullptr, append, nullptr) != ARCHIVE_OK)
    return fail("cannot begin the seed: {}",
                image != nullptr ? archive_error_string(image.get()) : "out of memory");
  LIMEN_TRY(add_file(image.get(), "user-data", seed.user_data));
  LIMEN_TRY(add_file(image.get(), "meta-data",
                     seed.meta_data.empty() ? default_meta_data(seed) : seed.meta_data));
  if (seed.network_config) LIMEN_TRY(add_file(image.get(), "network-config", *seed.network_config));
  if (seed.vendor_data) LIMEN_TRY(add_file(image.get(), "vendor-data", *seed.vendor_data));
  if (archive_write_close(image.get()) != ARCHIVE_OK)
    return fail("cannot make the seed: {}", archive_error_string(image.get()));
  return bytes;
}

}  // namespace limen::cloud
