// Displacements from GS of what the code for system instructions uses.
#pragma once

#include <array>
#include <cstdint>

namespace limen::soft {
struct Cpu;
}

namespace limen::soft::translate {

struct SystemLayout {
  explicit SystemLayout(const Cpu& of);

  int32_t cr0 = 0;
  int32_t cr2 = 0;
  int32_t cr3 = 0;
  int32_t cr4 = 0;
  int32_t lstar = 0;
  int32_t cpl = 0;
  std::array<int32_t, 6> segments{};  ///< The selectors; the rest of each stands behind it.
  // FastCalls.
  int32_t call = 0;
  int32_t system_return = 0;
  int32_t kept_flags = 0;
  int32_t call_code = 0;
  int32_t call_stack = 0;
  int32_t return_code = 0;
  int32_t return_stack = 0;
  // Mmu::PrivilegeSwitch.
  std::array<int32_t, 3> chosen_data{};
  std::array<int32_t, 3> chosen_fetch{};
  std::array<int32_t, 3> chosen_view{};
  int32_t data = 0;
  int32_t fetch = 0;
  int32_t view = 0;
  int32_t user = 0;
  int32_t alignment_check = 0;
  // Quiet functions.
  int32_t on_interrupt_return = 0;
  int32_t on_load_cr3 = 0;
  int32_t on_invalidate_page = 0;
  int32_t on_pause = 0;
};

}  // namespace limen::soft::translate
