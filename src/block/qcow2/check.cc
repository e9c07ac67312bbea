#include "block/qcow2/check.h"

#include <algorithm>
#include <cerrno>

#include "block/qcow2/checker.h"

namespace limen::block::qcow2 {
namespace {

/// Clusters are counted up to here: a table may point anywhere, and a file with holes may be of any
/// size.
constexpr uint64_t kMostCounted = uint64_t{1} << 26;

}  // namespace

Result<CheckResult> Checker::run(Fix fix) {
  result_.total_clusters = divide_up(header_.size, header_.cluster_size());
  const uint64_t clusters = divide_up(image_.file_->file_size(), header_.cluster_size());
  if (clusters > kMostCounted)
    return fail("image '{}': its file has {} clusters, and {} at most can be checked",
                image_.path(), clusters, kMostCounted);
  users_.assign(clusters, 0);
  refcount_users_.assign(users_.size(), 0);
  LIMEN_TRY(count_all());
  beyond_repair_ = result_.corruptions;
  LIMEN_TRY(compare(fix));
  if (fix == Fix::kAll && result_.corruptions > beyond_repair_) {
    const uint64_t leaks = result_.leaks;
    LIMEN_TRY(rebuild());
    result_.corruptions_fixed += result_.corruptions - beyond_repair_;
    result_.corruptions = beyond_repair_;
    result_.leaks_fixed += leaks;
    result_.leaks = 0;
  }
  LIMEN_TRY(check_copied(fix == Fix::kAll));
  if (fix == Fix::kNothing) return result_;

  int error = image_.file_->flush();
  const uint64_t cleared = (result_.corruptions == 0 && fix == Fix::kAll ? kCorrupt | kDirty : 0);
  if (error == 0 && result_.check_errors == 0 && (header_.incompatible & cleared) != 0) {
    header_.incompatible &= ~cleared;
    error = image_.write_features();
  }
  if (error != 0)
    return fail_errno(error, fmt::format("writing what was repaired in image '{}'", image_.path()));
  return result_;
}

void Checker::use(uint64_t offset, uint64_t bytes, const std::string& what) {
  if (bytes == 0) return;
  const uint64_t cluster = header_.cluster_size();
  const uint64_t first = offset / cluster, last = (offset + bytes - 1) / cluster;
  for (uint64_t i = first; i <= last; ++i) {
    if (i >= users_.size()) {
      corrupt(fmt::format("{} at offset {:#x} exceeds the end of the file by one cluster or more",
                          what, i * cluster));
      return;
    }
    ++users_[i];
    if (counting_refcounts_) ++refcount_users_[i];
  }
}

Result<> Checker::count_all() {
  const uint64_t cluster = header_.cluster_size();
  use(0, cluster, "header");
  LIMEN_TRY(count_l1(header_.l1_offset, header_.l1_size, true));
  for (const auto& snapshot : image_.snapshots_) {
    if (header_.has_data_file())
      corrupt(fmt::format("snapshot {} ({}) in an image with an external data file", snapshot.id,
                          snapshot.name));
    LIMEN_TRY(count_l1(snapshot.l1_offset, snapshot.l1_size, false));
  }
  use(header_.snapshots_offset, image_.snapshots_bytes_, "snapshot table");
  LIMEN_TRY(count_bitmaps());
  counting_refcounts_ = true;
  use(header_.refcount_table_offset, header_.refcount_table_clusters * cluster, "refcount table");
  LIMEN_TRY(count_refcount_blocks());
  counting_refcounts_ = false;
  return {};
}

Result<> Checker::count_l1(uint64_t offset, uint64_t entries, bool active) {
  if (entries == 0) return {};
  if (offset >= image_.file_->file_size()) {
    corrupt(fmt::format("L1 table at offset {:#x} is beyond the end of the file", offset));
    return {};
  }
  const auto l1 = LIMEN_TRY(image_.read_l1(offset, entries));
  use(offset, entries * 8, "L1 table");
  for (size_t i = 0; i < l1.size(); ++i) {
    if (l1[i] == 0) continue;
    if ((l1[i] & kL1Reserved) != 0)
      corrupt(fmt::format("found L1 entry with reserved bits set: {:x}", l1[i] & kL1Reserved));
    const uint64_t table = l1[i] & kOffsetMask;
    if (table % header_.cluster_size() != 0) {
      corrupt(
          fmt::format("l2_offset={:x}: Table is not cluster aligned; L1 entry corrupted", table));
      continue;
    }
    if (table == 0) continue;
    use(table, header_.cluster_size(), "L2 table");
    if (table < image_.file_->file_size())
      LIMEN_TRY(count_l2(table, i * header_.l2_coverage(), active));
  }
  return {};
}

Result<> Checker::count_l2(uint64_t table, uint64_t guest, bool active) {
  std::vector<std::byte> raw(header_.cluster_size());
  if (const int error = image_.file_->read_bytes(table, raw); error != 0) {
    ++result_.check_errors;
    return {};
  }
  std::ignore = guest;
  uint64_t next = 0;
  const uint64_t step = header_.l2_entry_size();
  const auto before = result_;
  for (uint64_t i = 0; i < header_.l2_entries(); ++i) {
    L2Entry entry{.entry = load_big<uint64_t>(&raw[i * step])};
    if (header_.extended()) entry.bitmap = load_big<uint64_t>(&raw[i * step + 8]);
    if (entry.entry == 0 && entry.bitmap == 0) continue;
    count_entry(entry, table, i, next);
  }
  if (!active) {
    result_.allocated_clusters = before.allocated_clusters;
    result_.fragmented_clusters = before.fragmented_clusters;
    result_.compressed_clusters = before.compressed_clusters;
  }
  return {};
}

void Checker::count_entry(const L2Entry& entry, uint64_t table, uint64_t index, uint64_t& next) {
  if (image_.is_compressed(entry)) {
    if ((entry.entry & kCopied) != 0)
      corrupt(fmt::format("coffset={:#x}: copied flag must never be set for compressed clusters",
                          image_.compressed_offset(entry)));
    if (header_.has_data_file())
      corrupt(fmt::format("compressed cluster {:#x} in an image with an external data file",
                          entry.entry));
    if (header_.extended() && entry.bitmap != 0)
      corrupt(fmt::format("compressed cluster {:#x} with subclusters {:#x}", entry.entry,
                          entry.bitmap));
    use(image_.compressed_offset(entry), image_.compressed_size(entry), "compressed cluster");
    ++result_.allocated_clusters;
    ++result_.compressed_clusters;
    ++result_.fragmented_clusters;
    return;
  }
  if (header_.extended() && ((entry.bitmap >> 32) & entry.bitmap & UINT32_MAX) != 0)
    corrupt(
        fmt::format("offset={:x}: invalid subcluster bitmap {:#x} (L2 table {:#x}, index {:#x})",
                    entry.entry & kOffsetMask, entry.bitmap, table, index));
  if (!image_.has_host(entry)) {
    if (header_.extended() && (entry.bitmap & UINT32_MAX) != 0)
      corrupt(
          fmt::format("allocated subclusters {:#x} without a cluster (L2 table {:#x}, index {:#x})",
                      entry.bitmap, table, index));
    return;
  }
  const uint64_t host = entry.entry & kOffsetMask;
  if (host % header_.cluster_size() != 0) {
    corrupt(fmt::format("offset={:x}: Cluster is not properly aligned; L2 entry corrupted", host));
    return;
  }
  ++result_.allocated_clusters;
  if (next != 0 && host != next) ++result_.fragmented_clusters;
  next = host + header_.cluster_size();
  if (header_.has_data_file()) return;
  // A zero cluster's place may be beyond the end of the file.
  const bool reads_it = header_.extended() ? (entry.bitmap & UINT32_MAX) != 0
                                           : image_.kind_of(entry, 0) == Kind::kData;
  if (!reads_it && host / header_.cluster_size() >= users_.size() &&
      host / header_.cluster_size() < kMostCounted) {
    users_.resize(host / header_.cluster_size() + 1);
    refcount_users_.resize(users_.size());
  }
  use(host, header_.cluster_size(), "data cluster");
}

Result<> Checker::count_refcount_blocks() {
  const auto& table = image_.refcounts_.table();
  for (size_t i = 0; i < table.size(); ++i) {
    if (table[i] == 0) continue;
    if (table[i] % header_.cluster_size() != 0) {
      corrupt(fmt::format(
          "refcount block {} is not cluster aligned; refcount table entry corrupted", i));
      continue;
    }
    if (table[i] / header_.cluster_size() >= users_.size()) {
      corrupt(fmt::format("refcount block {} is outside image", i));
      continue;
    }
    use(table[i], header_.cluster_size(), "refcount block");
    if (refcount_users_[table[i] / header_.cluster_size()] > 1)
      corrupt(fmt::format("refcount block {} refcount={}", i,
                          refcount_users_[table[i] / header_.cluster_size()]));
  }
  return {};
}

Result<> Checker::count_bitmaps() {
  const auto found = std::ranges::find(header_.extensions, kBitmapsExtension, &Extension::type);
  if (found == header_.extensions.end() || (header_.autoclear & kBitmaps) == 0) return {};
  if (found->data.size() < 24) {
    corrupt(fmt::format("bitmaps extension of {} bytes", found->data.size()));
    return {};
  }
  const auto count = load_big<uint32_t>(found->data.data());
  const auto size = load_big<uint64_t>(&found->data[8]);
  const auto offset = load_big<uint64_t>(&found->data[16]);
  if (size > uint64_t{64} << 20) {
    corrupt(fmt::format("bitmap directory of {} bytes", size));
    return {};
  }
  use(offset, size, "bitmap directory");
  std::vector<std::byte> directory(size);
  if (image_.file_->read_bytes(offset, directory) != 0) ++result_.check_errors;
  uint64_t at = 0;
  for (uint32_t i = 0; i < count && at + 24 <= size; ++i) {
    const auto table_offset = load_big<uint64_t>(&directory[at]);
    const auto entries = load_big<uint32_t>(&directory[at + 8]);
    const auto name_size = load_big<uint16_t>(&directory[at + 18]);
    const auto extra = load_big<uint32_t>(&directory[at + 20]);
    at = round_up(at + 24 + name_size + extra, 8);
    if (entries > (1u << 24)) {
      corrupt(fmt::format("bitmap {} with {} entries", i, entries));
      continue;
    }
    use(table_offset, uint64_t{entries} * 8, "bitmap table");
    std::vector<std::byte> table(uint64_t{entries} * 8);
    if (image_.file_->read_bytes(table_offset, table) != 0) ++result_.check_errors;
    for (uint32_t j = 0; j < entries; ++j)
      if (const uint64_t data = load_big<uint64_t>(&table[j * size_t{8}]) & kOffsetMask; data != 0)
        use(data, header_.cluster_size(), "bitmap");
  }
  return {};
}

Result<> Checker::compare(Fix fix) {
  auto& refcounts = image_.refcounts_;
  uint64_t highest = 0;
  for (uint64_t i = 0; i < users_.size(); ++i) {
    uint64_t refcount = 0;
    if (const int error = refcounts.get(i, refcount); error != 0) {
      ++result_.check_errors;
      report_(fmt::format("Can't get refcount for cluster {}: {}", i, strerror(error)));
      i += refcounts.block_entries() - 1 - i % refcounts.block_entries();
      continue;
    }
    const uint64_t users = users_[i];
    if (refcount != 0 || users != 0) highest = i + 1;
    if (refcount == users) continue;
    const bool leak = refcount > users;
    const bool fixing = leak ? fix != Fix::kNothing : fix == Fix::kAll;
    report_(fmt::format("{} cluster {} refcount={} reference={}",
                        fixing ? "Repairing"
                        : leak ? "Leaked"
                               : "ERROR",
                        i, refcount, users));
    if (leak && fixing) {
      if (const int error = refcounts.set(i, users); error != 0)
        return fail_errno(error, fmt::format("releasing cluster {}", i));
      ++result_.leaks_fixed;
      if (users == 0 && image_.options_.discard_unmap)
        std::ignore = image_.file_->discard(i * header_.cluster_size(), header_.cluster_size());
    } else {
      ++(leak ? result_.leaks : result_.corruptions);
    }
  }
  result_.image_end_offset = highest * header_.cluster_size();
  const auto changed = refcounts.cache().take_dirty();
  for (const auto& copy : changed)
    if (const int error = image_.file_->write_bytes(copy.offset, copy.bytes); error != 0)
      return fail_errno(error, fmt::format("writing refcounts of image '{}'", image_.path()));
  refcounts.cache().settle(changed, true);
  return {};
}

Result<bool> Checker::copied_is_wrong(uint64_t entry, const std::string& what, bool fix) {
  uint64_t refcount = 1;
  const uint64_t offset = entry & kOffsetMask;
  if (const int error = image_.refcounts_.get(offset / header_.cluster_size(), refcount);
      error != 0)
    return false;
  if ((refcount == 1) == ((entry & kCopied) != 0)) return false;
  report_(fmt::format("{} OFLAG_COPIED {}: entry={:x} refcount={}", fix ? "Repairing" : "ERROR",
                      what, entry, refcount));
  ++(fix ? result_.corruptions_fixed : result_.corruptions);
  return true;
}

Result<> Checker::check_copied(bool fix) {
  const auto l1 = LIMEN_TRY(image_.read_l1(header_.l1_offset, header_.l1_size));
  for (size_t i = 0; i < l1.size(); ++i) {
    const uint64_t table = l1[i] & kOffsetMask;
    if (table == 0 || table % header_.cluster_size() != 0 || table >= image_.file_->file_size())
      continue;
    if (LIMEN_TRY(copied_is_wrong(l1[i], fmt::format("L2 cluster: l1_index={}", i), fix)) && fix) {
      std::byte field[8];
      store_big(field, l1[i] ^ kCopied);
      if (const int error = image_.file_->write_bytes(header_.l1_offset + 8 * i, field); error != 0)
        return fail_errno(error, "writing an L1 entry");
      image_.l1_[i] = l1[i] ^ kCopied;
    }
    LIMEN_TRY(check_copied_table(table, fix));
  }
  return {};
}

Result<> Checker::check_copied_table(uint64_t table, bool fix) {
  std::vector<std::byte> raw(header_.cluster_size());
  if (image_.file_->read_bytes(table, raw) != 0) return {};
  bool changed = false;
  for (uint64_t i = 0; i < header_.l2_entries(); ++i) {
    std::byte* const at = &raw[i * header_.l2_entry_size()];
    const L2Entry entry{.entry = load_big<uint64_t>(at)};
    if (!image_.has_host(entry) || header_.has_data_file()) continue;
    if ((entry.entry & kOffsetMask) % header_.cluster_size() != 0) continue;
    if (!LIMEN_TRY(copied_is_wrong(entry.entry, "data cluster", fix)) || !fix) continue;
    store_big(at, entry.entry ^ kCopied);
    changed = true;
  }
  if (changed)
    if (const int error = image_.file_->write_bytes(table, raw); error != 0)
      return fail_errno(error, "writing an L2 table");
  return {};
}

Result<> Checker::rebuild() {
  const uint64_t cluster = header_.cluster_size();
  const uint64_t per_block = image_.refcounts_.block_entries();
  for (size_t i = 0; i < users_.size(); ++i) users_[i] -= refcount_users_[i];
  // Blocks for all of the file and for the new table behind it.
  const uint64_t start = users_.size();
  uint64_t end = start, blocks = 0, table_clusters = 0;
  while (true) {
    blocks = divide_up(end, per_block);
    table_clusters = std::max<uint64_t>(divide_up(blocks * 8, cluster), 1);
    if (end >= start + blocks + table_clusters) break;
    end = start + blocks + table_clusters;
  }
  users_.resize(end, 0);
  std::fill(users_.begin() + static_cast<ptrdiff_t>(start), users_.end(), 1u);
  const auto fail_write = [this](int error) {
    return fail_errno(error, fmt::format("writing new refcounts of image '{}'", image_.path()));
  };
  std::vector<std::byte> table(table_clusters * cluster), block(cluster);
  for (uint64_t i = 0; i < blocks; ++i) {
    std::ranges::fill(block, std::byte{0});
    for (uint64_t j = 0; j < per_block && i * per_block + j < users_.size(); ++j)
      store_refcount(block.data(), j, header_.refcount_order, users_[i * per_block + j]);
    const uint64_t offset = (start + i) * cluster;
    store_big(&table[8 * i], offset);
    if (const int error = image_.file_->write_bytes(offset, block); error != 0)
      return fail_write(error);
  }
  const uint64_t table_offset = (start + blocks) * cluster;
  int error = image_.file_->write_bytes(table_offset, table);
  if (error == 0) error = image_.file_->flush();
  std::byte field[12];
  store_big(field, table_offset);
  store_big(field + 8, static_cast<uint32_t>(table_clusters));
  if (error == 0) error = image_.file_->write_bytes(48, field);
  if (error == 0) error = image_.file_->flush();
  if (error != 0) return fail_write(error);
  header_.refcount_table_offset = table_offset;
  header_.refcount_table_clusters = static_cast<uint32_t>(table_clusters);
  result_.image_end_offset = end * cluster;
  if (const int failed = image_.refcounts_.load(); failed != 0) return fail_write(failed);
  return {};
}

Result<CheckResult> check(Image& image, Fix fix,
                          const std::function<void(const std::string&)>& report) {
  return Checker(image, report).run(fix);
}

Result<> repair(Image& image) {
  const auto result = LIMEN_TRY(Checker(image, [](const std::string&) {}).run(Fix::kAll));
  if (result.corruptions != 0 || result.check_errors != 0)
    return fail("qcow2: could not repair dirty image '{}': {} errors are left", image.path(),
                result.corruptions + result.check_errors);
  return {};
}

}  // namespace limen::block::qcow2
