// Who a drive says it is, and the words of IDENTIFY data that say it (ATA8-ACS 7.16).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace limen::storage::ata {

struct Identity {
  std::string model = {};         ///< At most 40 bytes.
  std::string serial = {};        ///< At most 20.
  std::string firmware = "2.5+";  ///< At most 8.
  uint64_t wwn = 0;               ///< 0: none.
  bool serial_ata = false;        ///< The host is AHCI, and may queue commands.
};
Result<> check_identity(const Identity& identity);

/// 256 words, and the way to fill them.
class IdentifyData {
 public:
  uint16_t& operator[](size_t word) { return words_[word]; }
  void set32(size_t word, uint32_t value);
  void set48(size_t word, uint64_t value);
  /// Padded with spaces, the first of two characters in the high byte.
  void set_text(size_t word, size_t words, std::string_view text);
  /// The words that all drives have: texts, transfer modes, the bus.
  void set_common(const Identity& identity, uint8_t transfer_mode);
  /// As bytes, with the checksum at the end.
  [[nodiscard]] std::vector<uint8_t> bytes() const;

 private:
  std::array<uint16_t, 256> words_ = {};
};

}  // namespace limen::storage::ata
