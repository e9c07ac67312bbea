// INQUIRY, MODE SENSE and MODE SELECT of any logical unit.
#include <algorithm>

#include "block/scsi/logical_unit.h"

namespace limen::block::scsi {
namespace {

constexpr uint8_t kSupportedPages = 0x00, kSerialNumberPage = 0x80, kIdentificationPage = 0x83;
constexpr uint8_t kAllPages = 0x3F, kAllSubpages = 0xFF;
constexpr size_t kMostParameters = 4096;
constexpr Sense kSavingNotSupported = {5, 0x39, 0};

void put_text(uint8_t* to, size_t room, const std::string& text) {
  for (size_t i = 0; i < room; ++i) to[i] = i < text.size() ? static_cast<uint8_t>(text[i]) : ' ';
}

}  // namespace

Result<> check_identity(const Identity& identity) {
  const auto check = [](const char* name, const std::string& text, size_t room) -> Result<> {
    if (text.size() > room)
      return fail("{}={}: at most {} bytes, this has {}", name, text, room, text.size());
    return {};
  };
  LIMEN_TRY(check("vendor", identity.vendor, 8));
  LIMEN_TRY(check("product", identity.product, 16));
  LIMEN_TRY(check("ver", identity.revision, 4));
  LIMEN_TRY(check("serial", identity.serial, 36));
  return check("device_id", identity.device_id, 200);
}

std::vector<uint8_t> LogicalUnit::standard_inquiry() const {
  std::vector<uint8_t> bytes(96);
  bytes[0] = device_type();
  bytes[1] = settings_.removable ? 0x80 : 0;
  bytes[2] = 5;     // SPC-3
  bytes[3] = 0x12;  // hierarchical addressing, response data format 2
  bytes[4] = static_cast<uint8_t>(bytes.size() - 5);
  bytes[7] = 0x02;  // commands are queued
  put_text(&bytes[8], 8, settings_.identity.vendor);
  put_text(&bytes[16], 16, settings_.identity.product);
  put_text(&bytes[32], 4, settings_.identity.revision);
  return bytes;
}

LogicalUnit::Reply LogicalUnit::inquiry(const Command& command) {
  const uint8_t flags = command.cdb[1], page = command.cdb[2];
  if ((flags & 0x02) != 0) return std::unexpected(sense::kInvalidFieldInCdb);  // CMDDT is obsolete
  if ((flags & 0x01) == 0) {
    if (page != 0) return std::unexpected(sense::kInvalidFieldInCdb);
    return standard_inquiry();
  }
  auto content = product_data(page);
  if (!content) return std::unexpected(sense::kInvalidFieldInCdb);
  std::vector<uint8_t> bytes = {device_type(), page, 0, 0};
  put_be<2>(&bytes[2], content->size());
  bytes.insert(bytes.end(), content->begin(), content->end());
  return bytes;
}

std::optional<std::vector<uint8_t>> LogicalUnit::product_data(uint8_t page) {
  const auto& identity = settings_.identity;
  switch (page) {
    case kSupportedPages: {
      std::vector<uint8_t> pages = {kSupportedPages};
      if (!identity.serial.empty()) pages.push_back(kSerialNumberPage);
      pages.push_back(kIdentificationPage);
      const auto own = own_pages();
      pages.insert(pages.end(), own.begin(), own.end());
      return pages;
    }
    case kSerialNumberPage:
      if (identity.serial.empty()) return std::nullopt;
      return std::vector<uint8_t>(identity.serial.begin(), identity.serial.end());
    case kIdentificationPage: {
      std::vector<uint8_t> bytes;
      const auto& name = identity.device_id.empty() ? identity.serial : identity.device_id;
      if (!name.empty()) {
        // ASCII, vendor specific, of the logical unit (SPC-4 7.8.5).
        bytes = {0x02, 0x00, 0x00, static_cast<uint8_t>(name.size())};
        bytes.insert(bytes.end(), name.begin(), name.end());
      }
      if (identity.wwn != 0) {
        bytes.insert(bytes.end(), {0x01, 0x03, 0x00, 8});  // binary, NAA
        bytes.resize(bytes.size() + 8);
        put_be<8>(&bytes[bytes.size() - 8], identity.wwn);
      }
      return bytes;
    }
    default:
      return own_page(page);
  }
}

LogicalUnit::Reply LogicalUnit::mode_sense(const Command& command, bool long_form) {
  const auto& cdb = command.cdb;
  const uint8_t control = cdb[2] >> 6, page = cdb[2] & 0x3F, subpage = cdb[3];
  constexpr uint8_t kChangeable = 1, kSaved = 3;
  if (control == kSaved) return std::unexpected(kSavingNotSupported);
  if (subpage != 0 && subpage != kAllSubpages) return std::unexpected(sense::kInvalidFieldInCdb);
  const bool changeable = control == kChangeable;

  // Disks describe their blocks; DBD leaves that out (SPC-4 6.11).
  std::vector<uint8_t> descriptor;
  if (device_type() == 0 && (cdb[1] & 0x08) == 0) {
    descriptor.resize(8);
    const uint64_t count = blocks();
    put_be<4>(&descriptor[0], count > UINT32_MAX ? UINT32_MAX : count);
    put_be<3>(&descriptor[5], settings_.block_size);
    if (count <= 0xFF'FFFF) descriptor[0] = 0;  // the density code's byte
  }
  std::vector<uint8_t> pages;
  if (page == kAllPages) {
    for (const uint8_t each : mode_pages()) {
      const auto bytes = mode_page(each, changeable);
      if (bytes) pages.insert(pages.end(), bytes->begin(), bytes->end());
    }
  } else {
    const auto bytes = mode_page(page, changeable);
    if (!bytes) return std::unexpected(sense::kInvalidFieldInCdb);
    pages = *bytes;
  }
  // Write-protected; for disks also: DPO and FUA are there (SBC-3 6.4.1).
  uint8_t specific = 0;
  if (device_type() == 0) {
    specific = 0x10;
    if (medium_ != nullptr && medium_->read_only()) specific |= 0x80;
  }
  std::vector<uint8_t> bytes(long_form ? 8 : 4);
  const size_t length = bytes.size() + descriptor.size() + pages.size();
  if (long_form) {
    put_be<2>(&bytes[0], length - 2);
    bytes[3] = specific;
    put_be<2>(&bytes[6], descriptor.size());
  } else {
    bytes[0] = static_cast<uint8_t>(length - 1);
    bytes[2] = specific;
    bytes[3] = static_cast<uint8_t>(descriptor.size());
  }
  bytes.insert(bytes.end(), descriptor.begin(), descriptor.end());
  bytes.insert(bytes.end(), pages.begin(), pages.end());
  return bytes;
}

Sense LogicalUnit::mode_select(Command& command, bool long_form) {
  const auto& cdb = command.cdb;
  const uint64_t length = long_form ? get_be<2>(&cdb[7]) : cdb[4];
  // Pages as SPC has them, and not saved.
  if ((cdb[1] & 0x11) != 0x10) return sense::kInvalidFieldInCdb;
  if (length == 0) return sense::kNone;
  std::vector<uint8_t> bytes(std::min<uint64_t>({length, command.out_bytes, kMostParameters}));
  bytes.resize(copy_from(command.data_out, bytes));
  const size_t header = long_form ? 8 : 4;
  if (bytes.size() < length || bytes.size() < header) return sense::kParameterListLength;
  const size_t descriptors = long_form ? get_be<2>(&bytes[6]) : bytes[3];
  if (descriptors > bytes.size() - header) return sense::kParameterListLength;
  const std::span<const uint8_t> all(bytes);
  if (descriptors != 0) {
    // Blocks stay as they are.
    if (descriptors != 8) return sense::kInvalidFieldInParameters;
    const uint64_t size = get_be<3>(&bytes[header + 5]);
    if (size != 0 && size != settings_.block_size) return sense::kInvalidFieldInParameters;
  }
  return select_pages(all.subspan(header + descriptors));
}

Sense LogicalUnit::select_pages(std::span<const uint8_t> pages) {
  // All are looked at before the first is taken.
  for (const bool take : {false, true}) {
    for (auto left = pages; !left.empty();) {
      if (left.size() < 2) return sense::kParameterListLength;
      const uint8_t page = left[0] & 0x3F;
      const size_t length = 2 + size_t{left[1]};
      if ((left[0] & 0x40) != 0) return sense::kInvalidFieldInParameters;  // subpages
      if (length > left.size()) return sense::kParameterListLength;
      const auto now = mode_page(page, false);
      const auto mask = mode_page(page, true);
      if (!now || !mask || now->size() != length) return sense::kInvalidFieldInParameters;
      for (size_t i = 2; i < length; ++i)
        if (((left[i] ^ (*now)[i]) & ~(*mask)[i]) != 0) return sense::kInvalidFieldInParameters;
      if (take) select_mode_page(page, left.first(length));
      left = left.subspan(length);
    }
  }
  return sense::kNone;
}

}  // namespace limen::block::scsi
