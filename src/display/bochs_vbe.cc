#include "display/bochs_vbe.h"

#include <algorithm>

namespace limen::display {

void BochsVbe::reset() {
  registers_ = {};
  registers_[kId] = kLastId;
  bank_start_ = 0;
}

uint16_t BochsVbe::read(uint16_t index) const {
  if (index == kMemory64K) return static_cast<uint16_t>(memory_bytes_ / kBankBytes);
  if (index >= registers_.size()) return 0;
  if ((registers_[kEnable] & kGetCapabilities) != 0) {
    if (index == kXres) return kMostWidth;
    if (index == kYres) return kMostHeight;
    if (index == kBpp) return 32;
  }
  return registers_[index];
}

uint64_t BochsVbe::write(uint16_t index, uint16_t value) {
  switch (index) {
    case kId:
      if (value >= kFirstId && value <= kLastId) registers_[kId] = value;
      return 0;
    case kXres:
    case kYres:
    case kBpp:
    case kVirtualWidth:
    case kXOffset:
    case kYOffset:
      registers_[index] = value;
      if (enabled()) make_valid();
      return 0;
    case kBank:
      if (value < memory_bytes_ / kBankBytes) {
        registers_[kBank] = value;
        bank_start_ = value * kBankBytes;
      }
      return 0;
    case kEnable: {
      const bool before = enabled();
      registers_[kEnable] = value;
      if (!enabled()) {
        registers_[kBank] = 0;
        bank_start_ = 0;
      }
      if (before || !enabled()) return 0;
      registers_[kVirtualWidth] = registers_[kXOffset] = registers_[kYOffset] = 0;
      make_valid();
      return (value & kNoClear) != 0 ? 0 : mode().pitch * height();
    }
    default:
      return 0;  // the virtual height follows from the rest
  }
}

uint64_t BochsVbe::bytes_of(uint64_t pixels) const {
  return bits() == 4 ? pixels / 2 : pixels * ((bits() + 7) / 8);
}

/// Guest-controlled: whatever was asked for, a mode that lies within the memory comes out.
void BochsVbe::make_valid() {
  const auto clamp = [](uint16_t& value, uint64_t least, uint64_t most) {
    value = static_cast<uint16_t>(std::clamp<uint64_t>(value, least, most));
  };
  auto& bpp = registers_[kBpp];
  constexpr std::array<uint16_t, 6> kDepths = {4, 8, 15, 16, 24, 32};
  if (std::ranges::find(kDepths, bpp) == kDepths.end()) bpp = 8;
  auto& width = registers_[kXres];
  auto& virtual_width = registers_[kVirtualWidth];
  clamp(width, 1, kMostWidth);
  if (bpp == 4) {  // of whole bytes
    width = static_cast<uint16_t>(std::max(width & ~7, 8));
    virtual_width = static_cast<uint16_t>(virtual_width & ~7);
  }
  clamp(virtual_width, width, UINT16_MAX & ~7);
  const uint64_t pitch = bytes_of(virtual_width);
  const uint64_t rows = std::max<uint64_t>(memory_bytes_ / pitch, 1);
  registers_[kVirtualHeight] = static_cast<uint16_t>(std::min<uint64_t>(rows, UINT16_MAX));
  clamp(registers_[kYres], 1, std::min<uint64_t>(rows, kMostHeight));
  // A place from which the picture does not fit gives way, down before across.
  const uint64_t needed = registers_[kYres] * pitch;
  auto& x = registers_[kXOffset];
  auto& y = registers_[kYOffset];
  if (bytes_of(x) + y * pitch + needed > memory_bytes_) y = 0;
  if (bytes_of(x) + needed > memory_bytes_) x = 0;
}

LinearMode BochsVbe::mode() const {
  const uint64_t pitch = bytes_of(registers_[kVirtualWidth]);
  return {.width = width(),
          .height = height(),
          .bits = bits(),
          .start = bytes_of(registers_[kXOffset]) + registers_[kYOffset] * pitch,
          .pitch = pitch};
}

}  // namespace limen::display
