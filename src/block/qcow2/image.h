// A qcow2 image, version 2 or 3, as a layer of a backing chain.
//
// Any thread may read and write. Where a cluster is stored is looked up and changed under one lock;
// the disk's bytes are read and written outside it. RangeLock keeps a request that changes where a
// cluster is stored away from others of the same cluster.
//
// At each moment, what is in the file is an image that can be opened and has all that was flushed:
// write_back() writes refcounts first, then L2 tables, then L1 entries, with a flush between them;
// clusters that are no longer used stay counted until what pointed to them is written. What can be
// lost by a crash is room: clusters that are counted and not used.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "block/file_layer.h"
#include "block/layer.h"
#include "block/qcow2/header.h"
#include "block/qcow2/range_lock.h"
#include "block/qcow2/refcounts.h"
#include "block/qcow2/slice_cache.h"
#include "block/qcow2/snapshot_table.h"

namespace limen::block::qcow2 {

enum class Kind : uint8_t { kUnallocated, kZero, kData, kCompressed };

/// An L2 entry; `bitmap` with extended entries only.
struct L2Entry {
  uint64_t entry = 0;
  uint64_t bitmap = 0;
  bool operator==(const L2Entry&) const = default;
};

struct ImageOptions {
  bool read_only = false;
  bool discard_unmap = true;  ///< Clusters that become free are holes in the file.
  bool check_only = false;    ///< Dirty or corrupt is no reason to refuse, and nothing is repaired.
  size_t l2_cache_bytes = size_t{32} << 20;
  size_t refcount_cache_bytes = size_t{4} << 20;
};

class Image final : public Layer {
 public:
  /// `data`: the external data file, if the header has one. `backing` may come later.
  static Result<std::unique_ptr<Image>> open(std::unique_ptr<FileLayer> file,
                                             std::unique_ptr<FileLayer> data,
                                             const ImageOptions& options);
  /// Reads what parse_header() needs.
  static Result<Header> read_header(FileLayer& file);
  ~Image() override;

  void set_backing(std::unique_ptr<Layer> backing) { backing_ = std::move(backing); }
  /// For those who write the backing layer themselves: commit.
  [[nodiscard]] std::unique_ptr<Layer> take_backing() { return std::move(backing_); }

  [[nodiscard]] uint64_t size() const override { return size_; }
  [[nodiscard]] bool read_only() const override { return options_.read_only; }
  [[nodiscard]] const std::string& path() const override { return file_->path(); }
  [[nodiscard]] std::string format() const override { return "qcow2"; }
  [[nodiscard]] int read(uint64_t offset, std::span<const iovec> buffers) override;
  [[nodiscard]] int write(uint64_t offset, std::span<const iovec> buffers) override;
  [[nodiscard]] int write_zeroes(uint64_t offset, uint64_t length, bool may_unmap) override;
  [[nodiscard]] int discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] int flush() override;
  [[nodiscard]] Result<Extent> extent(uint64_t offset, uint64_t length) override;
  [[nodiscard]] Layer* backing() const override { return backing_.get(); }

  /// One whole cluster (the disk's last one may be shorter), compressed; empty when that would not
  /// make it smaller. Changes nothing.
  [[nodiscard]] std::vector<std::byte> pack_cluster(std::span<const std::byte> bytes) const;
  /// Stores what pack_cluster() gave.
  [[nodiscard]] int write_packed(uint64_t offset, std::span<const std::byte> packed);
  /// As never written: the backing layer shows through.
  [[nodiscard]] int forget(uint64_t offset, uint64_t length);

  // Changes to the image as a whole: no other request may be under way.

  Result<> resize(uint64_t size);
  /// Gives every cluster from `offset` on its place in the file, which reads as zeroes; with
  /// `take_room` the file system's room for it too, with `write` as bytes that are written.
  Result<> preallocate(uint64_t offset, bool take_room, bool write);
  /// Rewrites the backing file's name and format in the header; "" for none.
  Result<> change_backing(const std::string& file, const std::string& format);
  [[nodiscard]] const std::vector<Snapshot>& snapshots() const { return snapshots_; }
  Result<> create_snapshot(const std::string& name);
  Result<> apply_snapshot(const std::string& name);
  Result<> delete_snapshot(const std::string& name);
  /// From now on the image shows the snapshot, for reading.
  Result<> show_snapshot(const std::string& name);
  /// As if nothing was ever written (commit).
  Result<> make_empty();

  [[nodiscard]] const Header& header() const { return header_; }
  [[nodiscard]] FileLayer& file() { return *file_; }
  /// The file that has the disk's bytes.
  [[nodiscard]] const std::string& data_path() const { return data_.path(); }
  [[nodiscard]] bool dirty() const { return (header_.incompatible & kDirty) != 0; }
  [[nodiscard]] bool corrupt() const { return (header_.incompatible & kCorrupt) != 0; }

 private:
  friend class Checker;

  /// How a run of bytes is stored.
  struct Run {
    Kind kind = Kind::kUnallocated;
    uint64_t length = 0;
    uint64_t host_offset = 0;  ///< kData; kZero with `host`.
    bool host = false;         ///< There is a place in the file.
    L2Entry entry = {};        ///< kCompressed.
  };
  /// What happens to one cluster of a write.
  struct Step {
    uint64_t guest = 0;  ///< Of the cluster's first byte.
    uint64_t first = 0;  ///< Of the written bytes within it.
    uint64_t last = 0;   ///< One past them.
    L2Entry old = {};
    L2Entry fresh = {};
    uint64_t host = 0;  ///< Where the cluster is to be.
    bool allocated = false;
    bool changes = false;  ///< `fresh` is to be stored.
  };
  struct Free {
    uint64_t cluster;
    uint64_t count;
    bool discard;
  };

  Image(std::unique_ptr<FileLayer> file, std::unique_ptr<FileLayer> data, Header header,
        const ImageOptions& options);
  Result<> load();
  Result<> load_l1();
  void note_metadata();

  // mapping.cc; metadata_ is held
  [[nodiscard]] int l2_table(uint64_t guest, uint64_t& offset, bool& copied);
  [[nodiscard]] int load_entry(uint64_t guest, L2Entry& entry);
  [[nodiscard]] int store_entry(uint64_t guest, const L2Entry& entry);
  [[nodiscard]] int make_table_writable(uint64_t guest);
  [[nodiscard]] int check_entry(uint64_t guest, const L2Entry& entry);
  [[nodiscard]] int find_run(uint64_t guest, uint64_t length, Run& run);
  [[nodiscard]] bool has_host(const L2Entry& entry) const;
  [[nodiscard]] bool is_compressed(const L2Entry& entry) const {
    return (entry.entry & kCompressedEntry) != 0;
  }
  [[nodiscard]] Kind kind_of(const L2Entry& entry, unsigned subcluster) const;
  [[nodiscard]] uint64_t compressed_offset(const L2Entry& entry) const;
  [[nodiscard]] uint64_t compressed_size(const L2Entry& entry) const;
  [[nodiscard]] const char* metadata_at(uint64_t offset) const;
  [[nodiscard]] unsigned subcluster_of(uint64_t guest) const {
    return static_cast<unsigned>(guest % cluster_size_ / subcluster_size_);
  }
  [[nodiscard]] unsigned subclusters() const { return header_.extended() ? kSubclusters : 1; }

  // read.cc
  [[nodiscard]] int read_locked(uint64_t offset, std::span<const iovec> buffers);
  [[nodiscard]] int read_compressed(const L2Entry& entry, std::span<std::byte> cluster);
  [[nodiscard]] int read_part_of_compressed(const L2Entry& entry, uint64_t within,
                                            std::span<const iovec> buffers);

  // write.cc
  [[nodiscard]] int begin_write();
  [[nodiscard]] int write_in_place(uint64_t offset, std::span<const iovec> buffers, bool& done);
  [[nodiscard]] int write_changing(uint64_t offset, std::span<const iovec> buffers);
  [[nodiscard]] int plan_write(uint64_t offset, uint64_t length, std::vector<Step>& steps);
  [[nodiscard]] int plan_step(Step& step);
  [[nodiscard]] int allocate_steps(std::vector<Step>& steps);
  [[nodiscard]] int fill_around(const Step& step);
  [[nodiscard]] int copy_old(const Step& step, uint64_t from, uint64_t to);
  [[nodiscard]] int write_steps(const std::vector<Step>& steps, uint64_t offset,
                                std::span<const iovec> buffers);
  [[nodiscard]] int finish_write(const std::vector<Step>& steps);
  void abandon(const std::vector<Step>& steps);
  void free_entry(const L2Entry& entry, bool discard);
  /// Runs `work` until it no longer gives EAGAIN, with a longer refcount table each time.
  template <typename Work>
  [[nodiscard]] int growing(Work work) {
    while (true) {
      const int error = work();
      if (error != EAGAIN) return error;
      if (const int failed = grow_refcount_table(); failed != 0) return failed;
    }
  }
  [[nodiscard]] int grow_refcount_table();

  // zero.cc
  enum class Erase : uint8_t { kDiscard, kZeroKeep, kZeroUnmap, kForget };
  [[nodiscard]] int erase_clusters(uint64_t offset, uint64_t length, Erase how);
  [[nodiscard]] int erase_cluster(uint64_t guest, Erase how);
  [[nodiscard]] int zero_subclusters(uint64_t offset, uint64_t length);
  [[nodiscard]] int write_zero_bytes(uint64_t offset, uint64_t length);

  // write_back.cc
  [[nodiscard]] int write_back(bool last);
  [[nodiscard]] int settle_frees(const std::vector<Free>& frees);
  [[nodiscard]] int relieve();
  int mark_corrupt(const std::string& message);
  [[nodiscard]] int write_features();
  Result<> close();

  // snapshots.cc
  Result<size_t> find_snapshot(const std::string& name) const;
  Result<std::vector<uint64_t>> read_l1(uint64_t offset, uint64_t entries);
  Result<> count_references(std::vector<uint64_t>& l1, int delta, bool active);
  Result<> store_snapshots(std::vector<Snapshot> snapshots);
  Result<> replace_l1(std::vector<uint64_t> l1, uint64_t size);
  Result<uint64_t> store_table(std::span<const std::byte> bytes);
  Result<> begin_rearranging();
  Result<> end_rearranging();

  const std::unique_ptr<FileLayer> file_;
  const std::unique_ptr<FileLayer> data_file_;
  FileLayer& data_;  ///< Where the disk's bytes are.
  std::unique_ptr<Layer> backing_;
  const ImageOptions options_;
  Header header_;
  const uint64_t cluster_size_;
  const uint64_t subcluster_size_;
  const uint64_t slice_size_;
  std::atomic<uint64_t> size_;
  std::atomic<bool> broken_ = false;  ///< Found corrupt: no more writes.
  bool closed_ = false;
  bool snapshot_shown_ = false;

  RangeLock ranges_;
  std::mutex write_back_mutex_;  // before metadata_
  std::atomic<uint64_t> write_backs_begun_ = 0;
  uint64_t write_backs_done_ =
      0;  // guarded by write_back_mutex_: number of the last that succeeded
  std::mutex metadata_;
  // guarded by metadata_ from here on
  Refcounts refcounts_;
  SliceCache l2_cache_;
  std::vector<uint64_t> l1_;
  std::set<uint64_t> dirty_l1_;               // indices
  std::unordered_set<uint64_t> l2_clusters_;  // cluster numbers of the active L2 tables
  std::vector<Free> frees_;
  std::vector<Snapshot> snapshots_;
  uint64_t snapshots_bytes_ = 0;
  uint64_t known_file_size_ = 0;
  bool marked_dirty_ = false;

  std::mutex decompressed_mutex_;
  uint64_t decompressed_entry_ = 0;      // guarded by decompressed_mutex_
  std::vector<std::byte> decompressed_;  // guarded by decompressed_mutex_
};

}  // namespace limen::block::qcow2
