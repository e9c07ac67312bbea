// Guest RAM: one memfd, mapped shared, so that other processes can map the same memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "memory/huge_pages.h"
#include "x86/address.h"

namespace limen::memory {

inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint64_t kPageShift = 12;

/// A run of guest-physical addresses backed by RAM.
struct RamRegion {
  GuestPhysicalAddress start;
  uint64_t size = 0;         ///< Bytes; a multiple of kPageSize.
  uint64_t file_offset = 0;  ///< Where it begins in the memfd.
  std::byte* host = nullptr;
};

/// Memory that comes and goes in the guest-physical address space: firmware, what lies under it,
/// video memory.
struct Mapping {
  GuestPhysicalAddress start;
  uint64_t size = 0;         ///< Bytes; a multiple of kPageSize.
  uint64_t file_offset = 0;  ///< As a RamRegion's; beyond RAM in what reserve() gave.
  std::byte* host = nullptr;
  /// Otherwise what a processor writes goes to whoever claims the addresses in the IoSpace.
  bool writable = true;
};

/// Hears that the mappings changed. Called on the thread that changed them, perhaps a processor's
/// in the middle of an instruction: what is cached of them must not be used after that instruction.
class MappingListener {
 public:
  virtual ~MappingListener() = default;
  virtual void mappings_changed() = 0;
};

/// All RAM of one machine. The regions are fixed at creation, and looked up without a lock; mappings
/// come and go beside them.
class GuestMemory {
 public:
  struct Layout {
    GuestPhysicalAddress start;
    uint64_t size = 0;
  };

  /// Reserves address space for every region; pages are allocated when first touched. Fails when
  /// the total is 0, not a multiple of the page size, or more than the host can map.
  static Result<std::unique_ptr<GuestMemory>> create(std::span<const Layout> layout) {
    return create(layout, {}, true);
  }
  /// The same in a file of at least that size; invalid: a memfd. Not `shared`: what is written
  /// stays out of the file.
  static Result<std::unique_ptr<GuestMemory>> create(std::span<const Layout> layout, UniqueFd file,
                                                     bool shared);
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  [[nodiscard]] const std::vector<RamRegion>& regions() const { return regions_; }
  [[nodiscard]] int fd() const { return memfd_.get(); }
  [[nodiscard]] uint64_t size() const { return size_; }

  /// The host bytes behind [address, address + size), or an empty span if any of it is not RAM or
  /// it crosses regions. A caller that writes through the span calls note_written() afterwards.
  [[nodiscard]] std::span<std::byte> span(GuestPhysicalAddress address, uint64_t size) const;

  /// Copies; fails when any byte is outside RAM.
  Result<> read(GuestPhysicalAddress address, std::span<std::byte> into) const;
  Result<> write(GuestPhysicalAddress address, std::span<const std::byte> from);

  /// Has the host find all pages now. Fails when it has not enough.
  Result<> preallocate();

  /// Gives the memory of the whole pages in [address, address + size) back to the host; they read
  /// as zeros from then on. What is not RAM is left out. Thread-safe.
  void discard(GuestPhysicalAddress address, uint64_t size);

  /// Tells the engine that [address, address + size) was written by someone other than it (a
  /// device, a loader), so that cached decodings of that memory are dropped. Thread-safe.
  void note_written(GuestPhysicalAddress address, uint64_t size) {
    // The bytes before the look: an engine sets the mark before it reads.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const uint64_t first = page_index(address);
    const uint64_t last = page_index(address + (size ? size - 1 : 0));
    for (uint64_t page = first; page <= last && page < page_count_; ++page)
      if (has_code_[page].load(std::memory_order_relaxed)) note_code_changed(page);
  }
  /// Says that code in a page of RAM is no longer what was decoded from it. Thread-safe.
  void note_code_changed(uint64_t page) {
    code_generation_[page].fetch_add(1, std::memory_order_release);
    code_changes_.fetch_add(1, std::memory_order_release);
  }

  /// Per page of RAM: a number that grows whenever code that may have been decoded from the page
  /// changed. Valid for the life of this object; index with page_index().
  [[nodiscard]] std::atomic<uint32_t>* code_generations() { return code_generation_.get(); }
  /// Grows with every one of them.
  [[nodiscard]] uint64_t code_changes() const {
    return code_changes_.load(std::memory_order_acquire);
  }
  /// Set by an engine before it decodes from a page; never cleared.
  [[nodiscard]] std::atomic<bool>* code_page_marks() { return has_code_.get(); }

  /// Index of a page of RAM: its offset in the memfd divided by the page size. An address outside
  /// RAM gives page_count().
  [[nodiscard]] uint64_t page_index(GuestPhysicalAddress address) const {
    for (const auto& region : regions_)
      if (address.value - region.start.value < region.size)
        return (region.file_offset + (address.value - region.start.value)) >> kPageShift;
    return page_count_;
  }
  [[nodiscard]] uint64_t page_count() const { return page_count_; }
  /// The first byte of a page of RAM by its index, which is below page_count().
  [[nodiscard]] std::byte* page_data(uint64_t page) const {
    return mapping_ + (page << kPageShift);
  }

  /// Counts that a processor looked for the page, by its index. True, once, when that happened
  /// often in the 2 MiB around it, all of which are RAM: worth a huge page of the host's.
  [[nodiscard]] bool note_lookup(uint64_t page) noexcept {
    constexpr uint16_t kOften = 128;
    const uint64_t block = page / (kHugePageSize / kPageSize);
    if (block >= size_ / kHugePageSize) return false;
    auto& lookups = lookups_[block];  // that some are not counted does not matter
    const uint16_t now = lookups.load(std::memory_order_relaxed);
    if (now == kOften) return false;
    lookups.store(now + 1, std::memory_order_relaxed);
    return now + 1 == kOften;
  }

 private:
  GuestMemory() = default;

  UniqueFd memfd_;
  std::vector<RamRegion> regions_;
  uint64_t size_ = 0;
  uint64_t page_count_ = 0;
  std::byte* mapping_ = nullptr;
  bool shared_ = true;
  std::unique_ptr<std::atomic<uint32_t>[]> code_generation_;
  std::unique_ptr<std::atomic<bool>[]> has_code_;
  std::atomic<uint64_t> code_changes_ = 0;
  std::unique_ptr<std::atomic<uint16_t>[]> lookups_;  // per 2 MiB
};

}  // namespace limen::memory
