#include "machine/accelerators.h"

#include <array>

#include "base/nearest.h"
#include "soft/soft_accelerator.h"

namespace limen::machine {

Result<std::unique_ptr<vcpu::Accelerator>> create_accelerator(std::string_view name) {
  constexpr std::array<std::string_view, 1> kNames = {"soft"};
  if (name == "soft") return soft::make_soft_accelerator();
  return fail("unknown accelerator '{}'{}", name, choice_hint(name, kNames));
}

}  // namespace limen::machine
