#include "boot/smbios.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <numeric>
#include <string_view>

#include "boot/little_endian.h"

namespace limen::boot::smbios {
namespace {

using Bytes = std::vector<std::byte>;

/// One structure (6.1.2): fields, and behind them the strings that fields refer to by number.
class Structure {
 public:
  Structure(uint8_t type, uint16_t handle) {
    append(bytes_, type);
    append(bytes_, uint8_t{0});
    append(bytes_, handle);
  }
  template <typename T>
  Structure& number(T value) {
    append(bytes_, value);
    return *this;
  }
  Structure& text(const std::string& value) {
    if (value.empty()) return number(uint8_t{0});
    strings_.push_back(value);
    return number(static_cast<uint8_t>(strings_.size()));
  }
  Structure& bytes(std::span<const std::byte> value) {
    bytes_.insert(bytes_.end(), value.begin(), value.end());
    return *this;
  }
  void listed(const std::string& value) { strings_.push_back(value); }
  void finish(Bytes& into) {
    bytes_[1] = static_cast<std::byte>(bytes_.size());
    into.insert(into.end(), bytes_.begin(), bytes_.end());
    for (const auto& each : strings_) {
      for (const char c : each) into.push_back(static_cast<std::byte>(c));
      into.push_back(std::byte{0});
    }
    if (strings_.empty()) into.push_back(std::byte{0});
    into.push_back(std::byte{0});
  }

 private:
  Bytes bytes_;
  std::vector<std::string> strings_;
};

/// The first three fields little-endian (7.2.1).
std::array<std::byte, 16> uuid_bytes(const std::string& text) {
  std::array<std::byte, 16> bytes{};
  constexpr std::array<size_t, 16> kPlaces = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
  std::string digits;
  std::ranges::copy_if(text, std::back_inserter(digits), [](char c) { return c != '-'; });
  for (size_t i = 0; i < kPlaces.size() && 2 * i + 2 <= digits.size(); ++i) {
    uint8_t value = 0;
    std::from_chars(digits.data() + 2 * i, digits.data() + 2 * i + 2, value, 16);
    bytes[kPlaces[i]] = static_cast<std::byte>(value);
  }
  return bytes;
}

// Handles, as QEMU numbers them.
constexpr uint16_t kBios = 0x0000, kSystem = 0x0100, kBoard = 0x0200, kChassis = 0x0300,
                   kProcessor = 0x0400, kOem = 0x0E00, kArray = 0x1000, kMemory = 0x1100,
                   kArrayMap = 0x1300, kBootStatus = 0x2000, kEnd = 0x7F00;
constexpr uint8_t kUnknown = 2, kOther = 1, kSafe = 3;

void add_processors(const Machine& machine, Bytes& out) {
  constexpr uint8_t kCentralProcessor = 3, kPopulatedEnabled = 0x41, kUpgradeOther = 1;
  constexpr uint16_t kNoCache = 0xFFFF, kFamilyOther = 1, kMegahertz = 2000;
  for (unsigned socket = 0; socket < machine.sockets; ++socket) {
    Structure processor(4, static_cast<uint16_t>(kProcessor + socket));
    const auto cores = static_cast<uint16_t>(machine.cores),
               threads = static_cast<uint16_t>(machine.cores * machine.threads);
    const auto small = [](uint16_t value) {
      return static_cast<uint8_t>(std::min<uint16_t>(value, 255));
    };
    processor.text("CPU " + std::to_string(socket))
        .number(kCentralProcessor)
        .number(static_cast<uint8_t>(kFamilyOther))
        .text(machine.identity.processor_manufacturer)
        .number(machine.cpu_signature)
        .number(machine.cpu_features)
        .text(machine.identity.processor_version)
        .number(uint8_t{0})   // voltage
        .number(uint16_t{0})  // external clock
        .number(kMegahertz)
        .number(kMegahertz)
        .number(kPopulatedEnabled)
        .number(kUpgradeOther)
        .number(kNoCache)
        .number(kNoCache)
        .number(kNoCache)
        .text("")
        .text("")
        .text("")
        .number(small(cores))
        .number(small(cores))
        .number(small(threads))
        .number(uint16_t{2})  // characteristics: unknown
        .number(kFamilyOther)
        .number(cores)
        .number(cores)
        .number(threads);
    processor.finish(out);
  }
}

void add_memory(const Machine& machine, Bytes& out) {
  constexpr uint64_t kPart = uint64_t{16} << 30, kKibibyte = 1024, kMebibyte = uint64_t{1} << 20;
  constexpr uint64_t kFourGib = uint64_t{1} << 32;
  const auto parts = static_cast<uint16_t>((machine.memory_bytes + kPart - 1) / kPart);
  Structure array(16, kArray);
  constexpr uint8_t kNoCorrection = 6, kSystemMemory = 3;
  const uint64_t kibibytes = machine.memory_bytes / kKibibyte;
  const bool extended = kibibytes >= 0x8000'0000;
  array.number(kOther)
      .number(kSystemMemory)
      .number(kNoCorrection)
      .number(extended ? uint32_t{0x8000'0000} : static_cast<uint32_t>(kibibytes))
      .number(uint16_t{0xFFFE})  // no error information
      .number(parts)
      .number(extended ? machine.memory_bytes : uint64_t{0});
  array.finish(out);
  for (uint16_t i = 0; i < parts; ++i) {
    constexpr uint8_t kDimm = 9, kRam = 7;
    constexpr uint16_t kDetails = 2, kLarge = 0x7FFF;
    const uint64_t size = std::min(kPart, machine.memory_bytes - i * kPart);
    const uint64_t mebibytes = size / kMebibyte;
    Structure part(17, static_cast<uint16_t>(kMemory + i));
    part.number(kArray)
        .number(uint16_t{0xFFFE})
        .number(uint16_t{0xFFFF})  // widths: unknown
        .number(uint16_t{0xFFFF})
        .number(mebibytes >= kLarge ? kLarge : static_cast<uint16_t>(mebibytes))
        .number(kDimm)
        .number(uint8_t{0})
        .text("DIMM " + std::to_string(i))
        .text("")
        .number(kRam)
        .number(kDetails)
        .number(uint16_t{0})
        .text(machine.identity.chassis_manufacturer)
        .text("")
        .text("")
        .text("")
        .number(uint8_t{0})
        .number(mebibytes >= kLarge ? static_cast<uint32_t>(mebibytes) : uint32_t{0})
        .number(uint16_t{0})
        .number(uint16_t{0})
        .number(uint16_t{0})
        .number(uint16_t{0});
    part.finish(out);
  }
  auto map = [&, n = uint16_t{0}](uint64_t start, uint64_t size) mutable {
    if (size == 0) return;
    Structure place(19, static_cast<uint16_t>(kArrayMap + n++));
    const bool small = (start + size) / kKibibyte <= UINT32_MAX;
    place.number(small ? static_cast<uint32_t>(start / kKibibyte) : UINT32_MAX)
        .number(small ? static_cast<uint32_t>((start + size) / kKibibyte - 1) : UINT32_MAX)
        .number(kArray)
        .number(uint8_t{1})
        .number(small ? uint64_t{0} : start)
        .number(small ? uint64_t{0} : start + size - 1);
    place.finish(out);
  };
  map(0, machine.low_memory_bytes);
  map(kFourGib, machine.memory_bytes - machine.low_memory_bytes);
}

}  // namespace

Tables build(const Machine& machine) {
  const auto& id = machine.identity;
  Bytes out;
  if (!id.bios_vendor.empty() || !id.bios_version.empty() || !id.bios_date.empty()) {
    constexpr uint64_t kCharacteristicsNotSupported = 1u << 3;
    constexpr uint8_t kVirtualMachine = 1u << 4, kTargetedContent = 1u << 2;
    Structure bios(0, kBios);
    bios.text(id.bios_vendor)
        .text(id.bios_version)
        .number(uint16_t{0xE800})
        .text(id.bios_date)
        .number(uint8_t{0})
        .number(kCharacteristicsNotSupported)
        .number(uint8_t{0})
        .number(static_cast<uint8_t>(kTargetedContent | kVirtualMachine))
        .number(uint8_t{0})
        .number(uint8_t{0})
        .number(uint8_t{0xFF})
        .number(uint8_t{0xFF});
    bios.finish(out);
  }
  constexpr uint8_t kPowerSwitch = 6;
  Structure system(1, kSystem);
  system.text(id.manufacturer)
      .text(id.product)
      .text(id.version)
      .text(id.serial)
      .bytes(uuid_bytes(id.uuid))
      .number(kPowerSwitch)
      .text(id.sku)
      .text(id.family);
  system.finish(out);
  if (!id.board_manufacturer.empty() || !id.board_product.empty() || !id.board_version.empty() ||
      !id.board_serial.empty() || !id.board_asset.empty()) {
    constexpr uint8_t kHosting = 1, kMotherboard = 10;
    Structure board(2, kBoard);
    board.text(id.board_manufacturer)
        .text(id.board_product)
        .text(id.board_version)
        .text(id.board_serial)
        .text(id.board_asset)
        .number(kHosting)
        .text("")
        .number(kChassis)
        .number(kMotherboard)
        .number(uint8_t{0});
    board.finish(out);
  }
  Structure chassis(3, kChassis);
  chassis.text(id.chassis_manufacturer)
      .number(kOther)
      .text(id.chassis_version)
      .text(id.chassis_serial)
      .text(id.chassis_asset)
      .number(kSafe)
      .number(kSafe)
      .number(kSafe)
      .number(kUnknown)
      .number(uint32_t{0})
      .number(uint8_t{0})
      .number(uint8_t{0})
      .number(uint8_t{0})
      .number(uint8_t{0})
      .text(id.chassis_sku);
  chassis.finish(out);
  add_processors(machine, out);
  if (!id.oem_strings.empty()) {
    Structure oem(11, kOem);
    oem.number(static_cast<uint8_t>(id.oem_strings.size()));
    for (const auto& each : id.oem_strings) oem.listed(each);
    oem.finish(out);
  }
  add_memory(machine, out);
  Structure status(32, kBootStatus);
  status.bytes(std::array<std::byte, 7>{});  // six reserved, then: no errors
  status.finish(out);
  Structure(127, kEnd).finish(out);

  Tables tables{.structures = std::move(out), .anchor = {}};
  auto& anchor = tables.anchor;
  for (const char c : std::string_view("_SM3_")) anchor.push_back(static_cast<std::byte>(c));
  append(anchor, uint8_t{0});   // checksum
  append(anchor, uint8_t{24});  // length
  append(anchor, uint8_t{3});   // version 3.0
  append(anchor, uint8_t{0});
  append(anchor, uint8_t{0});
  append(anchor, uint8_t{1});  // revision of this anchor
  append(anchor, uint8_t{0});
  append(anchor, static_cast<uint32_t>(tables.structures.size()));
  append(anchor, uint64_t{0});
  const unsigned sum =
      std::accumulate(anchor.begin(), anchor.end(), 0u,
                      [](unsigned total, std::byte b) { return total + static_cast<unsigned>(b); });
  anchor[5] = static_cast<std::byte>(0u - sum);
  return tables;
}

}  // namespace limen::boot::smbios
