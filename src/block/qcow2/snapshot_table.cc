#include "block/qcow2/snapshot_table.h"

#include <algorithm>

namespace limen::block::qcow2 {
namespace {

constexpr uint64_t kFixedSize = 40;
constexpr uint32_t kOwnExtra = 24;     // VM state size, disk size, instruction count
constexpr uint32_t kMostExtra = 1024;  // as QEMU

}  // namespace

Result<std::vector<Snapshot>> parse_snapshots(std::span<const std::byte> bytes, uint32_t count,
                                              const Header& header, const std::string& path,
                                              uint64_t& used) {
  std::vector<Snapshot> snapshots;
  uint64_t at = 0;
  const auto short_table = [&](uint32_t index) {
    return fail("image '{}': snapshot table entry {} is cut off", path, index);
  };
  for (uint32_t i = 0; i < count; ++i) {
    at = round_up(at, 8);
    if (at + kFixedSize > bytes.size()) return short_table(i);
    const std::byte* const entry = &bytes[at];
    Snapshot snapshot;
    snapshot.l1_offset = load_big<uint64_t>(entry);
    snapshot.l1_size = load_big<uint32_t>(entry + 8);
    const auto id_size = load_big<uint16_t>(entry + 12);
    const auto name_size = load_big<uint16_t>(entry + 14);
    snapshot.date_seconds = load_big<uint32_t>(entry + 16);
    snapshot.date_nanoseconds = load_big<uint32_t>(entry + 20);
    snapshot.vm_clock_nanoseconds = load_big<uint64_t>(entry + 24);
    snapshot.vm_state_size = load_big<uint32_t>(entry + 32);
    const auto extra = load_big<uint32_t>(entry + 36);
    if (extra > kMostExtra)
      return fail("image '{}': too much extra metadata in snapshot table entry {}: {} bytes", path,
                  i, extra);
    at += kFixedSize;
    if (at + extra + id_size + name_size > bytes.size()) return short_table(i);
    snapshot.disk_size = header.size;
    if (extra >= 8) snapshot.vm_state_size = load_big<uint64_t>(&bytes[at]);
    if (extra >= 16) snapshot.disk_size = load_big<uint64_t>(&bytes[at + 8]);
    if (extra >= 24) snapshot.icount = load_big<uint64_t>(&bytes[at + 16]);
    if (extra > kOwnExtra)
      snapshot.unknown_extra.assign(bytes.begin() + static_cast<ptrdiff_t>(at) + kOwnExtra,
                                    bytes.begin() + static_cast<ptrdiff_t>(at) + extra);
    at += extra;
    const auto take_text = [&](uint16_t size) {
      std::string text(reinterpret_cast<const char*>(&bytes[0]) + at, size);
      at += size;
      return text;
    };
    snapshot.id = take_text(id_size);
    snapshot.name = take_text(name_size);
    if (snapshot.l1_offset % header.cluster_size() != 0 || snapshot.l1_size > kLargestL1 / 8)
      return fail("image '{}': snapshot '{}' has an L1 table of {} entries at {:#x}, which is invalid",
                  path, snapshot.name, snapshot.l1_size, snapshot.l1_offset);
    snapshots.push_back(std::move(snapshot));
  }
  used = at;
  return snapshots;
}

std::vector<std::byte> serialize_snapshots(const std::vector<Snapshot>& snapshots) {
  std::vector<std::byte> out;
  for (const auto& snapshot : snapshots) {
    out.resize(round_up(out.size(), 8));
    const size_t at = out.size();
    out.resize(at + kFixedSize + kOwnExtra);
    std::byte* const entry = &out[at];
    store_big(entry, snapshot.l1_offset);
    store_big(entry + 8, snapshot.l1_size);
    store_big(entry + 12, static_cast<uint16_t>(snapshot.id.size()));
    store_big(entry + 14, static_cast<uint16_t>(snapshot.name.size()));
    store_big(entry + 16, snapshot.date_seconds);
    store_big(entry + 20, snapshot.date_nanoseconds);
    store_big(entry + 24, snapshot.vm_clock_nanoseconds);
    store_big(entry + 32, static_cast<uint32_t>(std::min<uint64_t>(snapshot.vm_state_size, UINT32_MAX)));
    store_big(entry + 36, static_cast<uint32_t>(kOwnExtra + snapshot.unknown_extra.size()));
    store_big(entry + 40, snapshot.vm_state_size);
    store_big(entry + 48, snapshot.disk_size);
    store_big(entry + 56, snapshot.icount);
    out.insert(out.end(), snapshot.unknown_extra.begin(), snapshot.unknown_extra.end());
    for (const auto& text : {snapshot.id, snapshot.name}) {
      const auto bytes = std::as_bytes(std::span(text));
      out.insert(out.end(), bytes.begin(), bytes.end());
    }
  }
  return out;
}

}  // namespace limen::block::qcow2
