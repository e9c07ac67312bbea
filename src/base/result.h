// Fallible results: every function that can fail returns Result<T>; an Error
// says what was attempted, on what, and why it failed.
#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <utility>

namespace limen {

/// Why something failed. `message` starts in lower case, has no full stop and
/// names the value that was wrong.
struct Error {
  std::string message;
  int system_errno = 0;  ///< errno of the system call behind it; 0 if none.
};

template <typename T = void>
using Result = std::expected<T, Error>;

/// An unexpected<Error> with a formatted message: `return fail("no such file: {}", path);`
template <typename... Arguments>
[[nodiscard]] std::unexpected<Error> fail(fmt::format_string<Arguments...> format,
                                          Arguments&&... arguments) {
  return std::unexpected(Error{fmt::format(format, std::forward<Arguments>(arguments)...), 0});
}

/// As fail(), with ": <strerror(error_number)>" appended and the number kept.
[[nodiscard]] std::unexpected<Error> fail_errno(int error_number, std::string what);

}  // namespace limen

/// The value of a Result expression; returns its error from the enclosing function. Not inside a
/// braced list: GCC 12 does not destroy what the list has built by then.
#define LIMEN_TRY(...) LIMEN_TRY_NAMED(LIMEN_JOIN(limen_try_result_, __COUNTER__), __VA_ARGS__)
#define LIMEN_TRY_NAMED(name, ...)                     \
  ({                                                   \
    auto name = (__VA_ARGS__);                         \
    if (!name) [[unlikely]]                            \
      return std::unexpected(std::move(name).error()); \
    limen::detail::take(std::move(name));              \
  })
#define LIMEN_JOIN(a, b) LIMEN_JOIN_EXPANDED(a, b)
#define LIMEN_JOIN_EXPANDED(a, b) a##b

namespace limen::detail {
template <typename T>
T take(std::expected<T, Error>&& result) {
  return *std::move(result);
}
inline void take(std::expected<void, Error>&&) {}
}  // namespace limen::detail
