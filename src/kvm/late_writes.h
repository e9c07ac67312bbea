// Writes that the kernel collects (KVM_CAP_COALESCED_MMIO, KVM_CAP_COALESCED_PIO).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "base/result.h"
#include "kvm/device.h"
#include "kvm/kernel.h"
#include "memory/late_writes.h"
#include "vcpu/accelerator.h"

namespace limen::kvm {

/// Those of one machine. Processors write them into one ring, which deliver() empties.
class LateWrites {
 public:
  /// nullptr: this kernel collects none. `vm` outlives it.
  static std::unique_ptr<LateWrites> create(const Device& device, int vm,
                                            const vcpu::VmResources& resources);
  ~LateWrites();
  LateWrites(const LateWrites&) = delete;
  LateWrites& operator=(const LateWrites&) = delete;

  /// Maps the ring, which every processor shares with the kernel. Before the first runs.
  Result<> attach(int vcpu);

  /// nullptr: this kernel does not collect writes to ports.
  [[nodiscard]] memory::LateWriteTaker* to_ports() { return has_ports_ ? &ports_ : nullptr; }
  [[nodiscard]] memory::LateWriteTaker* to_memory() { return &memory_; }

  /// Gives the devices what is in the ring. Thread-safe.
  void deliver();

 private:
  /// One space's zones.
  class Taker final : public memory::LateWriteTaker {
   public:
    Taker(LateWrites& owner, bool ports) : owner_(owner), ports_(ports) {}
    void take(uint64_t address, uint64_t size) override;
    void give_back(uint64_t address, uint64_t size) override;
    void deliver() override { owner_.deliver(); }

   private:
    [[nodiscard]] kvm_coalesced_mmio_zone zone(uint64_t address, uint64_t size) const;

    LateWrites& owner_;
    const bool ports_;
  };

  LateWrites(int vm, const vcpu::VmResources& resources, int page, bool has_ports)
      : vm_(vm), resources_(resources), page_(page), has_ports_(has_ports) {}

  const int vm_;
  const vcpu::VmResources resources_;
  const int page_;  ///< Of what a processor maps, where the ring is.
  const bool has_ports_;
  Taker ports_{*this, true}, memory_{*this, false};
  std::mutex mutex_;
  kvm_coalesced_mmio_ring* ring_ = nullptr;
};

}  // namespace limen::kvm
