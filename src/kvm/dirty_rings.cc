#include "kvm/dirty_rings.h"

#include <sys/mman.h>

#include <atomic>
#include <cerrno>

#include "base/log.h"
#include "kvm/ioctl.h"
#include "memory/guest_memory.h"

namespace limen::kvm {

Result<std::unique_ptr<DirtyRings>> DirtyRings::create(const Device& device, int vm,
                                                       unsigned entries) {
  // The newer capability says that the flags are to be written with release order, as they are.
  kvm_enable_cap enable{};
  enable.cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
  int most_bytes = device.extension(enable.cap);
  if (most_bytes <= 0) {
    enable.cap = KVM_CAP_DIRTY_LOG_RING;
    most_bytes = device.extension(enable.cap);
  }
  if (entries == 0 || most_bytes <= 0) return nullptr;
  std::unique_ptr<DirtyRings> rings(new DirtyRings(vm, entries));
  enable.args[0] = rings->bytes();
  const size_t most = static_cast<size_t>(most_bytes) / sizeof(kvm_dirty_gfn);
  if (entries > most)
    return fail("dirty-ring-size={}: this kernel's rings have {} entries at most", entries, most);
  if (call(vm, KVM_ENABLE_CAP, &enable) < 0)
    return fail_errno(
        errno, fmt::format("dirty-ring-size={}: this kernel refuses it, mostly because it is "
                           "too small; 4096 is usual, {} the most",
                           entries, most));
  return rings;
}

DirtyRings::~DirtyRings() {
  for (const auto& ring : rings_) ::munmap(ring.entries, bytes());
}

Result<> DirtyRings::add_processor(int vcpu) {
  void* ring =
      ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu,
             static_cast<off_t>(KVM_DIRTY_LOG_PAGE_OFFSET) * static_cast<off_t>(memory::kPageSize));
  if (ring == MAP_FAILED) return fail_errno(errno, "mapping a processor's dirty ring of KVM");
  rings_.push_back({.entries = static_cast<kvm_dirty_gfn*>(ring)});
  return {};
}

std::vector<DirtyRings::Entry> DirtyRings::take() {
  std::vector<Entry> taken;
  for (auto& ring : rings_) {
    for (;; ++ring.next) {
      auto& entry = ring.entries[ring.next % entries_];
      const std::atomic_ref flags(entry.flags);
      if ((flags.load(std::memory_order_acquire) & KVM_DIRTY_GFN_F_DIRTY) == 0) break;
      taken.push_back({entry.slot, entry.offset});
      flags.store(KVM_DIRTY_GFN_F_RESET, std::memory_order_release);
    }
  }
  if (!taken.empty() && call(vm_, KVM_RESET_DIRTY_RINGS, 0) < 0)
    log::error("kvm: KVM_RESET_DIRTY_RINGS: {}", errno);
  return taken;
}

}  // namespace limen::kvm
