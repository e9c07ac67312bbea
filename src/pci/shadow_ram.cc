#include "pci/shadow_ram.h"

#include <cstring>

namespace limen::pci {
namespace {

constexpr uint64_t kSmallSegment = 0x4000, kLargeSegment = 0x1'0000;
constexpr uint64_t kLargeSegmentStart = 0x3'0000;  // F0000h

}  // namespace

ShadowRam::ShadowRam(memory::GuestMemory& memory, memory::IoSpace& mmio, std::span<std::byte> ram,
                     std::span<std::byte> bios)
    : memory_(memory), mmio_(mmio), ram_(ram), bios_(bios) {
  states_.fill(kUnknown);
  mmio_.claim(kStart, kSize, *this, "BIOS area");
}

ShadowRam::~ShadowRam() {
  mmio_.release(kStart, *this);
  for (unsigned i = 0; i < kSegments; ++i)
    if (states_[i] != kUnknown)
      if (const auto bytes = shown(segment(i), states_[i]); !bytes.empty())
        memory_.unmap({kStart + segment(i).start}, bytes);
}

ShadowRam::Segment ShadowRam::segment(unsigned index) {
  if (index == kSegments - 1) return {kLargeSegmentStart, kLargeSegment};
  return {index * kSmallSegment, kSmallSegment};
}

std::span<std::byte> ShadowRam::shown(const Segment& segment, uint8_t state) const {
  if ((state & kRead) != 0) return ram_.subspan(segment.start, segment.size);
  constexpr uint64_t kBiosStart = kSize - kBiosSize;
  if (bios_.empty() || segment.start < kBiosStart) return {};
  return bios_.subspan(segment.start - kBiosStart, segment.size);
}

void ShadowRam::set_registers(const std::array<uint8_t, kRegisters>& pam) {
  const std::lock_guard lock(mutex_);
  for (unsigned i = 0; i < kSegments; ++i) {
    const unsigned nibble = i == kSegments - 1 ? pam[0] >> 4 : pam[1 + i / 2] >> (4 * (i % 2));
    const auto state = static_cast<uint8_t>(nibble & (kRead | kWrite));
    if (state == states_[i]) continue;
    const auto place = segment(i);
    const GuestPhysicalAddress start{kStart + place.start};
    const auto before = states_[i] == kUnknown ? std::span<std::byte>{} : shown(place, states_[i]);
    const auto after = shown(place, state);
    if (!before.empty()) memory_.unmap(start, before);
    if (!after.empty()) memory_.map(start, after, state == (kRead | kWrite));
    states_[i] = state;
  }
}

uint64_t ShadowRam::io_read(uint64_t, unsigned) { return ~uint64_t{0}; }

void ShadowRam::io_write(uint64_t offset, unsigned size, uint64_t value) {
  const auto index =
      static_cast<unsigned>(offset >= kLargeSegmentStart ? kSegments - 1 : offset / kSmallSegment);
  const std::lock_guard lock(mutex_);
  if (states_[index] == kUnknown || (states_[index] & kWrite) == 0) return;
  std::memcpy(ram_.data() + offset, &value, size);
  // Code may be decoded from there by its place in the file, which no address shows now.
  const auto at = static_cast<uint64_t>(ram_.data() + offset - memory_.file_bytes(0, 0).data());
  memory_.note_code_changed(at >> memory::kPageShift);
}

}  // namespace limen::pci
