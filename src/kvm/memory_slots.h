// What the kernel knows of guest-physical memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/result.h"
#include "kvm/device.h"
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
  /// `vm` and `memory` outlive it. Fails when the kernel has too few slots, or no read-only ones
  /// and `memory` shows something that a processor may not write.
  static Result<std::unique_ptr<MemorySlots>> create(const Device& device, int vm,
                                                     memory::GuestMemory& memory);
  ~MemorySlots() override;
  MemorySlots(const MemorySlots&) = delete;
  MemorySlots& operator=(const MemorySlots&) = delete;

  void mappings_changed() override;

  /// Grows before the first slot of a change goes, and after the last has come: odd meanwhile.
  [[nodiscard]] uint64_t changes() const { return changes_.load(); }
  /// Does an access that the kernel gave up because the memory there was being mapped on another
  /// thread. False: the address is that of a device.
  bool access(GuestPhysicalAddress address, std::span<std::byte> bytes, bool write);

  /// Has the kernel note which pages are written from now on, or no longer.
  Result<> log_writes(bool on);
  /// The pages that processors wrote since the last call, by their index
  /// (GuestMemory::page_index()).
  Result<std::vector<uint64_t>> take_written();

 private:
  struct Slot {
    uint32_t id = 0;
    MemoryPiece piece;
  };

  MemorySlots(const Device& device, int vm, memory::GuestMemory& memory);
  Result<> update();                                                         // mutex_ held
  Result<> set(uint32_t id, const MemoryPiece& piece, uint64_t size) const;  // mutex_ held

  const int vm_;
  memory::GuestMemory& memory_;
  const uint32_t most_slots_;
  const bool has_read_only_;
  std::atomic<uint64_t> changes_ = 0;
  std::mutex mutex_;
  std::vector<Slot> slots_;   // guarded by mutex_
  bool logs_writes_ = false;  // guarded by mutex_
};

}  // namespace limen::kvm
