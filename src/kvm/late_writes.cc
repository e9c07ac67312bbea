#include "kvm/late_writes.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "kvm/ioctl.h"
#include "memory/guest_memory.h"

namespace limen::kvm {
namespace {

constexpr uint32_t kRingEntries =
    (memory::kPageSize - sizeof(kvm_coalesced_mmio_ring)) / sizeof(kvm_coalesced_mmio);

}  // namespace

std::unique_ptr<LateWrites> LateWrites::create(const Device& device, int vm,
                                               const vcpu::VmResources& resources) {
  const int page = device.extension(KVM_CAP_COALESCED_MMIO);
  if (page <= 0) return nullptr;
  const bool has_ports = device.extension(KVM_CAP_COALESCED_PIO) > 0;
  return std::unique_ptr<LateWrites>(new LateWrites(vm, resources, page, has_ports));
}

LateWrites::~LateWrites() {
  if (ring_ != nullptr) ::munmap(ring_, memory::kPageSize);
}

Result<> LateWrites::attach(int vcpu) {
  if (ring_ != nullptr) return {};
  void* ring = ::mmap(nullptr, memory::kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu,
                      static_cast<off_t>(page_) * static_cast<off_t>(memory::kPageSize));
  if (ring == MAP_FAILED) return fail_errno(errno, "mapping the ring of coalesced writes of KVM");
  ring_ = static_cast<kvm_coalesced_mmio_ring*>(ring);
  return {};
}

void LateWrites::deliver() {
  if (ring_ == nullptr) return;
  // An entry leaves the ring once its device has it: an empty one means that all have theirs.
  const std::atomic_ref first(ring_->first), last(ring_->last);
  if (first.load(std::memory_order_acquire) == last.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(mutex_);
  while (first.load(std::memory_order_relaxed) != last.load(std::memory_order_acquire)) {
    const uint32_t at = first.load(std::memory_order_relaxed) % kRingEntries;
    const auto& entry = ring_->coalesced_mmio[at];
    uint64_t value = 0;
    std::memcpy(&value, entry.data, std::min<size_t>(entry.len, sizeof value));
    auto& space = entry.pio != 0 ? resources_.ports : resources_.mmio;
    space.write(entry.phys_addr, entry.len, value);
    first.store((at + 1) % kRingEntries, std::memory_order_release);
  }
}

kvm_coalesced_mmio_zone LateWrites::Taker::zone(uint64_t address, uint64_t size) const {
  kvm_coalesced_mmio_zone zone{};
  zone.addr = address;
  zone.size = static_cast<uint32_t>(size);
  zone.pio = ports_ ? 1 : 0;
  return zone;
}

void LateWrites::Taker::take(uint64_t address, uint64_t size) {
  const auto taken = zone(address, size);
  call(owner_.vm_, KVM_REGISTER_COALESCED_MMIO, &taken);
}

void LateWrites::Taker::give_back(uint64_t address, uint64_t size) {
  const auto taken = zone(address, size);
  call(owner_.vm_, KVM_UNREGISTER_COALESCED_MMIO, &taken);
}

}  // namespace limen::kvm
