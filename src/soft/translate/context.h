// What generated code finds around it: it addresses the Cpu, and this inside it, through GS.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "soft/translate/fast_calls.h"
#include "soft/translate/jump_tables.h"
#include "soft/translate/x87_state.h"

namespace limen::soft::translate {

/// Why generated code came back to the translator.
enum class ExitReason : uint32_t {
  kLookup,       ///< Go on at the guest address `payload`.
  kLink,         ///< Go on at the target of link `payload`, and lead the code there.
  kInstruction,  ///< The interpreter is to run the instruction at site `payload`.
  kSplit,        ///< A window would reach over a page's end; `payload`: offset of the CallSite.
  kPoll,         ///< Something wants attention; the guest is at site `payload`.
};

/// Bytes that an instruction of translated code accesses at most.
constexpr unsigned kLargestAccess = 64;
/// So many bytes at either end of 32-bit code's addresses are its edges. Where a window is not
/// there, an address in it is what its registers add up to, and never 2^32 more or less, as long as
/// each is changed by what is known and displacements are smaller than kFarFromEdge.
constexpr uint32_t kEdge = 0x2000;
constexpr int32_t kFarFromEdge = 0x1000;
constexpr bool is_edge(uint64_t linear) {
  return linear - kEdge >= (uint64_t{1} << 32) - 2 * kEdge;
}
/// Instructions of a block, at most.
constexpr unsigned kMaxItems = 120;

struct Context {
  static constexpr unsigned kMostWindows = 2 * kMaxItems + 1;

  uint64_t saved_rax = 0;                 ///< While RAX holds the guest's flags.
  uint64_t page_mask = ~uint64_t{0xFFF};  ///< Bits of an address that name its page.
  // Of the running inner loop (emit_loop.cc).
  uint32_t passes = 0;       ///< How many more its windows allow.
  uint32_t first_round = 0;  ///< Of the first pass, counted from the last one of them.
  /// Per window of the running block, the difference of host and guest addresses.
  std::array<uint64_t, kMostWindows> windows{};
  uint64_t temporary = 0;
  /// Of FS and GS: added to addresses of 32-bit code, an address that is nowhere if the segment is
  /// not flat but for its base; otherwise 0.
  std::array<uint64_t, 2> segment_guards{};
  std::array<uint64_t, 2> scratch{};  ///< For the trampolines.
  uint64_t host_rsp = 0;
  const uint8_t* target = nullptr;
  const uint8_t* onward = nullptr;
  uint64_t payload = 0;
  uint64_t reason = 0;
  uint32_t scratch_mxcsr = 0;
  uint32_t default_mxcsr = 0x1F80;  ///< What compiled code expects.
  uint32_t pauses = 0;              ///< PAUSEs since the thread last let others run.
  // What the quiet functions need to go on or out.
  void* cpu = nullptr;
  void* translator = nullptr;
  const void* on_miss = nullptr;
  const void* on_string = nullptr;
  const void* on_revalidate = nullptr;
  const void* on_lookup = nullptr;
  const void* on_interrupt_return = nullptr;
  const void* on_load_cr3 = nullptr;
  const void* on_invalidate_page = nullptr;
  const void* on_pause = nullptr;
  const void* on_load_x87 = nullptr;
  const uint8_t* go_on_inside = nullptr;
  const uint8_t* go_on_inside_restoring = nullptr;
  const uint8_t* go_on_outside_restoring = nullptr;
  FastCalls calls;
  X87State x87;
  /// For reads of two pages.
  alignas(64) std::array<std::byte, 2 * kLargestAccess> bounce{};
  const uint8_t* code = nullptr;  ///< The code cache, executable.
  const uint8_t* exit_instruction = nullptr;
  const uint8_t* exit_instruction_restoring = nullptr;
  const uint8_t* exit_poll = nullptr;
  const uint8_t* exit_poll_restoring = nullptr;
  const uint8_t* exit_split = nullptr;
  const uint8_t* exit_split_restoring = nullptr;
  const uint8_t* go_on_restoring = nullptr;
  const uint8_t* go_on_onward_restoring = nullptr;
  const uint8_t* exit_lookup = nullptr;
  const uint8_t* exit_lookup_restoring = nullptr;
  JumpTables jump_tables;
};

}  // namespace limen::soft::translate
