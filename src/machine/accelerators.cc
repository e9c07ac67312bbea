#include "machine/accelerators.h"

#include <array>

#include "base/nearest.h"
#include "soft/soft_accelerator.h"

namespace limen::machine {

Result<std::unique_ptr<vcpu::Accelerator>> create_accelerator(
    std::string_view name, const std::map<std::string, std::string>& properties) {
  constexpr std::array<std::string_view, 1> kNames = {"soft"};
  if (name == "soft") {
    soft::SoftOptions options;
    if (const auto size = properties.find("tb-size"); size != properties.end())
      options.code_size = std::stoull(size->second) << 20;
    if (const auto tier = properties.find("tier"); tier != properties.end())
      if (tier->second == "interpreter") options.code_size = 0;
    return soft::make_soft_accelerator(options);
  }
  return fail("unknown accelerator '{}'{}", name, choice_hint(name, kNames));
}

}  // namespace limen::machine
