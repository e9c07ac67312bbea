#include "block/image_tool.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>

#include "block/image_file.h"

namespace limen::block {
namespace {

constexpr std::string_view kSuffixes = "bkMGTPE";
constexpr uint64_t kLargestSize = uint64_t{INT64_MAX} & ~(kSectorSize - 1);

}  // namespace

std::string human_size(uint64_t bytes) {
  int exponent = 0;
  // The next unit from 1000 on, not from 1024: three digits always do.
  std::frexp(static_cast<double>(bytes) / (1000.0 / 1024.0), &exponent);
  const int unit = std::max(0, (exponent - 1) / 10);
  constexpr std::string_view kUnits[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
  return fmt::format("{:.3g} {}B", std::ldexp(static_cast<double>(bytes), -10 * unit),
                     kUnits[unit]);
}

namespace {

Result<> truncate(const ImageFile& file, const std::string& path, uint64_t size) {
  while (::ftruncate(file.fd.get(), static_cast<off_t>(size)) != 0)
    if (errno != EINTR)
      return fail_errno(errno, fmt::format("sizing image '{}' to {} bytes", path, size));
  return {};
}

Result<> empty_to_size(const std::string& path, ImageFile& file, uint64_t size) {
  LIMEN_TRY(lock_image(file, path, Access::kWrite));
  if (!file.regular_file) {
    if (size <= file.size) return {};
    return fail("block device '{}' has {} bytes: {} were asked for", path, file.size, size);
  }
  LIMEN_TRY(truncate(file, path, 0));
  return truncate(file, path, size);
}

}  // namespace

Result<uint64_t> parse_image_size(std::string_view text) {
  const uint64_t bytes = LIMEN_TRY(parse_byte_size(text));
  return (bytes + kSectorSize - 1) & ~(kSectorSize - 1);
}

Result<uint64_t> parse_byte_size(std::string_view text) {
  const auto bad = [text] {
    return fail(
        "'{}' is not a size: expected a number, optionally with one of b, k, M, G, T, P or E",
        text);
  };
  std::string_view digits = text;
  unsigned shift = 0;
  if (!digits.empty() && (digits.back() < '0' || digits.back() > '9')) {
    const char suffix = digits.back();
    size_t unit = kSuffixes.find(suffix);
    if (unit == std::string_view::npos) {
      const auto other_case = static_cast<char>(suffix ^ 0x20);
      unit = kSuffixes.find(other_case);
      if (unit == std::string_view::npos) return bad();
    }
    shift = static_cast<unsigned>(10 * unit);
    digits.remove_suffix(1);
  }
  // Digits, optionally a point and more digits; a long double holds all 64 bits of the whole part.
  long double value = 0, weight = 1;
  bool fraction = false;
  for (const char c : digits) {
    if (c == '.' && !fraction && shift != 0) {
      fraction = true;
    } else if (c < '0' || c > '9') {
      return bad();
    } else if (fraction) {
      weight /= 10;
      value += weight * static_cast<long double>(c - '0');
    } else {
      value = value * 10 + static_cast<long double>(c - '0');
    }
  }
  if (digits.empty() || digits.front() == '.' || digits.back() == '.') return bad();
  value = std::ldexp(value, static_cast<int>(shift));
  if (value > static_cast<long double>(kLargestSize))
    return fail("image size '{}' is too large: the largest is {} bytes", text, kLargestSize);
  return static_cast<uint64_t>(value);
}

Result<> create_image(const std::string& path, uint64_t size) {
  if (size > kLargestSize)
    return fail("image size {} is too large: the largest is {} bytes", size, kLargestSize);
  size = (size + kSectorSize - 1) & ~(kSectorSize - 1);
  auto fresh = open_image_file(path, O_RDWR | O_CREAT | O_EXCL);
  if (!fresh) {
    if (fresh.error().system_errno != EEXIST) return std::unexpected(std::move(fresh).error());
    // Not O_TRUNC: a machine may be using it.
    auto existing = LIMEN_TRY(open_image_file(path, O_RDWR));
    return empty_to_size(path, existing, size);
  }
  const auto made = empty_to_size(path, *fresh, size);
  if (!made) ::unlink(path.c_str());
  return made;
}

Result<uint64_t> resize_image(const std::string& path, std::string_view size, bool allow_shrink) {
  const bool grow = size.starts_with('+'), reduce = size.starts_with('-');
  const uint64_t amount = LIMEN_TRY(parse_image_size(grow || reduce ? size.substr(1) : size));
  const auto file = LIMEN_TRY(open_image_file(path, O_RDWR));
  LIMEN_TRY(lock_image(file, path, Access::kWrite));
  if (!file.regular_file) return fail("image '{}' is a block device: it has the size it has", path);
  if (grow && amount > kLargestSize - std::min(file.size, kLargestSize))
    return fail("image '{}' of {} bytes cannot grow by {}: the largest is {} bytes", path,
                file.size, amount, kLargestSize);
  if (reduce && amount >= file.size)
    return fail("image '{}' of {} bytes cannot shrink by {}: nothing would be left", path,
                file.size, amount);
  uint64_t wanted = grow ? file.size + amount : reduce ? file.size - amount : amount;
  wanted = (wanted + kSectorSize - 1) & ~(kSectorSize - 1);
  if (wanted < file.size && !allow_shrink)
    return fail(
        "image '{}' would shrink from {} to {} bytes and lose what lies behind: use --shrink", path,
        file.size, wanted);
  LIMEN_TRY(truncate(file, path, wanted));
  return wanted;
}

}  // namespace limen::block
