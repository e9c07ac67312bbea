#include "machine/objects.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "base/base64.h"
#include "base/identifier.h"
#include "base/nearest.h"
#include "base/size_text.h"
#include "memory/huge_pages.h"

namespace limen::machine {
namespace {

using enum PropertyType;

constexpr std::array kRandomProperties = {
    PropertySpecification{"filename", kText, "/dev/urandom or /dev/random"},
};
constexpr std::array kThreadProperties = {
    PropertySpecification{"poll-max-ns", kNumber, "taken, without effect", 0, INT64_MAX},
    PropertySpecification{"poll-grow", kNumber, "taken, without effect", 0, INT64_MAX},
    PropertySpecification{"poll-shrink", kNumber, "taken, without effect", 0, INT64_MAX},
    PropertySpecification{"aio-max-batch", kNumber, "taken, without effect", 0, INT64_MAX},
    PropertySpecification{"thread-pool-min", kNumber, "taken, without effect", 0, INT64_MAX},
    PropertySpecification{"thread-pool-max", kNumber, "taken, without effect", 0, INT64_MAX},
};
constexpr std::array kSecretProperties = {
    PropertySpecification{"data", kText, "the secret itself"},
    PropertySpecification{"file", kText, "file that has it"},
    PropertySpecification{"format", kText, "raw or base64"},
    PropertySpecification{"keyid", kText, "secret that this one is encrypted with"},
    PropertySpecification{"iv", kText, "initialization vector of that"},
};
constexpr std::array kTlsProperties = {
    PropertySpecification{"dir", kText, "folder with ca-cert.pem, server-cert.pem, server-key.pem"},
    PropertySpecification{"endpoint", kText, "server"},
    PropertySpecification{"verify-peer", kBoolean, "clients need certificates, too"},
    PropertySpecification{"priority", kText, "algorithms, as GnuTLS takes them"},
    PropertySpecification{"sanity-check", kBoolean, "taken, without effect"},
};
constexpr PropertySpecification kSize = {"size", kText, "bytes, as in 512M"};
constexpr PropertySpecification kShare = {"share", kBoolean, "other processes see what is written"};
constexpr PropertySpecification kPrealloc = {"prealloc", kBoolean, "taken from the host at once"};
constexpr PropertySpecification kPreallocThreads = {"prealloc-threads", kNumber,
                                                    "taken, without effect", 1, 65535};
constexpr PropertySpecification kMerge = {"merge", kBoolean, "taken, without effect"};
constexpr PropertySpecification kDump = {"dump", kBoolean, "taken, without effect"};
constexpr PropertySpecification kReserve = {"reserve", kBoolean, "taken, without effect"};
constexpr PropertySpecification kCanonical = {"x-use-canonical-path-for-ramblock-id", kBoolean,
                                              "taken, without effect"};
constexpr std::array kRamProperties = {
    kSize, kShare, kPrealloc, kPreallocThreads, kMerge, kDump, kReserve, kCanonical,
};
/// `common` and more.
template <size_t N, typename... More>
constexpr auto with(const std::array<PropertySpecification, N>& common, const More&... more) {
  return [&]<size_t... I>(std::index_sequence<I...>) { return std::array{common[I]..., more...}; }
  (std::make_index_sequence<N>());
}
constexpr auto kMemfdProperties =
    with(kRamProperties, PropertySpecification{"seal", kBoolean, "the file keeps its size"},
         PropertySpecification{"hugetlb", kBoolean,
                               "huge pages that the host has set aside; off: transparent ones"},
         PropertySpecification{"hugetlbsize", kText, "their size: 2M or 1G"});
constexpr auto kFileProperties =
    with(kRamProperties,
         PropertySpecification{"mem-path", kText, "file, or folder to make an unnamed one in"},
         PropertySpecification{"discard-data", kBoolean, "taken, without effect"});

constexpr std::array kCatalog = {
    ObjectSpecification{"iothread", "thread for the work of disks", kThreadProperties},
    ObjectSpecification{"memory-backend-file", "memory in a file", kFileProperties},
    ObjectSpecification{"memory-backend-memfd", "memory that can be shared", kMemfdProperties},
    ObjectSpecification{"memory-backend-ram", "memory", kRamProperties},
    ObjectSpecification{"rng-builtin", "source of random bytes", {}},
    ObjectSpecification{"rng-random", "source of random bytes", kRandomProperties},
    ObjectSpecification{"secret", "a password or key", kSecretProperties},
    ObjectSpecification{"tls-creds-anon", "TLS without certificates", kTlsProperties},
    ObjectSpecification{"tls-creds-x509", "TLS with certificates", kTlsProperties},
    ObjectSpecification{"throttle-group", "limits that disks share", {}},
};

std::optional<std::string> text(const ObjectDescription& object, const std::string& key) {
  const auto found = object.properties.find(key);
  if (found == object.properties.end()) return std::nullopt;
  return found->second;
}

bool is_on(const ObjectDescription& object, const std::string& key, bool otherwise) {
  const auto value = text(object, key);
  return value ? parse_boolean(*value).value_or(otherwise) : otherwise;
}

Result<> check_properties(const ObjectDescription& object, const ObjectSpecification& type) {
  for (const auto& [name, value] : object.properties) {
    const auto* found = LIMEN_TRY(find_property(object.type, type.properties, name));
    if (found->type == kBoolean && !parse_boolean(value))
      return fail("Invalid parameter type for '{}', expected: boolean", name);
    if (found->type != kNumber) continue;
    const auto number = parse_number(value);
    if (!number || *number < found->minimum || *number > found->maximum)
      return fail("Parameter '{}' expects a number from {} to {}, not '{}'", name, found->minimum,
                  found->maximum, value);
  }
  return {};
}

Result<> check_memory_backend(const ObjectDescription& object) {
  const auto size = text(object, "size");
  if (!size) return fail("can't create backend with size 0");
  const auto bytes = parse_size(*size, 1);
  if (!bytes) return fail("Parameter 'size' expects a size: {}", bytes.error().message);
  if (*bytes == 0) return fail("property 'size' of {} doesn't take value '0'", object.type);
  constexpr uint64_t kPage = 4096;
  if (*bytes % kPage != 0) return fail("size={}: memory comes in pages of {} bytes", *size, kPage);
  if (*bytes > uint64_t{INT64_MAX}) return fail("size={} is too large", *size);
  if (object.type == "memory-backend-file" && text(object, "mem-path").value_or("").empty())
    return fail("mem-path property not set");
  if (const auto huge = text(object, "hugetlbsize")) {
    if (!is_on(object, "hugetlb", false)) return fail("hugetlbsize={}: needs hugetlb=on", *huge);
    const auto page = parse_size(*huge, 1);
    if (!page || *page < kPage || !std::has_single_bit(*page))
      return fail("hugetlbsize={}: should be a size of huge pages, as 2M or 1G", *huge);
  }
  return {};
}

}  // namespace

std::span<const ObjectSpecification> object_catalog() { return kCatalog; }

const ObjectSpecification* find_object_type(std::string_view type) {
  const auto found = std::ranges::find(kCatalog, type, &ObjectSpecification::type);
  return found == kCatalog.end() ? nullptr : &*found;
}

Result<const ObjectSpecification*> object_type(std::string_view name) {
  if (const auto* type = find_object_type(name)) return type;
  std::vector<std::string_view> types;
  types.reserve(kCatalog.size());
  for (const auto& each : kCatalog) types.push_back(each.type);
  return fail("Parameter 'qom-type' does not accept value '{}'{}", name, choice_hint(name, types));
}

bool is_memory_backend(std::string_view type) { return type.starts_with("memory-backend-"); }

Result<> check_object(const ObjectDescription& object) {
  const auto* type = LIMEN_TRY(object_type(object.type));
  if (object.id.empty()) return fail("Parameter 'id' is missing");
  if (!is_identifier(object.id))
    return fail(
        "Parameter 'id' expects an identifier, not '{}': letters, digits, '-', '.', '_', starting "
        "with a letter",
        object.id);
  if (object.type == "throttle-group") {
    static_cast<void>(LIMEN_TRY(throttle_limits(object)));
    return {};
  }
  LIMEN_TRY(check_properties(object, *type));
  if (const auto file = text(object, "filename");
      file && *file != "/dev/urandom" && *file != "/dev/random")
    return fail("Parameter 'filename' does not accept value '{}'; valid: /dev/urandom, /dev/random",
                *file);
  if (is_memory_backend(object.type)) return check_memory_backend(object);
  if (object.type == "secret") static_cast<void>(LIMEN_TRY(secret_data(object)));
  return {};
}

Result<std::string> secret_data(const ObjectDescription& secret) {
  const auto data = text(secret, "data"), file = text(secret, "file");
  if (data && file) return fail("'file' and 'data' are mutually exclusive");
  if (!data && !file) return fail("Must provide 'file' or 'data'");
  if (text(secret, "keyid") || text(secret, "iv"))
    return fail("keyid=, iv=: encrypted secrets are not there; give it in a file");
  const auto format = text(secret, "format").value_or("raw");
  if (format != "raw" && format != "base64")
    return fail("Parameter 'format' does not accept value '{}'; valid: raw, base64", format);
  std::string bytes;
  if (data) {
    bytes = *data;
  } else {
    std::ifstream stream(*file, std::ios::binary);
    if (!stream) return fail_errno(errno, fmt::format("Failed to open file “{}”", *file));
    constexpr size_t kMost = size_t{1} << 20;
    bytes.resize(kMost);
    stream.read(bytes.data(), static_cast<std::streamsize>(kMost));
    bytes.resize(static_cast<size_t>(std::max<std::streamsize>(stream.gcount(), 0)));
    if (bytes.size() == kMost) return fail("file {} is too long for a secret", *file);
  }
  if (format == "raw") return bytes;
  // A file may end its line.
  while (!bytes.empty() && (bytes.back() == '\n' || bytes.back() == '\r')) bytes.pop_back();
  const auto decoded = decode_base64(bytes);
  if (!decoded) return fail("Base64 data '{}' is not valid", data ? *data : "of " + *file);
  return std::string(decoded->begin(), decoded->end());
}

Result<block::ThrottleLimits> throttle_limits(const ObjectDescription& group) {
  block::ThrottleLimits limits;
  for (const auto& [name, value] : group.properties) {
    std::string_view rest = name;
    if (rest.starts_with("limits."))
      rest.remove_prefix(7);
    else if (rest.starts_with("x-"))
      rest.remove_prefix(2);
    auto* field = rest == name ? nullptr : block::limit_field(limits, rest);
    if (field == nullptr) {
      const auto names = block::limit_names();
      const std::vector<std::string_view> choices(names.begin(), names.end());
      return fail("Property 'throttle-group.{}' not found{}", name, choice_hint(rest, choices));
    }
    const auto number = parse_size(value, 1);
    if (!number) return fail("{}={}: {}", name, value, number.error().message);
    *field = *number;
  }
  LIMEN_TRY(block::check_limits(limits));
  return limits;
}

MemoryBackend memory_backend(const ObjectDescription& object) {
  return {.size = parse_size(text(object, "size").value_or("0"), 1).value_or(0),
          .share = is_on(object, "share", object.type == "memory-backend-memfd"),
          .prealloc = is_on(object, "prealloc", false),
          .merge = is_on(object, "merge", true),
          .dump = is_on(object, "dump", true),
          .reserve = is_on(object, "reserve", true)};
}

namespace {

/// For memfd_create(2).
unsigned huge_page_flags(const ObjectDescription& object) {
  if (!is_on(object, "hugetlb", false)) return 0;
  const auto size = text(object, "hugetlbsize");
  if (!size) return MFD_HUGETLB;  // the host's usual size
  const auto bits = static_cast<unsigned>(std::countr_zero(parse_size(*size, 1).value_or(0)));
  return MFD_HUGETLB | bits << MAP_HUGE_SHIFT;
}

}  // namespace

Result<UniqueFd> open_memory(const ObjectDescription& object) {
  const auto backend = memory_backend(object);
  const auto path = text(object, "mem-path").value_or("");
  UniqueFd fd;
  if (object.type == "memory-backend-file") {
    struct stat there {};
    const bool folder = ::stat(path.c_str(), &there) == 0 && S_ISDIR(there.st_mode);
    fd.reset(folder ? ::open(path.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)
                    : ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
    if (!fd.valid())
      return fail_errno(errno, fmt::format("can't open backing store {} for guest RAM", path));
    if (::fstat(fd.get(), &there) != 0) return fail_errno(errno, path);
    const auto has = static_cast<uint64_t>(there.st_size);
    if (has != 0 && has < backend.size)
      return fail("backing store size {:#x} does not match 'size' option {:#x}", has, backend.size);
    if (has != 0) return fd;
  } else {
    const bool seal = object.type == "memory-backend-memfd" && is_on(object, "seal", true);
    fd.reset(::memfd_create(object.type.c_str(), MFD_CLOEXEC | (seal ? MFD_ALLOW_SEALING : 0u) |
                                                     huge_page_flags(object)));
    if (!fd.valid())
      return fail_errno(errno, is_on(object, "hugetlb", false)
                                   ? "failed to create memfd of huge pages of that size"
                                   : "failed to create memfd");
  }
  if (const uint64_t page = memory::page_size_of_file(fd.get()); backend.size % page != 0)
    return fail("size={}: memory of huge pages comes in pages of {} bytes", backend.size, page);
  const auto size = static_cast<off_t>(backend.size);
  if (::ftruncate(fd.get(), size) != 0)
    return fail_errno(errno, fmt::format("failed to resize memory to {}", backend.size));
  if (backend.prealloc)
    if (const int error = ::posix_fallocate(fd.get(), 0, size); error != 0)
      return fail_errno(error, fmt::format("preallocating {} bytes", backend.size));
  if (object.type == "memory-backend-memfd" && is_on(object, "seal", true) &&
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
    return fail_errno(errno, "failed to add seals");
  return fd;
}

}  // namespace limen::machine
