// The files of the page, as they are packed into the program.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace limen::web {

struct Asset {
  std::string_view path;             ///< "/page/main.js"; that of the page itself is "/".
  std::string_view type;             ///< As Content-Type has it.
  std::span<const uint8_t> content;  ///< Compressed (gzip, RFC 1952).
};

/// nullptr: there is none. Paths are names, nothing is looked for anywhere.
[[nodiscard]] const Asset* find_asset(std::string_view path);
/// Made by cmake/embed_files.py, ordered by path.
[[nodiscard]] std::span<const Asset> assets();

}  // namespace limen::web
