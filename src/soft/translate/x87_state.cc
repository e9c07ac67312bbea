// The way of the x87 state from the host's registers back to Cpu::vector.
#include "soft/translate/x87_state.h"

#include "soft/interpret/block_cache.h"
#include "soft/interpret/native/x87_pointers.h"
#include "soft/interpret/operand.h"
#include "soft/translate/translator.h"

namespace limen::soft::translate {

using namespace interpret::native;  // NOLINT(google-build-using-namespace): offsets in the image

namespace {

/// The bytes of a block's instructions, by their offset from the home's base.
class GuestCode {
 public:
  GuestCode(const memory::GuestMemory& ram, const Home& home) : ram_(ram), home_(home) {}
  [[nodiscard]] uint8_t operator[](size_t offset) const {
    const size_t page = offset >> 12;
    if (page >= home_.page_count) return 0;
    return static_cast<uint8_t>(ram_.page_data(home_.ram_pages[page])[offset & kPageOffset]);
  }

 private:
  const memory::GuestMemory& ram_;
  const Home& home_;
};

}  // namespace

void Translator::store_x87() {
  X87State& x87 = cpu_.generated.x87;
  asm volatile(
      "xsave64 %0\n"
      "fninit"
      : "+m"(x87.area)
      : "a"(x86::xcr0::kX87), "d"(0)
      : "st");
  x87.away = 1;
  x86::VectorState& state = cpu_.vector;
  std::memcpy(state.fxsave.data() + kControlWordAt, &x87.area.words, kOpcodeAt);
  std::memcpy(state.fxsave.data() + kStackAt, x87.area.stack.data(), sizeof x87.area.stack);
  const bool pending = (image_field<uint16_t>(state, kStatusWordAt) & kErrorSummary) != 0;
  if (pending) {
    // Every host saves the pointers now: to code that may not have come to its note.
    const uint64_t instruction = x87.area.instruction;
    const uint32_t site = cache_.contains(instruction) ? site_of(cache_.offset_of(instruction)) : 0;
    if (site != 0 && site != x87.site) {
      x87.data = x87_data_at(site);
      x87.site = site;
    }
  }
  if (x87.site != 0)
    note_x87(
        state,
        {.instruction = quick_rip(x87.site), .opcode = x87_opcode_at(x87.site), .data = x87.data},
        // FLDCW may make an earlier exception one that is pending, which does not note it. The
        // host's FOP was loaded as 0, that of an operand at [rax] alone, which no emitted
        // instruction has.
        pending && x87.area.words >> (8 * kOpcodeAt) != 0);
}

/// FOP for the instruction as the guest wrote it (SDM Vol. 1 8.1.9).
uint16_t Translator::x87_opcode_at(uint32_t site) const {
  const Block& block = block_of_site(site);
  const GuestCode code(cpu_.ram, blocks_.home(block.home));
  size_t at = site_at(block, site_index(site)).offset;
  const size_t end = at + decode::kMaxInstructionLength;
  while (at < end && (code[at] & 0xF8) != 0xD8) ++at;  // prefixes
  return static_cast<uint16_t>((code[at] & 7) << 8 | code[at + 1]);
}

/// FDP for an instruction in a row of which none was left since: registers are as they were.
uint64_t Translator::x87_data_at(uint32_t site) {
  const Block& block = block_of_site(site);
  const GuestCode code(cpu_.ram, blocks_.home(block.home));
  for (unsigned index = site_index(site);; --index) {
    const Site& at = site_at(block, index);
    std::array<uint8_t, decode::kMaxInstructionLength> bytes;
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = code[at.offset + i];
    decode::Instruction instruction;
    if (decode::decode(cpu_.mode, bytes, instruction) != decode::Outcome::kOk ||
        x87_use(instruction) != X87::kIsNoted)
      break;
    interpret::Operation operation;
    interpret::make_operation(cpu_, instruction, operation);
    if ((operation.flags & interpret::Operation::kMemory) != 0) {
      cpu_.gpr[interpret::kNextRip] =
          quick_rip(make_site(site >> kSiteBits, index)) + instruction.length();
      return interpret::effective_address(cpu_, operation);
    }
    if (index == 0 || at.enterable) break;
  }
  return cpu_.generated.x87.data;
}

}  // namespace limen::soft::translate
