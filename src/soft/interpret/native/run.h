// Handlers that run a thunk.
#pragma once

#include "soft/interpret/native/features.h"
#include "soft/interpret/native/thunk.h"
#include "soft/interpret/operation.h"

namespace limen::soft::interpret::native {

/// The handler for an instruction whose Operation::native is `thunk`.
[[nodiscard]] Handler thunk_handler(Check check, const Thunk& thunk);

/// The same for one that works on the x87 state; Operation::immediate is the guest's FOP.
[[nodiscard]] Handler x87_thunk_handler(Check check);

/// Runs an instruction for which there was no room: Operation::native is null.
void run_transient(Cpu& cpu, const Operation& operation);

/// Runs `thunk` with its memory operand at `linear` in a buffer with the same alignment, because
/// the operand is not in one page of RAM. `x87` as in Thunk::Code.
void run_bounced(Cpu& cpu, const Thunk& thunk, uint64_t linear, void* x87);

/// The same for instructions that leave elements out.
void run_masked_bounced(Cpu& cpu, const Thunk& thunk, uint64_t linear);

/// Runs one that works on the x87 state, checks done.
void run_x87(Cpu& cpu, const Operation& operation, const Thunk& thunk);

}  // namespace limen::soft::interpret::native
