#include "boot/mp_table.h"

#include <algorithm>
#include <cassert>
#include <string_view>

#include "boot/little_endian.h"
#include "boot/memory_map.h"

namespace limen::boot::mp {
namespace {

using Bytes = std::vector<std::byte>;

constexpr size_t kPointerSize = 16, kHeaderSize = 44;
constexpr uint8_t kRevision = 4;  // of the specification: 1.4
constexpr uint8_t kLocalApicVersion = 0x14, kIoApicVersion = 0x20;
constexpr uint8_t kIoApicId = 0, kIsaBus = 0;
constexpr uint32_t kMostApicId = 254;

/// Types of entry (table 4-3).
enum : uint8_t { kProcessor, kBus, kIoApic, kIoInterrupt, kLocalInterrupt };
/// Types of interrupt (table 4-11).
enum : uint8_t { kInt, kNmi, kSmi, kExtInt };
/// Polarity and trigger mode (table 4-10).
constexpr uint16_t kAsTheBus = 0, kLevelActiveHigh = 0xD;

/// Section 4.3.1.
void append_processor(Bytes& table, const Board& board, uint32_t apic_id) {
  constexpr uint8_t kEnabled = 1, kBootProcessor = 2;
  append(table, uint8_t{kProcessor});
  append(table, static_cast<uint8_t>(apic_id));
  append(table, kLocalApicVersion);
  append(table,
         static_cast<uint8_t>(kEnabled | (apic_id == board.apic_ids.front() ? kBootProcessor : 0)));
  append(table, board.cpu_signature);
  append(table, board.cpu_features);
  append(table, uint64_t{0});
}

/// Sections 4.3.4 and 4.3.5, of one form: from the ISA bus to `input` of an APIC.
void append_interrupt(Bytes& table, uint8_t entry, uint8_t type, uint16_t flags, uint8_t line,
                      uint8_t apic, uint8_t input) {
  append(table, entry);
  append(table, type);
  append(table, flags);
  append(table, kIsaBus);
  append(table, line);
  append(table, apic);
  append(table, input);
}

/// All that follows the header; counts the entries.
Bytes entries(const Board& board, uint16_t& count) {
  Bytes table;
  for (const uint32_t apic_id : board.apic_ids) {
    if (apic_id > kMostApicId) continue;
    append_processor(table, board, apic_id);
    ++count;
  }
  append(table, uint8_t{kBus});  // 4.3.2
  append(table, kIsaBus);
  append_text(table, "ISA   ");
  append(table, uint8_t{kIoApic});  // 4.3.3
  append(table, kIoApicId);
  append(table, kIoApicVersion);
  append(table, uint8_t{1});  // enabled
  append(table, static_cast<uint32_t>(kIoApicBase));
  count += 2;
  constexpr uint8_t kIsaLines = 16, kCascade = 2, kTimerInput = 2;
  for (uint8_t line = 0; line < kIsaLines; ++line) {
    if (line == kCascade || (line == 0 && !board.pit)) continue;
    const bool level = std::ranges::find(board.level_lines, line) != board.level_lines.end();
    append_interrupt(table, kIoInterrupt, kInt, level ? kLevelActiveHigh : kAsTheBus, line,
                     kIoApicId, line == 0 ? kTimerInput : line);
    ++count;
  }
  if (board.pic) {
    append_interrupt(table, kLocalInterrupt, kExtInt, kAsTheBus, 0,
                     static_cast<uint8_t>(board.apic_ids.front()), 0);
    ++count;
  }
  constexpr uint8_t kEveryProcessor = 0xFF, kLint1 = 1;
  append_interrupt(table, kLocalInterrupt, kNmi, kAsTheBus, 0, kEveryProcessor, kLint1);
  ++count;
  return table;
}

}  // namespace

std::vector<std::byte> build(const Board& board) {
  assert(!board.apic_ids.empty());
  uint16_t count = 0;
  const Bytes body = entries(board, count);

  Bytes header;  // 4.2
  append_text(header, "PCMP");
  append(header, static_cast<uint16_t>(kHeaderSize + body.size()));
  append(header, kRevision);
  append(header, uint8_t{0});
  append_text(header, "LIMEN   MICROVM     ");
  append(header, uint32_t{0});  // OEM table
  append(header, uint16_t{0});
  append(header, count);
  append(header, static_cast<uint32_t>(kLocalApicBase));
  append(header, uint32_t{0});  // no extended entries
  assert(header.size() == kHeaderSize);

  Bytes bytes;  // 4.1
  append_text(bytes, "_MP_");
  append(bytes, static_cast<uint32_t>(kTableAddress + kPointerSize));
  append(bytes, uint8_t{1});  // 16-byte units
  append(bytes, kRevision);
  append(bytes, uint16_t{0});  // checksum, and no default configuration
  append(bytes, uint32_t{0});  // virtual wire mode
  bytes[10] = checksum(bytes);
  assert(bytes.size() == kPointerSize);
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), body.begin(), body.end());
  bytes[kPointerSize + 7] = checksum(std::span(bytes).subspan(kPointerSize));
  return bytes;
}

Result<> install(memory::GuestMemory& memory, const Board& board) {
  return memory.write({kTableAddress}, build(board));
}

}  // namespace limen::boot::mp
