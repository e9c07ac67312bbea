#include "machine/objects.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <optional>
#include <vector>

#include "base/base64.h"
#include "base/nearest.h"

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
constexpr std::array kMemfdProperties = {
    kSize,
    kShare,
    kPrealloc,
    kPreallocThreads,
    kMerge,
    kDump,
    kReserve,
    kCanonical,
    PropertySpecification{"seal", kBoolean, "the file keeps its size"},
    PropertySpecification{"hugetlb", kBoolean, "off: transparent huge pages are used"},
};
constexpr std::array kFileProperties = {
    kSize,
    kShare,
    kPrealloc,
    kPreallocThreads,
    kMerge,
    kDump,
    kReserve,
    kCanonical,
    PropertySpecification{"mem-path", kText, "file, or folder to make an unnamed one in"},
    PropertySpecification{"discard-data", kBoolean, "taken, without effect"},
};

using block::RateLimit;
using block::ThrottleLimits;
struct LimitName {
  std::string_view name;
  RateLimit ThrottleLimits::*limit;
};
constexpr std::array kLimits = {
    LimitName{"iops-total", &ThrottleLimits::iops_total},
    LimitName{"iops-read", &ThrottleLimits::iops_read},
    LimitName{"iops-write", &ThrottleLimits::iops_write},
    LimitName{"bps-total", &ThrottleLimits::bps_total},
    LimitName{"bps-read", &ThrottleLimits::bps_read},
    LimitName{"bps-write", &ThrottleLimits::bps_write},
};

constexpr std::array kCatalog = {
    ObjectSpecification{"iothread", "thread for the work of disks", kThreadProperties},
    ObjectSpecification{"memory-backend-file", "memory in a file", kFileProperties},
    ObjectSpecification{"memory-backend-memfd", "memory that can be shared", kMemfdProperties},
    ObjectSpecification{"memory-backend-ram", "memory", kRamProperties},
    ObjectSpecification{"rng-builtin", "source of random bytes", {}},
    ObjectSpecification{"rng-random", "source of random bytes", kRandomProperties},
    ObjectSpecification{"secret", "a password or key", kSecretProperties},
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

bool is_identifier(std::string_view id) {
  const auto letter = [](char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; };
  return !id.empty() && letter(id[0]) && std::ranges::all_of(id, [&](char c) {
    return letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

/// The field of a limit that a name such as "iops-total-max-length" means.
uint64_t* limit_field(ThrottleLimits& limits, std::string_view name) {
  if (name == "iops-size") return &limits.iops_size;
  for (const auto& each : kLimits) {
    if (!name.starts_with(each.name)) continue;
    auto& limit = limits.*each.limit;
    const auto rest = name.substr(each.name.size());
    if (rest.empty()) return &limit.average;
    if (rest == "-max") return &limit.maximum;
    if (rest == "-max-length") return &limit.length;
  }
  return nullptr;
}

Result<> check_properties(const ObjectDescription& object, const ObjectSpecification& type) {
  for (const auto& [name, value] : object.properties) {
    const auto found =
        std::ranges::find(type.properties, std::string_view(name), &PropertySpecification::name);
    if (found == type.properties.end()) {
      std::vector<std::string_view> names;
      for (const auto& property : type.properties) names.push_back(property.name);
      return fail("Property '{}.{}' not found{}", object.type, name, choice_hint(name, names));
    }
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
  const auto bytes = parse_bytes(*size);
  if (!bytes) return fail("Parameter 'size' expects a size: {}", bytes.error().message);
  if (*bytes == 0) return fail("property 'size' of {} doesn't take value '0'", object.type);
  constexpr uint64_t kPage = 4096;
  if (*bytes % kPage != 0) return fail("size={}: memory comes in pages of {} bytes", *size, kPage);
  if (*bytes > uint64_t{INT64_MAX}) return fail("size={} is too large", *size);
  if (object.type == "memory-backend-file" && text(object, "mem-path").value_or("").empty())
    return fail("mem-path property not set");
  if (is_on(object, "hugetlb", false))
    return fail("hugetlb=on is not there: memory has the host's transparent huge pages");
  return {};
}

}  // namespace

std::span<const ObjectSpecification> object_catalog() { return kCatalog; }

const ObjectSpecification* find_object_type(std::string_view type) {
  const auto found = std::ranges::find(kCatalog, type, &ObjectSpecification::type);
  return found == kCatalog.end() ? nullptr : &*found;
}

bool is_memory_backend(std::string_view type) { return type.starts_with("memory-backend-"); }

Result<> check_object(const ObjectDescription& object) {
  const auto* type = find_object_type(object.type);
  if (type == nullptr) {
    std::vector<std::string_view> types;
    types.reserve(kCatalog.size());
    for (const auto& each : kCatalog) types.push_back(each.type);
    return fail("Parameter 'qom-type' does not accept value '{}'{}", object.type,
                choice_hint(object.type, types));
  }
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

Result<ThrottleLimits> throttle_limits(const ObjectDescription& group) {
  ThrottleLimits limits;
  for (const auto& [name, value] : group.properties) {
    std::string_view rest = name;
    if (rest.starts_with("limits."))
      rest.remove_prefix(7);
    else if (rest.starts_with("x-"))
      rest.remove_prefix(2);
    auto* field = limit_field(limits, rest);
    if (field == nullptr || rest == name)
      return fail("Property 'throttle-group.{}' not found", name);
    const auto number = parse_bytes(value);
    if (!number) return fail("{}={}: {}", name, value, number.error().message);
    *field = *number;
  }
  LIMEN_TRY(block::check_limits(limits));
  return limits;
}

MemoryBackend memory_backend(const ObjectDescription& object) {
  return {.size = parse_bytes(text(object, "size").value_or("0")).value_or(0),
          .share = is_on(object, "share", object.type == "memory-backend-memfd"),
          .prealloc = is_on(object, "prealloc", false),
          .merge = is_on(object, "merge", true),
          .dump = is_on(object, "dump", true),
          .reserve = is_on(object, "reserve", true)};
}

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
    fd.reset(::memfd_create(object.type.c_str(), MFD_CLOEXEC | (seal ? MFD_ALLOW_SEALING : 0u)));
    if (!fd.valid()) return fail_errno(errno, "failed to create memfd");
  }
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

Result<uint64_t> parse_bytes(std::string_view text) {
  constexpr std::string_view kUnits = "BKMGTPE";
  uint64_t unit = 1;
  auto digits = text;
  if (!digits.empty())
    if (const auto power = kUnits.find(static_cast<char>(digits.back() & ~0x20));
        power != std::string_view::npos && digits.size() > 1 && !digits.starts_with("0x")) {
      unit = uint64_t{1} << (10 * power);
      digits.remove_suffix(1);
    }
  const auto number = parse_number(digits);
  uint64_t bytes = 0;
  if (!number || __builtin_mul_overflow(*number, unit, &bytes))
    return fail("'{}' is not a size; write a number and K, M, G or T, as in 512M", text);
  return bytes;
}

}  // namespace limen::machine
