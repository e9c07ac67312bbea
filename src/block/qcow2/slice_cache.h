// Pieces of tables (L2, refcount blocks) in memory: the least recently used go first, those that were
// changed stay until they are written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "block/file_layer.h"

namespace limen::block::qcow2 {

/// Not thread-safe: the image's lock guards it.
class SliceCache {
 public:
  struct Slice {
    uint64_t offset = 0;  ///< In the file.
    std::unique_ptr<std::byte[]> bytes;
    bool dirty = false;
    bool being_written = false;
  };
  /// What is to be written: a copy, so that writing needs no lock.
  struct Copy {
    uint64_t offset;
    std::vector<std::byte> bytes;
  };

  SliceCache(FileLayer& file, size_t slice_size, size_t most)
      : file_(file), slice_size_(slice_size), most_(most) {}

  [[nodiscard]] size_t slice_size() const { return slice_size_; }

  /// The slice at `offset`, a multiple of its size; nullptr and `error` when it cannot be read. Good
  /// until the next call.
  [[nodiscard]] Slice* get(uint64_t offset, int& error) {
    if (const auto found = slices_.find(offset); found != slices_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return &order_.front();
    }
    Slice slice{.offset = offset, .bytes = std::make_unique<std::byte[]>(slice_size_)};
    error = file_.read_bytes(offset, {slice.bytes.get(), slice_size_});
    if (error != 0) return nullptr;
    evict();
    order_.push_front(std::move(slice));
    slices_[offset] = order_.begin();
    return &order_.front();
  }
  void mark_dirty(Slice& slice) {
    if (!slice.dirty) ++dirty_;
    slice.dirty = true;
  }
  [[nodiscard]] bool any_dirty() const { return dirty_ != 0; }
  /// So many are dirty that they ought to be written soon.
  [[nodiscard]] bool crowded() const { return dirty_ > most_ * 3 / 4; }

  /// Those that are dirty. Until settle(), they stay in memory.
  [[nodiscard]] std::vector<Copy> take_dirty() {
    std::vector<Copy> taken;
    taken.reserve(dirty_);
    for (auto& slice : order_) {
      if (!slice.dirty) continue;
      slice.dirty = false;
      slice.being_written = true;
      taken.push_back({slice.offset, {slice.bytes.get(), slice.bytes.get() + slice_size_}});
    }
    dirty_ = 0;
    return taken;
  }
  /// What take_dirty() gave was written; or was not, and is dirty again.
  void settle(const std::vector<Copy>& taken, bool written) {
    for (const auto& copy : taken) {
      const auto found = slices_.find(copy.offset);
      if (found == slices_.end()) continue;
      found->second->being_written = false;
      if (!written) mark_dirty(*found->second);
    }
  }
  /// Forgets everything; nothing may be dirty.
  void clear() {
    slices_.clear();
    order_.clear();
    dirty_ = 0;
  }

 private:
  void evict() {
    if (order_.size() < most_) return;
    // A few steps only: what cannot go yet goes later.
    auto candidate = order_.end();
    for (int tries = 0; tries < 64 && candidate != order_.begin(); ++tries) {
      --candidate;
      if (candidate->dirty || candidate->being_written) continue;
      slices_.erase(candidate->offset);
      candidate = order_.erase(candidate);
      if (order_.size() < most_) return;
    }
  }

  FileLayer& file_;
  const size_t slice_size_;
  const size_t most_;
  std::list<Slice> order_;  // most recently used first
  std::unordered_map<uint64_t, std::list<Slice>::iterator> slices_;
  size_t dirty_ = 0;
};

}  // namespace limen::block::qcow2
