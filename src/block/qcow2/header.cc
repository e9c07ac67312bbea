#include "block/qcow2/header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace limen::block::qcow2 {
namespace {

enum FeatureKind : uint8_t { kIncompatibleKind = 0, kCompatibleKind = 1, kAutoclearKind = 2 };
struct FeatureName {
  FeatureKind kind;
  uint8_t bit;
  std::string_view name;
};
constexpr size_t kFeatureNameSize = 48;  // kind, bit, 46 bytes of name

constexpr std::array<FeatureName, 8> kFeatureNames = {{
    {kIncompatibleKind, 0, "dirty bit"},
    {kIncompatibleKind, 1, "corrupt bit"},
    {kIncompatibleKind, 2, "external data file"},
    {kIncompatibleKind, 3, "compression type"},
    {kIncompatibleKind, 4, "extended L2 entries"},
    {kCompatibleKind, 0, "lazy refcounts"},
    {kAutoclearKind, 0, "bitmaps"},
    {kAutoclearKind, 1, "raw external data"},
}};

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The names of the incompatible features in `unknown`, as the image's own table has them.
std::string name_features(uint64_t unknown, std::span<const std::byte> table) {
  std::string names;
  for (unsigned bit = 0; bit < 64; ++bit) {
    if ((unknown >> bit & 1) == 0) continue;
    std::string name;
    for (size_t at = 0; at + kFeatureNameSize <= table.size(); at += kFeatureNameSize) {
      if (table[at] != std::byte{kIncompatibleKind} || table[at + 1] != std::byte(bit)) continue;
      name = text_of(table.subspan(at + 2, kFeatureNameSize - 2));
      name.resize(std::min(name.find('\0'), name.size()));
    }
    if (name.empty()) name = fmt::format("Unknown incompatible feature: {:x}", uint64_t{1} << bit);
    names += (names.empty() ? "" : ", ") + name;
  }
  return names;
}

struct Extensions {
  std::vector<std::byte> feature_table;
  bool encryption = false;
};

Result<Extensions> parse_extensions(std::span<const std::byte> start, uint64_t end, Header& header,
                                    const std::string& path) {
  Extensions found;
  uint64_t at = header.header_length;
  end = std::min<uint64_t>(end, start.size());
  while (at + 8 <= end) {
    const auto type = load_big<uint32_t>(&start[at]);
    const auto length = load_big<uint32_t>(&start[at + 4]);
    at += 8;
    if (type == kEndExtension) break;
    if (length > end - at)
      return fail("image '{}': header extension {:#x} of {} bytes is too large", path, type,
                  length);
    const auto data = start.subspan(at, length);
    switch (type) {
      case kBackingFormatExtension:
        if (length > 15)
          return fail("image '{}': the name of the backing format has {} bytes, at most 15 may be",
                      path, length);
        header.backing_format = text_of(data);
        break;
      case kFeatureNameExtension:
        found.feature_table.assign(data.begin(), data.end());
        break;
      case kDataFileExtension:
        header.data_file = text_of(data);
        break;
      case kEncryptionExtension:
        found.encryption = true;
        [[fallthrough]];
      default:
        header.extensions.push_back({type, {data.begin(), data.end()}});
        break;
    }
    at += round_up(length, 8);
  }
  return found;
}

Result<> check_tables(const Header& header, const std::string& path) {
  const uint64_t cluster = header.cluster_size();
  if (header.l1_size > kLargestL1 / 8)
    return fail("image '{}': active L1 table of {} entries is too large", path, header.l1_size);
  if (header.l1_size < header.l1_entries_for(header.size))
    return fail("image '{}': L1 table is too small: {} entries for a disk of {} bytes", path,
                header.l1_size, header.size);
  if (header.l1_offset % cluster != 0 || header.l1_offset > INT64_MAX)
    return fail("image '{}': active L1 table offset {:#x} is invalid", path, header.l1_offset);
  if (header.refcount_table_clusters == 0)
    return fail("image '{}' does not contain a reference count table", path);
  if (header.refcount_table_clusters > kLargestRefcountTable / cluster)
    return fail("image '{}': reference count table of {} clusters is too large", path,
                header.refcount_table_clusters);
  if (header.refcount_table_offset % cluster != 0 || header.refcount_table_offset > INT64_MAX ||
      header.refcount_table_offset == 0)
    return fail("image '{}': reference count table offset {:#x} is invalid", path,
                header.refcount_table_offset);
  if (header.snapshot_count > kMostSnapshots || header.snapshots_offset % cluster != 0 ||
      header.snapshots_offset > INT64_MAX)
    return fail("image '{}': snapshot table of {} entries at {:#x} is invalid", path,
                header.snapshot_count, header.snapshots_offset);
  return {};
}

Result<> parse_version_3(std::span<const std::byte> start, Header& header,
                         const std::string& path) {
  if (start.size() < kVersion3HeaderSize)
    return fail("image '{}': header is too short: {} bytes", path, start.size());
  header.incompatible = load_big<uint64_t>(&start[72]);
  header.compatible = load_big<uint64_t>(&start[80]);
  header.autoclear = load_big<uint64_t>(&start[88]);
  header.refcount_order = load_big<uint32_t>(&start[96]);
  header.header_length = load_big<uint32_t>(&start[100]);
  if (header.header_length < kVersion3HeaderSize)
    return fail("image '{}': qcow2 header too short: {} bytes", path, header.header_length);
  if (header.header_length > header.cluster_size() || header.header_length > start.size())
    return fail("image '{}': qcow2 header of {} bytes exceeds cluster size", path,
                header.header_length);
  if (header.refcount_order > kLargestRefcountOrder)
    return fail(
        "image '{}': reference count entry width of 2^{} bits is too large; may not exceed 64 bits",
        path, header.refcount_order);
  return {};
}

Result<> check_compression(std::span<const std::byte> start, Header& header,
                           const std::string& path) {
  const auto type = header.version >= 3 && header.header_length > kVersion3HeaderSize
                        ? std::to_integer<uint8_t>(start[104])
                        : uint8_t{0};
  if (type > 1) return fail("image '{}': unknown compression type: {}", path, type);
  header.compression = static_cast<Compression>(type);
  if ((type != 0) != ((header.incompatible & kCompressionType) != 0))
    return fail("image '{}': compression type {} does not fit the incompatible feature bit {}",
                path, type, (header.incompatible & kCompressionType) != 0 ? 1 : 0);
  return {};
}

void append(std::vector<std::byte>& out, uint32_t type, std::span<const std::byte> data) {
  const size_t at = out.size();
  out.resize(at + 8 + static_cast<size_t>(round_up(data.size(), 8)));
  store_big(&out[at], type);
  store_big(&out[at + 4], static_cast<uint32_t>(data.size()));
  std::ranges::copy(data, out.begin() + static_cast<ptrdiff_t>(at) + 8);
}

std::vector<std::byte> feature_table() {
  std::vector<std::byte> table(kFeatureNames.size() * kFeatureNameSize);
  std::byte* at = table.data();
  for (const auto& feature : kFeatureNames) {
    at[0] = std::byte{feature.kind};
    at[1] = std::byte{feature.bit};
    std::memcpy(at + 2, feature.name.data(), feature.name.size());
    at += kFeatureNameSize;
  }
  return table;
}

}  // namespace

Result<Header> parse_header(std::span<const std::byte> start, const std::string& path) {
  if (start.size() < kVersion2HeaderSize || load_big<uint32_t>(start.data()) != kMagic)
    return fail("Could not open '{}': Image is not in qcow2 format", path);
  Header header;
  header.version = load_big<uint32_t>(&start[4]);
  if (header.version < 2 || header.version > 3)
    return fail("image '{}': unsupported qcow2 version {}", path, header.version);
  const auto backing_offset = load_big<uint64_t>(&start[8]);
  const auto backing_size = load_big<uint32_t>(&start[16]);
  header.cluster_bits = load_big<uint32_t>(&start[20]);
  if (header.cluster_bits < kSmallestClusterBits || header.cluster_bits > kLargestClusterBits)
    return fail("image '{}': unsupported cluster size: 2^{}", path, header.cluster_bits);
  header.size = load_big<uint64_t>(&start[24]);
  const auto encryption = load_big<uint32_t>(&start[32]);
  header.l1_size = load_big<uint32_t>(&start[36]);
  header.l1_offset = load_big<uint64_t>(&start[40]);
  header.refcount_table_offset = load_big<uint64_t>(&start[48]);
  header.refcount_table_clusters = load_big<uint32_t>(&start[56]);
  header.snapshot_count = load_big<uint32_t>(&start[60]);
  header.snapshots_offset = load_big<uint64_t>(&start[64]);
  header.header_length = kVersion2HeaderSize;
  if (header.version >= 3) LIMEN_TRY(parse_version_3(start, header, path));
  if (backing_offset > header.cluster_size())
    return fail("image '{}': invalid backing file offset {:#x}", path, backing_offset);

  const uint64_t extensions_end = backing_offset != 0 ? backing_offset : header.cluster_size();
  const auto found = LIMEN_TRY(parse_extensions(start, extensions_end, header, path));
  if (const uint64_t unknown = header.incompatible & ~kKnownIncompatible; unknown != 0)
    return fail("image '{}': unsupported qcow2 feature(s): {}", path,
                name_features(unknown, found.feature_table));
  if (encryption != 0 || found.encryption)
    return fail("image '{}' is encrypted ({}): encrypted images are not supported", path,
                encryption == 2 || (encryption == 0 && found.encryption) ? "LUKS"
                : encryption == 1                                        ? "AES"
                                                                         : "unknown method");
  LIMEN_TRY(check_compression(start, header, path));
  if (header.extended() && header.cluster_bits < 14)
    return fail(
        "image '{}': extended L2 entries are only supported with cluster sizes of at least 16384 "
        "bytes, it has {}",
        path, header.cluster_size());
  if (header.size > uint64_t{INT64_MAX} - header.cluster_size())
    return fail("image '{}': a disk of {} bytes is too large", path, header.size);
  LIMEN_TRY(check_tables(header, path));
  if (backing_offset != 0) {
    if (backing_size > kLargestBackingName ||
        backing_size > header.cluster_size() - backing_offset ||
        backing_offset + backing_size > start.size())
      return fail("image '{}': backing file name too long: {} bytes", path, backing_size);
    header.backing_file = text_of(start.subspan(backing_offset, backing_size));
  }
  if (header.has_data_file() && header.data_file.empty())
    return fail("image '{}': 'data-file' is required for this image, its name is missing", path);
  return header;
}

Result<std::vector<std::byte>> serialize_header(const Header& header) {
  const bool version_3 = header.version >= 3;
  std::vector<std::byte> out(version_3 ? kOwnHeaderSize : kVersion2HeaderSize);
  store_big(&out[0], kMagic);
  store_big(&out[4], header.version);
  store_big(&out[20], header.cluster_bits);
  store_big(&out[24], header.size);
  store_big(&out[36], header.l1_size);
  store_big(&out[40], header.l1_offset);
  store_big(&out[48], header.refcount_table_offset);
  store_big(&out[56], header.refcount_table_clusters);
  store_big(&out[60], header.snapshot_count);
  store_big(&out[64], header.snapshots_offset);
  if (version_3) {
    store_big(&out[72], header.incompatible);
    store_big(&out[80], header.compatible);
    store_big(&out[88], header.autoclear);
    store_big(&out[96], header.refcount_order);
    store_big(&out[100], kOwnHeaderSize);
    out[104] = std::byte{static_cast<uint8_t>(header.compression)};
  }
  const auto add_text = [&out](uint32_t type, const std::string& text) {
    if (!text.empty()) append(out, type, std::as_bytes(std::span(text)));
  };
  add_text(kBackingFormatExtension, header.backing_format);
  add_text(kDataFileExtension, header.data_file);
  for (const auto& extension : header.extensions) append(out, extension.type, extension.data);
  // Names for those who do not know a feature: where there is room for them.
  if (version_3) {
    const auto table = feature_table();
    if (out.size() + 8 + table.size() + 8 + header.backing_file.size() <= header.cluster_size())
      append(out, kFeatureNameExtension, table);
  }
  append(out, kEndExtension, {});
  if (!header.backing_file.empty()) {
    store_big(&out[8], uint64_t{out.size()});
    store_big(&out[16], static_cast<uint32_t>(header.backing_file.size()));
    const auto name = std::as_bytes(std::span(header.backing_file));
    out.insert(out.end(), name.begin(), name.end());
  }
  if (out.size() > header.cluster_size())
    return fail("the header of {} bytes does not fit a cluster of {} bytes", out.size(),
                header.cluster_size());
  out.resize(header.cluster_size());
  return out;
}

}  // namespace limen::block::qcow2
