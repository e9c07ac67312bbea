// INT n, INT3, INTO, INT1 and BOUND (SDM Vol. 2A "INT n", "BOUND").
#include <utility>

#include "soft/interpret/debug.h"
#include "soft/interpret/operand.h"
#include "soft/interpret/system/flags.h"
#include "soft/interpret/system/handlers.h"
#include "soft/interpret/system/interrupt.h"

namespace limen::soft::interpret {

using x86::Exception;
using x86::Vector;

namespace {

void enter_as(Cpu& cpu, Vector vector, EventKind kind) {
  enter_handler(
      cpu, {.vector = static_cast<uint8_t>(vector), .kind = kind, .return_rip = cpu.gpr[kNextRip]});
}

template <typename T>
bool is_out_of_bounds(Cpu& cpu, const Operation& operation) {
  const uint64_t linear = operand_linear(cpu, operation, 2 * sizeof(T), AccessKind::kRead);
  const T lower = cpu.mmu.read<T>(linear);
  const T upper = cpu.mmu.read<T>(linear + sizeof(T));
  const T index = get_register<T>(cpu, operation.reg);
  return index < lower || index > upper;
}

}  // namespace

void software_interrupt(Cpu& cpu, const Operation& operation) {
  if (cpu.virtual_8086 && io_privilege(cpu) < 3) Cpu::raise(Exception::general_protection());
  enter_handler(cpu, {.vector = static_cast<uint8_t>(operation.immediate),
                      .kind = EventKind::kSoftware,
                      .return_rip = cpu.gpr[kNextRip]});
}

void breakpoint_interrupt(Cpu& cpu, const Operation&) {
  enter_as(cpu, Vector::kBreakpoint, EventKind::kSoftware);
}

void overflow_interrupt(Cpu& cpu, const Operation&) {
  if (cpu.flags_overflow) enter_as(cpu, Vector::kOverflow, EventKind::kSoftware);
}

/// INT1 asks no gate for its DPL and says nothing in DR6. A data breakpoint that MOV SS held back
/// is part of the same exception.
void debug_interrupt(Cpu& cpu, const Operation&) {
  if (const uint64_t held_back = std::exchange(cpu.activity.pending_debug, 0); held_back != 0)
    record_debug_exception(cpu, held_back);
  enter_as(cpu, Vector::kDebug, EventKind::kException);
}

void check_bounds(Cpu& cpu, const Operation& operation) {
  const bool outside = operation.operand_size == 2 ? is_out_of_bounds<int16_t>(cpu, operation)
                                                   : is_out_of_bounds<int32_t>(cpu, operation);
  if (outside) Cpu::raise(Exception::plain(Vector::kBoundRange));
}

}  // namespace limen::soft::interpret
