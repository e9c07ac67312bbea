// What IDENTIFY and GET LOG PAGE give (NVM Express Base 1.4 §5.14, §5.15).
#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "storage/nvme/nvme.h"

namespace limen::storage {

using namespace nvme;

namespace {

constexpr size_t kPage = 4096;
constexpr uint32_t kAllNamespaces = 0xFFFF'FFFF;

template <typename T>
void put(std::vector<uint8_t>& bytes, size_t at, T value) {
  std::memcpy(&bytes.at(at), &value, sizeof value);
}

void put_text(std::vector<uint8_t>& bytes, size_t at, size_t room, std::string_view text) {
  for (size_t i = 0; i < room; ++i)
    bytes.at(at + i) = i < text.size() ? static_cast<uint8_t>(text[i]) : ' ';
}

}  // namespace

std::vector<uint8_t> Nvme::identify_controller() const {
  std::vector<uint8_t> bytes(kPage);
  put<uint16_t>(bytes, 0, 0x1B36);
  put<uint16_t>(bytes, 2, 0x1AF4);
  put_text(bytes, 4, 20, properties_.serial);
  put_text(bytes, 24, 40, "QEMU NVMe Ctrl");
  put_text(bytes, 64, 8, "7.2.0");
  bytes[72] = 6;
  bytes[73] = 0x00;  // the vendor's OUI, 52-54-00
  bytes[74] = 0x54;
  bytes[75] = 0x52;
  bytes[77] = properties_.largest_transfer;
  put<uint32_t>(bytes, 80, 0x0001'0400);
  put<uint32_t>(bytes, 92, 1 << 8);  // tells of changed namespaces
  bytes[111] = 1;                    // an I/O controller
  bytes[258] = 3;
  bytes[259] = 3;     // four event requests
  bytes[260] = 0x03;  // one slot for firmware, read-only
  bytes[261] = 0x02;  // the log of commands
  put<uint16_t>(bytes, 266, 343);
  put<uint16_t>(bytes, 268, 373);
  bytes[512] = 0x66;
  bytes[513] = 0x44;
  put<uint32_t>(bytes, 516, 1);
  put<uint16_t>(bytes, 520, static_cast<uint16_t>(1 << 3 | (properties_.discard ? 1 << 2 : 0)));
  bytes[525] = 0x07;  // a volatile write cache, and flushes of all namespaces
  const std::string name = "nqn.2019-08.org.qemu:" + properties_.serial;
  std::ranges::copy(name, bytes.begin() + 768);
  put<uint16_t>(bytes, 2048, 0x9C4);  // 25 W
  put<uint32_t>(bytes, 2052, 16);
  put<uint32_t>(bytes, 2056, 4);
  return bytes;
}

/// The same each time for a serial number, and another for another.
uint64_t Nvme::eui64() const {
  uint64_t hash = 0xCBF2'9CE4'8422'2325;
  for (const char each : properties_.serial)
    hash = (hash ^ static_cast<uint8_t>(each)) * 0x100'0000'01B3;
  return uint64_t{0x525400} << 40 | (hash ^ hash >> 40) >> 24;
}

std::vector<uint8_t> Nvme::identify_namespace() const {
  std::vector<uint8_t> bytes(kPage);
  for (const size_t at : {size_t{0}, size_t{8}, size_t{16}}) put<uint64_t>(bytes, at, blocks());
  bytes[33] = 0x08;  // WRITE ZEROES may deallocate
  const uint64_t name = eui64();
  for (size_t i = 0; i < 8; ++i) bytes[120 + i] = static_cast<uint8_t>(name >> (56 - 8 * i));
  // Physical blocks, as what is best written at once.
  const uint32_t ratio = std::max(properties_.physical_block_size, block_bytes()) / block_bytes();
  if (ratio > 1) {
    bytes[24] = 1 << 4;
    for (const size_t at : {size_t{64}, size_t{66}, size_t{72}})
      put<uint16_t>(bytes, at, static_cast<uint16_t>(ratio - 1));
  }
  bytes[130] = static_cast<uint8_t>(std::countr_zero(block_bytes()));
  return bytes;
}

uint16_t Nvme::identify(const Command& command) {
  enum Structure : uint8_t { kNamespace, kController, kActiveNamespaces, kDescriptors };
  const uint32_t id = command.namespace_id;
  switch (static_cast<uint8_t>(command.words[0])) {
    case kNamespace:
      if (id != 1 && id != kAllNamespaces) return kInvalidNamespace;
      return give(command, identify_namespace());
    case kController:
      return give(command, identify_controller());
    case kActiveNamespaces: {
      if (id >= kAllNamespaces - 1) return kInvalidNamespace;
      std::vector<uint8_t> bytes(kPage);
      if (id == 0) bytes[0] = 1;
      return give(command, bytes);
    }
    case kDescriptors: {
      if (id != 1) return kInvalidNamespace;
      constexpr uint8_t kEui64 = 1;
      std::vector<uint8_t> bytes(kPage);
      bytes[0] = kEui64;
      bytes[1] = 8;
      for (size_t i = 0; i < 8; ++i) bytes[4 + i] = static_cast<uint8_t>(eui64() >> (56 - 8 * i));
      return give(command, bytes);
    }
    default:
      return kInvalidField;
  }
}

std::vector<uint8_t> Nvme::health() const {
  std::vector<uint8_t> bytes(512);
  put<uint16_t>(bytes, 1, 323);  // kelvins
  bytes[3] = 100;
  bytes[4] = 10;
  // Thousands of 512 bytes, rounded up.
  const auto units = [](uint64_t count) { return (count + 999) / 1000; };
  put<uint64_t>(bytes, 32, units(blocks_read_ * block_bytes() / 512));
  put<uint64_t>(bytes, 48, units(blocks_written_ * block_bytes() / 512));
  put<uint64_t>(bytes, 64, reads_);
  put<uint64_t>(bytes, 80, writes_);
  put<uint64_t>(bytes, 112, 1);
  return bytes;
}

uint16_t Nvme::get_log_page(const Command& command) {
  enum Log : uint8_t { kErrors = 1, kHealth, kFirmware, kChangedNamespaces, kEffects };
  const auto log = static_cast<uint8_t>(command.words[0]);
  const bool keep_event = (command.words[0] & 1 << 15) != 0;
  const uint64_t bytes =
      ((command.words[0] >> 16 | uint64_t{command.words[1] & 0xFFFF} << 16) + 1) * 4;
  const uint64_t offset = command.words[2] | uint64_t{command.words[3]} << 32;
  std::vector<uint8_t> page;
  constexpr uint8_t kErrorEvent = 0, kHealthEvent = 1, kNoticeEvent = 2;
  std::optional<uint8_t> event;
  switch (log) {
    case kErrors:
      page.resize(64);
      event = kErrorEvent;
      break;
    case kHealth:
      page = health();
      event = kHealthEvent;
      break;
    case kFirmware:
      page.resize(512);
      page[0] = 1;
      put_text(page, 8, 8, "7.2.0");
      break;
    case kChangedNamespaces:
      page.resize(kPage);
      page[0] = namespace_changed_ ? 1 : 0;
      namespace_changed_ = false;
      event = kNoticeEvent;
      break;
    case kEffects: {
      constexpr uint32_t kSupported = 1, kChangesContent = 2;
      page.resize(kPage);
      for (const size_t opcode : {0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0A, 0x0C})
        put(page, 4 * opcode, kSupported);
      for (const size_t opcode : {0x00, 0x02}) put(page, 1024 + 4 * opcode, kSupported);
      for (const size_t opcode : {0x01, 0x08, 0x09})
        put(page, 1024 + 4 * opcode, kSupported | kChangesContent);
      break;
    }
    default:
      return kInvalidLogPage;
  }
  if (event && !keep_event) masked_events_[*event] = false;
  if (offset % 4 != 0 || offset >= page.size()) return kInvalidField;
  const auto rest = std::span<const uint8_t>(page).subspan(static_cast<size_t>(offset));
  return give(command, rest.first(std::min<size_t>(rest.size(), static_cast<size_t>(bytes))));
}

}  // namespace limen::storage
