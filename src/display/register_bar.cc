#include "display/register_bar.h"

namespace limen::display {
namespace {

constexpr uint64_t kVgaStart = 0x400, kVgaEnd = 0x420, kVgaFirstPort = 0x3C0;
constexpr uint64_t kVbeStart = 0x500, kVbeEnd = 0x516;
constexpr uint64_t kExtensionSize = 0x600, kExtensionByteOrder = 0x604;
constexpr uint32_t kExtensionBytes = 8;
constexpr uint32_t kLittleEndian = 0x1E1E'1E1E, kBigEndian = 0xBEBE'BEBE;

}  // namespace

RegisterBar::RegisterBar(RegisterTarget& target, const std::optional<EdidProperties>& edid)
    : target_(target) {
  if (edid) edid_ = make_edid(*edid);
}

uint64_t RegisterBar::io_read(uint64_t offset, unsigned size) {
  uint64_t value = 0;
  if (offset < kVgaStart) {
    for (unsigned i = 0; i < size; ++i)
      if (offset + i < edid_.size()) value |= uint64_t{edid_[offset + i]} << 8 * i;
  } else if (offset >= kVgaStart && offset < kVgaEnd) {
    for (unsigned i = 0; i < size && offset + i < kVgaEnd; ++i)
      value |=
          uint64_t{target_.read_vga(static_cast<uint16_t>(offset + i - kVgaStart + kVgaFirstPort))}
          << 8 * i;
  } else if (offset >= kVbeStart && offset < kVbeEnd && size >= 2 && offset % 2 == 0) {
    for (unsigned i = 0; i < size && offset + i < kVbeEnd; i += 2)
      value |= uint64_t{target_.read_vbe(static_cast<uint16_t>((offset + i - kVbeStart) / 2))}
               << 8 * i;
  } else if (offset == kExtensionSize && size >= 4) {
    value = kExtensionBytes;
  } else if (offset == kExtensionByteOrder && size >= 4) {
    value = target_.big_endian() ? kBigEndian : kLittleEndian;
  }
  return value;
}

void RegisterBar::io_write(uint64_t offset, unsigned size, uint64_t value) {
  if (offset >= kVgaStart && offset < kVgaEnd) {
    for (unsigned i = 0; i < size && offset + i < kVgaEnd; ++i)
      target_.write_vga(static_cast<uint16_t>(offset + i - kVgaStart + kVgaFirstPort),
                        static_cast<uint8_t>(value >> 8 * i));
  } else if (offset >= kVbeStart && offset < kVbeEnd && size >= 2 && offset % 2 == 0) {
    for (unsigned i = 0; i < size && offset + i < kVbeEnd; i += 2)
      target_.write_vbe(static_cast<uint16_t>((offset + i - kVbeStart) / 2),
                        static_cast<uint16_t>(value >> 8 * i));
  } else if (offset == kExtensionByteOrder && size >= 4) {
    if (static_cast<uint32_t>(value) == kBigEndian) target_.set_big_endian(true);
    if (static_cast<uint32_t>(value) == kLittleEndian) target_.set_big_endian(false);
  }
}

}  // namespace limen::display
