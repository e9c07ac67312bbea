// The way of the x87 state from the host's registers back to Cpu::vector.
#include "soft/translate/x87_state.h"

#include "soft/interpret/native/host.h"
#include "soft/interpret/native/image.h"
#include "soft/translate/translator.h"

namespace limen::soft::translate {

using namespace interpret::native;  // NOLINT(google-build-using-namespace): offsets in the image

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
  std::memcpy(state.fxsave.data(), x87.area.legacy.data(), kOpcodeAt);
  std::memcpy(state.fxsave.data() + kStackAt, x87.area.legacy.data() + kStackAt, 128);
  if (x87.site == 0) return;
  const bool pending = (image_field<uint16_t>(state, kStatusWordAt) & kErrorSummary) != 0;
  const HostFeatures& host = host_features();
  set_image_field(state, kInstructionPointerAt, quick_rip(x87.site));
  if (host.notes_x87_data || pending) set_image_field(state, kDataPointerAt, x87.data);
  if (host.notes_x87_opcode || pending) set_image_field(state, kOpcodeAt, x87_opcode_at(x87.site));
}

/// FOP for the instruction as the guest wrote it (SDM Vol. 1 8.1.9).
uint16_t Translator::x87_opcode_at(uint32_t site) const {
  const Block& block = block_of_site(site);
  const Home& home = blocks_.home(block.home);
  const auto byte_at = [&](size_t offset) {
    return static_cast<uint8_t>(
        cpu_.ram.page_data(home.ram_pages[offset >> 12 & 1])[offset & kPageOffset]);
  };
  size_t at = site_at(block, site_index(site)).offset;
  const size_t end = at + decode::kMaxInstructionLength;
  while (at < end && (byte_at(at) & 0xF8) != 0xD8) ++at;  // prefixes
  return static_cast<uint16_t>((byte_at(at) & 7) << 8 | byte_at(at + 1));
}

}  // namespace limen::soft::translate
