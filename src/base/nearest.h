// Finding what a person probably meant.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace limen {

/// The choice with the smallest edit distance to `wanted` (insert, delete, replace or swap
/// neighbours; upper and lower case alike), if that is small enough to be a slip of the hand.
std::optional<std::string_view> nearest_choice(std::string_view wanted,
                                               std::span<const std::string_view> choices);

/// The end of an error message about `wanted`: "; did you mean 'q35'?" when a choice is near, else
/// "; valid choices: a, b, c" when they are few, else nothing.
std::string choice_hint(std::string_view wanted, std::span<const std::string_view> choices);

}  // namespace limen
