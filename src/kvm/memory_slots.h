// What the kernel knows of guest-physical memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "base/result.h"
#include "kvm/device.h"
#include "kvm/dirty_rings.h"
#include "memory/guest_memory.h"

namespace limen::kvm {

/// A run of guest-physical pages in one piece of the process's memory.
struct MemoryPiece {
  GuestPhysicalAddress start;
  uint64_t size = 0;  ///< Bytes; whole pages.
  std::byte* host = nullptr;
  bool writable = true;

  bool operator==(const MemoryPiece&) const = default;
};

/// What a processor sees of RAM and mappings, without overlaps, in ascending order.
[[nodiscard]] std::vector<MemoryPiece> visible_memory(const memory::GuestMemory& memory);

/// Keeps the memory slots of a machine (KVM_SET_USER_MEMORY_REGION) as the mappings of its memory
/// are.
class MemorySlots final : public memory::MappingListener {
 public:
  /// `vm` and `memory` outlive it. `rings` note what processors write; nullptr: bitmaps do. Fails
  /// when the kernel has too few slots, or no read-only ones and `memory` shows something that a
  /// processor may not write.
  static Result<std::unique_ptr<MemorySlots>> create(const Device& device, int vm,
                                                     memory::GuestMemory& memory,
                                                     std::unique_ptr<DirtyRings> rings);
  ~MemorySlots() override;
  MemorySlots(const MemorySlots&) = delete;
  MemorySlots& operator=(const MemorySlots&) = delete;

  /// One was made and has not run.
  Result<> add_processor(int vcpu);
  void mappings_changed() override;

  /// Grows before the first slot of a change goes, and after the last has come: odd meanwhile.
  [[nodiscard]] uint64_t changes() const { return changes_.load(); }
  /// Does an access that the kernel gave up because the memory there was being mapped on another
  /// thread. False: the address is that of a device.
  bool access(GuestPhysicalAddress address, std::span<std::byte> bytes, bool write);

  /// Has the kernel note which pages are written from now on, or no longer.
  Result<> log_writes(bool on);
  /// The pages that processors wrote since the last call, by their index
  /// (GuestMemory::page_index()), ascending.
  Result<std::vector<uint64_t>> take_written();
  /// A processor's ring is full (KVM_EXIT_DIRTY_RING_FULL).
  void empty_rings();

 private:
  struct Slot {
    uint32_t id = 0;
    MemoryPiece piece;
    uint64_t first_page = 0;  ///< By GuestMemory::page_index().
  };

  MemorySlots(const Device& device, int vm, memory::GuestMemory& memory,
              std::unique_ptr<DirtyRings> rings);
  void take_rings();                                                         // mutex_ held
  Result<> take_bitmap(const Slot& slot);                                    // mutex_ held
  Result<> update();                                                         // mutex_ held
  Result<> set(uint32_t id, const MemoryPiece& piece, uint64_t size) const;  // mutex_ held

  const int vm_;
  memory::GuestMemory& memory_;
  const uint32_t most_slots_;
  const bool has_read_only_;
  std::atomic<uint64_t> changes_ = 0;
  std::mutex mutex_;
  std::vector<Slot> slots_;                  // guarded by mutex_
  bool logs_writes_ = false;                 // guarded by mutex_
  const std::unique_ptr<DirtyRings> rings_;  // what it points to guarded by mutex_
  std::set<uint64_t> written_;               // guarded by mutex_; pages that nobody took yet
};

}  // namespace limen::kvm
