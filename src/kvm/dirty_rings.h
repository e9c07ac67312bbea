// Which pages processors wrote, as rings that the kernel fills (KVM_CAP_DIRTY_LOG_RING;
// api.rst 8.29).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "kvm/device.h"
#include "kvm/kernel.h"

namespace limen::kvm {

/// One ring for each processor of a machine. Not thread-safe.
class DirtyRings {
 public:
  struct Entry {
    uint32_t slot = 0;
    uint64_t page = 0;  ///< From the slot's start.
  };

  /// `entries`: of each ring, a power of two; 0: none are wanted. nullptr: none are wanted, or
  /// this kernel has none. Before the machine's first processor. `vm` outlives it.
  static Result<std::unique_ptr<DirtyRings>> create(const Device& device, int vm, unsigned entries);
  ~DirtyRings();
  DirtyRings(const DirtyRings&) = delete;
  DirtyRings& operator=(const DirtyRings&) = delete;

  Result<> add_processor(int vcpu);
  /// What is in the rings now. They are empty then, and the next write to those pages is noted
  /// again.
  std::vector<Entry> take();

 private:
  struct Ring {
    kvm_dirty_gfn* entries = nullptr;
    uint32_t next = 0;
  };

  DirtyRings(int vm, uint32_t entries) : vm_(vm), entries_(entries) {}
  [[nodiscard]] size_t bytes() const { return entries_ * sizeof(kvm_dirty_gfn); }

  const int vm_;
  const uint32_t entries_;
  std::vector<Ring> rings_;
};

}  // namespace limen::kvm
