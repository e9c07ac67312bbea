// Writes the code of one thunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "soft/decode/decoder.h"
#include "soft/interpret/native/rewrite.h"

namespace limen::soft {
struct Cpu;
}

namespace limen::soft::interpret::native {

/// No thunk is longer.
inline constexpr size_t kMaxThunkSize = 512;

struct EmittedThunk {
  size_t size = 0;
  size_t instruction = 0;  ///< Offset of the copied instruction: the only place that may fault.
  size_t recovery = 0;     ///< Offset at which to go on after a fault, with its number in EAX.
};

/// Emits into `where` position-independent code with the signature Thunk::Code. `cpu` is any Cpu:
/// only the offsets of its members matter.
EmittedThunk emit_thunk(const decode::Instruction& instruction, const HostInstruction& host,
                        const Cpu& cpu, std::span<std::byte> where);

}  // namespace limen::soft::interpret::native
