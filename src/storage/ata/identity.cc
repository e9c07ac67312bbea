#include "storage/ata/identity.h"

#include <numeric>

namespace limen::storage::ata {

Result<> check_identity(const Identity& identity) {
  const auto check = [](const char* name, const std::string& text, size_t room) -> Result<> {
    if (text.size() > room)
      return fail("{}={}: an ATA drive's has at most {} bytes, this has {}", name, text, room,
                  text.size());
    return {};
  };
  LIMEN_TRY(check("model", identity.model, 40));
  LIMEN_TRY(check("serial", identity.serial, 20));
  return check("ver", identity.firmware, 8);
}

void IdentifyData::set32(size_t word, uint32_t value) {
  words_[word] = static_cast<uint16_t>(value);
  words_[word + 1] = static_cast<uint16_t>(value >> 16);
}

void IdentifyData::set48(size_t word, uint64_t value) {
  for (size_t i = 0; i < 4; ++i) words_[word + i] = static_cast<uint16_t>(value >> 16 * i);
}

void IdentifyData::set_text(size_t word, size_t words, std::string_view text) {
  const auto at = [&](size_t i) -> unsigned {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : ' ';
  };
  for (size_t i = 0; i < words; ++i)
    words_[word + i] = static_cast<uint16_t>(at(2 * i) << 8 | at(2 * i + 1));
}

void IdentifyData::set_common(const Identity& identity, uint8_t transfer_mode) {
  set_text(10, 10, identity.serial);
  set_text(23, 4, identity.firmware);
  set_text(27, 20, identity.model);
  words_[48] = 1;       // the data port takes 32 bits
  words_[49] = 0x0F00;  // IORDY, which can be disabled, LBA and DMA
  words_[51] = words_[52] = 0x0200;
  words_[53] = 7;  // words 54-58, 64-70 and 88 are valid
  // The mode of each kind that was chosen, in the high byte.
  const auto chosen = [&](uint8_t kind) -> uint16_t {
    return static_cast<uint16_t>((transfer_mode & 0xF8) == kind ? 0x100 << (transfer_mode & 7) : 0);
  };
  words_[63] = static_cast<uint16_t>(0x07 | chosen(0x20));
  words_[64] = 3;  // PIO modes 3 and 4
  words_[65] = words_[66] = words_[67] = words_[68] = 120;
  words_[80] = 0x01F0;  // ATA/ATAPI-4 to ATA8-ACS
  words_[81] = 0x0016;
  words_[88] = static_cast<uint16_t>(0x3F | chosen(0x40));
  if (identity.serial_ata) {
    words_[76] = 0x0006;   // 1.5 and 3 Gb/s
    words_[222] = 0x101F;  // SATA to 2.5
  } else {
    words_[93] = 0x6001;  // a cable of 80 wires
    words_[222] = 0x0020;
  }
  if (identity.wwn != 0) {
    words_[84] |= 0x0100;
    words_[87] |= 0x0100;
    for (size_t i = 0; i < 4; ++i)
      words_[108 + i] = static_cast<uint16_t>(identity.wwn >> (48 - 16 * i));
  }
}

std::vector<uint8_t> IdentifyData::bytes() const {
  std::vector<uint8_t> bytes(512);
  for (size_t i = 0; i < words_.size(); ++i) {
    bytes[2 * i] = static_cast<uint8_t>(words_[i]);
    bytes[2 * i + 1] = static_cast<uint8_t>(words_[i] >> 8);
  }
  bytes[510] = 0xA5;
  bytes[511] = static_cast<uint8_t>(-std::accumulate(bytes.begin(), bytes.end() - 1, 0));
  return bytes;
}

}  // namespace limen::storage::ata
