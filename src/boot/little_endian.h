// Little-endian fields inside byte strings: the formats of this room are all little-endian, as is
// the host.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace limen::boot {

/// The field at `offset`. The caller has checked that it lies inside.
template <typename T>
[[nodiscard]] T field(std::span<const std::byte> bytes, size_t offset) {
  static_assert(std::is_integral_v<T>);
  assert(offset <= bytes.size() && sizeof(T) <= bytes.size() - offset);
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <typename T>
void set_field(std::span<std::byte> bytes, size_t offset, T value) {
  static_assert(std::is_integral_v<T>);
  assert(offset <= bytes.size() && sizeof(T) <= bytes.size() - offset);
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

template <typename T>
void append(std::vector<std::byte>& bytes, T value) {
  static_assert(std::is_integral_v<T>);
  const size_t offset = bytes.size();
  bytes.resize(offset + sizeof value);
  set_field(bytes, offset, value);
}

inline void append_text(std::vector<std::byte>& bytes, std::string_view text) {
  for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
}

/// The byte that makes the sum 0.
[[nodiscard]] inline std::byte checksum(std::span<const std::byte> bytes) {
  const unsigned sum =
      std::accumulate(bytes.begin(), bytes.end(), 0u,
                      [](unsigned total, std::byte b) { return total + static_cast<unsigned>(b); });
  return static_cast<std::byte>(0u - sum);
}

/// True if [offset, offset + size) lies inside `total`; no sum can wrap.
[[nodiscard]] constexpr bool inside(uint64_t offset, uint64_t size, uint64_t total) {
  return offset <= total && size <= total - offset;
}

}  // namespace limen::boot
