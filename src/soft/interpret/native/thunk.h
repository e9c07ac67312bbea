// Thunks: generated functions that load what one instruction reads into the host's registers, run
// the host's own copy of it, and store what it wrote.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "soft/decode/decoder.h"
#include "soft/interpret/native/rewrite.h"

namespace limen::soft {
struct Cpu;
}

namespace limen::soft::interpret::native {

enum class Access : uint8_t { kNone, kRead, kWrite, kUpdate };

/// How elements of a memory operand can be left out, with their faults (SDM Vol. 1 15.6.4; Vol. 2C
/// VMASKMOV).
enum class Masking : uint8_t {
  kNone,
  kOpmask,    ///< Bit i of opmask `mask_register` is for element i.
  kSignBits,  ///< The top bit of element i of vector `mask_register`.
  kWhole,     ///< The operand is broadcast: all of it, unless the opmask is empty.
  kPacked,    ///< Compress and expand: as many elements as the opmask has bits, side by side.
};

/// Where a thunk finds the x87 state and leaves it.
struct alignas(64) X87Area {
  std::array<uint8_t, 512> legacy;  ///< XSAVE's.
  std::array<uint64_t, 8> header;
  /// Afterwards what FNSTENV stores in 64-bit mode: opcode and pointers as they are, which some
  /// processors' XSAVE gives only while an exception is pending (APM Vol. 2 11.4.4).
  std::array<uint32_t, 8> environment;
};

struct Thunk {
  /// `memory`: where the memory operand is. `x87`: an X87Area that holds the x87 state, which is
  /// updated. Both unused where the instruction has none. Returns 0, or the number of the exception
  /// that the host raised; then nothing but the flags of MXCSR has changed.
  using Code = uint32_t (*)(Cpu* cpu, void* memory, void* x87);

  Code code = nullptr;
  const uint8_t* instruction = nullptr;  ///< The host's copy: what FIP shows after it.
  uint16_t x87_opcode = 0;               ///< What FOP shows after it.
  uint16_t memory_size = 0;              ///< Bytes.
  Access access = Access::kNone;
  Masking masking = Masking::kNone;
  uint8_t mask_register = 0;
  uint8_t element_size = 0;  ///< Bytes.
  uint8_t lanes = 0;         ///< Bits of the mask that count.
  uint8_t alignment = 0;     ///< Address bits that must be 0, or #GP comes before every page fault.
  bool any_alignment = false;   ///< Free of #AC.
  bool waits = false;           ///< Raises #MF for an earlier exception before it looks at memory.
  bool is_noted = false;        ///< As in X87.
  bool computes_first = false;  ///< Raises #XM before it looks at memory, though it only stores.
};

/// The thunk for an instruction, made at the first call and shared by every engine of the process.
/// nullptr: the instruction cannot be run so. `full` is set when it could be, but the area for
/// generated code is full. The pointer stays valid. Thread-safe.
const Thunk* find_thunk(const decode::Instruction& instruction, const Cpu& cpu, bool plain_scan,
                        bool& full);

/// For an instruction whose thunk found no room: makes one in a place that is used again and again,
/// and keeps others from that place until the object is gone.
class TransientThunk {
 public:
  TransientThunk(const decode::Instruction& instruction, const Cpu& cpu, bool plain_scan);
  ~TransientThunk();
  TransientThunk(const TransientThunk&) = delete;
  TransientThunk& operator=(const TransientThunk&) = delete;
  [[nodiscard]] const Thunk& thunk() const { return thunk_; }

 private:
  Thunk thunk_;
};

}  // namespace limen::soft::interpret::native
