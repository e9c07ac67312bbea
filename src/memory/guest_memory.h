// Guest RAM: one memfd, mapped shared, so that other processes can map the same memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
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

/// All RAM of one machine. The regions are fixed at creation, and looked up without a lock;
/// mappings come and go beside them.
class GuestMemory {
 public:
  struct Layout {
    GuestPhysicalAddress start;
    uint64_t size = 0;
    uint64_t skip = 0;  ///< Bytes of the file between the region before and this one.
  };

  /// Reserves address space for every region; pages are allocated when first touched. Fails when
  /// the total is 0, not a multiple of the page size, or more than the host can map.
  static Result<std::unique_ptr<GuestMemory>> create(std::span<const Layout> layout) {
    return create(layout, {}, true);
  }
  /// The same in a file of at least that size; invalid: a memfd. Not `shared`: what is written
  /// stays out of the file. `beside`: bytes that reserve() has to give.
  static Result<std::unique_ptr<GuestMemory>> create(std::span<const Layout> layout, UniqueFd file,
                                                     bool shared, uint64_t beside = 0);
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  [[nodiscard]] const std::vector<RamRegion>& regions() const { return regions_; }
  [[nodiscard]] int fd() const { return memfd_.get(); }
  [[nodiscard]] uint64_t size() const { return size_; }

  /// Memory of its own beside RAM, zeroed, for a mapping. Before the machine runs; fails when more
  /// is asked for than create() was told.
  Result<std::span<std::byte>> reserve(uint64_t size);

  /// Shows `bytes`, of reserve() or of RAM's file, at `start`, both whole pages. RAM hides a
  /// mapping, a later mapping an earlier one. Thread-safe, as the rest of these.
  void map(GuestPhysicalAddress start, std::span<std::byte> bytes, bool writable = true);
  /// Undoes the map() of these bytes at `start`; one that is not there is ignored.
  void unmap(GuestPhysicalAddress start, std::span<const std::byte> bytes);
  /// In the order in which they were made.
  [[nodiscard]] std::vector<Mapping> mappings() const;
  /// Of RAM's file: what map() can show at another place, the hole under the BIOS for one.
  [[nodiscard]] std::span<std::byte> file_bytes(uint64_t offset, uint64_t size) const {
    return {mapping_ + offset, size};
  }
  void add_listener(MappingListener& listener);
  void remove_listener(MappingListener& listener);

  /// The host bytes behind [address, address + size), or an empty span if any of it is neither RAM
  /// nor a mapping that can be written, or it crosses them. A caller that writes through the span
  /// calls note_written() afterwards.
  [[nodiscard]] std::span<std::byte> span(GuestPhysicalAddress address, uint64_t size) const;

  /// Copies; fails when any byte is outside RAM and mappings; read() takes any mapping.
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

  /// Index of a page of RAM or of a mapping: its offset in the memfd divided by the page size. An
  /// address outside them gives page_count().
  [[nodiscard]] uint64_t page_index(GuestPhysicalAddress address) const {
    for (const auto& region : regions_)
      if (address.value - region.start.value < region.size)
        return (region.file_offset + (address.value - region.start.value)) >> kPageShift;
    return has_mappings_.load(std::memory_order_acquire) ? mapped_page_index(address) : page_count_;
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
  [[nodiscard]] uint64_t mapped_page_index(GuestPhysicalAddress address) const;
  /// mappings_mutex_ held: the mapping that shows there; nullptr: none.
  [[nodiscard]] const Mapping* find_mapping(GuestPhysicalAddress address) const;
  [[nodiscard]] std::span<std::byte> mapped_span(GuestPhysicalAddress address, uint64_t size,
                                                 bool to_write) const;
  void tell_listeners();

  UniqueFd memfd_;
  UniqueFd beside_memfd_;
  std::vector<RamRegion> regions_;
  uint64_t size_ = 0;
  uint64_t page_count_ = 0;
  std::byte* mapping_ = nullptr;
  bool shared_ = true;
  std::unique_ptr<std::atomic<uint32_t>[]> code_generation_;
  std::unique_ptr<std::atomic<bool>[]> has_code_;
  std::atomic<uint64_t> code_changes_ = 0;
  std::unique_ptr<std::atomic<uint16_t>[]> lookups_;  // per 2 MiB

  uint64_t reserved_ = 0;  ///< Bytes that reserve() gave.
  std::atomic<bool> has_mappings_ = false;
  mutable std::mutex mappings_mutex_;
  std::vector<Mapping> mappings_;            // guarded by mappings_mutex_
  std::vector<MappingListener*> listeners_;  // guarded by mappings_mutex_
};

}  // namespace limen::memory
