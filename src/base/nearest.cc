#include "base/nearest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <vector>

namespace limen {
namespace {

constexpr size_t kFewChoices = 16;

char lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

/// Optimal string alignment distance.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = lower(a[i - 1]) == lower(b[j - 1]);
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
          lower(a[i - 2]) == lower(b[j - 1]))
        now[j] = std::min(now[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, now);
  }
  return last[b.size()];
}

}  // namespace

std::optional<std::string_view> nearest_choice(std::string_view wanted,
                                               std::span<const std::string_view> choices) {
  std::optional<std::string_view> best;
  size_t best_distance = 1 + std::max<size_t>(1, wanted.size() / 3);
  for (const auto choice : choices) {
    const size_t d = distance(wanted, choice);
    if (d < best_distance && d < choice.size()) {
      best = choice;
      best_distance = d;
    }
  }
  if (best || wanted.size() < 3) return best;
  // What was typed stands in a longer name, or the other way round: "virtio-blk", "q35-9.1".
  for (const auto choice : choices)
    if (choice.starts_with(wanted) || (choice.size() >= 3 && wanted.starts_with(choice)))
      return choice;
  return best;
}

std::string choice_hint(std::string_view wanted, std::span<const std::string_view> choices) {
  if (const auto nearest = nearest_choice(wanted, choices))
    return fmt::format("; did you mean '{}'?", *nearest);
  if (choices.empty() || choices.size() > kFewChoices) return {};
  return fmt::format("; valid choices: {}", fmt::join(choices, ", "));
}

}  // namespace limen
