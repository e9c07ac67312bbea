#include "block/filters/throttle_limits.h"

#include <algorithm>

namespace limen::block {
namespace {

/// The largest limit that is taken (QEMU's THROTTLE_VALUE_MAX).
constexpr uint64_t kMost = 1'000'000'000'000'000;

struct NamedLimit {
  std::string_view name;
  RateLimit ThrottleLimits::*limit;
};
constexpr std::array kLimits = {
    NamedLimit{"bps-total", &ThrottleLimits::bps_total},
    NamedLimit{"bps-read", &ThrottleLimits::bps_read},
    NamedLimit{"bps-write", &ThrottleLimits::bps_write},
    NamedLimit{"iops-total", &ThrottleLimits::iops_total},
    NamedLimit{"iops-read", &ThrottleLimits::iops_read},
    NamedLimit{"iops-write", &ThrottleLimits::iops_write},
};
struct NamedField {
  std::string_view suffix;
  uint64_t RateLimit::*field;
};
constexpr std::array kFields = {
    NamedField{"", &RateLimit::average},
    NamedField{"-max", &RateLimit::maximum},
    NamedField{"-max-length", &RateLimit::length},
};
constexpr std::string_view kSize = "iops-size";

}  // namespace

std::array<const RateLimit*, 6> all_limits(const ThrottleLimits& limits) {
  std::array<const RateLimit*, 6> all{};
  std::ranges::transform(kLimits, all.begin(),
                         [&](const NamedLimit& named) { return &(limits.*named.limit); });
  return all;
}

uint64_t* limit_field(ThrottleLimits& limits, std::string_view name) {
  if (name == kSize) return &limits.iops_size;
  for (const auto& [limit_name, limit] : kLimits) {
    if (!name.starts_with(limit_name)) continue;
    const auto found =
        std::ranges::find(kFields, name.substr(limit_name.size()), &NamedField::suffix);
    if (found != kFields.end()) return &(limits.*limit.*found->field);
  }
  return nullptr;
}

std::vector<std::string> limit_names() {
  std::vector<std::string> names = {std::string(kSize)};
  for (const auto& limit : kLimits)
    for (const auto& field : kFields)
      names.push_back(std::string(limit.name) + std::string(field.suffix));
  return names;
}

bool ThrottleLimits::any() const {
  return std::ranges::any_of(all_limits(*this),
                             [](const RateLimit* limit) { return limit->average != 0; });
}

Result<> check_limits(const ThrottleLimits& limits) {
  const auto conflict = [](const RateLimit& total, const RateLimit& read, const RateLimit& write) {
    return (total.average != 0 && (read.average != 0 || write.average != 0)) ||
           (total.maximum != 0 && (read.maximum != 0 || write.maximum != 0));
  };
  if (conflict(limits.bps_total, limits.bps_read, limits.bps_write) ||
      conflict(limits.iops_total, limits.iops_read, limits.iops_write))
    return fail("bps/iops/max total values and read/write values cannot be used at the same time");
  if (limits.iops_size != 0 && limits.iops_total.average == 0 && limits.iops_read.average == 0 &&
      limits.iops_write.average == 0)
    return fail("iops size requires an iops value to be set");
  for (const RateLimit* limit : all_limits(limits)) {
    if (limit->average > kMost || limit->maximum > kMost)
      return fail("bps/iops/max values must be within [0, {}]", kMost);
    if (limit->length == 0) return fail("the burst length cannot be 0");
    if (limit->length > 1 && limit->maximum == 0)
      return fail("burst length set without burst rate");
    if (limit->maximum != 0 && limit->length > kMost / limit->maximum)
      return fail("burst length too high for this burst rate");
    if (limit->maximum != 0 && limit->average == 0)
      return fail("bps_max/iops_max require corresponding bps/iops values");
    if (limit->maximum != 0 && limit->maximum < limit->average)
      return fail("bps_max/iops_max cannot be lower than bps/iops");
  }
  return {};
}

}  // namespace limen::block
