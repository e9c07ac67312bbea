// Locks over ranges of the disk: requests that change where a cluster is stored keep out all others
// of that cluster; those that only read or overwrite in place go on together.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>

namespace limen::block::qcow2 {

class RangeLock {
  struct Entry {
    uint64_t first, last;
    bool exclusive;
  };

 public:
  class Guard {
   public:
    Guard(RangeLock& owner, std::list<Entry>::iterator entry) : owner_(&owner), entry_(entry) {}
    ~Guard() { owner_->release(entry_); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    RangeLock* owner_;
    std::list<Entry>::iterator entry_;
  };

  /// Waits for those who came earlier and are in the way. A thread holds one at a time.
  [[nodiscard]] Guard hold(uint64_t first, uint64_t last, bool exclusive) {
    std::unique_lock lock(mutex_);
    const auto entry = entries_.insert(entries_.end(), {first, last, exclusive});
    if (!free(entry)) {
      ++waiting_;
      released_.wait(lock, [&] { return free(entry); });
      --waiting_;
    }
    return {*this, entry};
  }

 private:
  bool free(std::list<Entry>::iterator entry) const {
    for (auto other = entries_.begin(); other != std::list<Entry>::const_iterator(entry); ++other)
      if ((other->exclusive || entry->exclusive) && other->first <= entry->last &&
          entry->first <= other->last)
        return false;
    return true;
  }
  void release(std::list<Entry>::iterator entry) {
    const std::lock_guard lock(mutex_);
    entries_.erase(entry);
    if (waiting_ != 0) released_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable released_;
  std::list<Entry> entries_;  // guarded by mutex_; in the order of arrival
  unsigned waiting_ = 0;      // guarded by mutex_
};

}  // namespace limen::block::qcow2
