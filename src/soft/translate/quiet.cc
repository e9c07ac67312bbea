#include "soft/translate/quiet.h"

#include "soft/cpu.h"

namespace limen::soft::translate {

Continuation on_miss(Cpu* cpu, uint64_t linear, const MissSite* site) noexcept {
  const Access access = site->write != 0 ? Access::kWrite : Access::kRead;
  if (const std::byte* host = cpu->mmu.quick_host(linear, site->size, access))
    return {reinterpret_cast<uint64_t>(host), cpu->generated.code + site->resume};
  return {site->site, site->flags_saved != 0 ? cpu->generated.exit_instruction_restoring
                                             : cpu->generated.exit_instruction};
}

}  // namespace limen::soft::translate
