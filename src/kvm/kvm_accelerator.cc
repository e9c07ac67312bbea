#include "kvm/kvm_accelerator.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/host_tsc.h"
#include "kvm/ioctl.h"
#include "kvm/supported_cpuid.h"
#include "kvm/vcpu.h"

namespace limen::kvm {
namespace {

/// KVM_IOEVENTFD.
class Doorbells final : public memory::DoorbellTaker {
 public:
  explicit Doorbells(int vm) : vm_(vm) {}
  void take(uint64_t address, const memory::Doorbell& doorbell) override {
    set(address, doorbell, 0);
  }
  void give_back(uint64_t address, const memory::Doorbell& doorbell) override {
    set(address, doorbell, KVM_IOEVENTFD_FLAG_DEASSIGN);
  }

 private:
  void set(uint64_t address, const memory::Doorbell& doorbell, uint32_t flags) const {
    kvm_ioeventfd request{};
    request.addr = address;
    request.len = doorbell.size;
    request.fd = doorbell.event;
    request.datamatch = doorbell.value.value_or(0);
    request.flags = flags | (doorbell.value ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0);
    // Refused: its writes come to the device.
    call(vm_, KVM_IOEVENTFD, &request);
  }

  const int vm_;
};

/// What of a machine can be refused before anything of it is there.
struct Beginning {
  UniqueFd vm;
  std::unique_ptr<DirtyRings> rings;  ///< nullptr: bitmaps.

  static Result<Beginning> make(const Device& device, const KvmOptions& options) {
    LIMEN_TRY(InterruptChips::check(device, options.irqchip));
    Beginning made;
    made.vm = LIMEN_TRY(device.create_vm());
    made.rings = LIMEN_TRY(DirtyRings::create(device, made.vm.get(), options.dirty_ring_size));
    return made;
  }
};

class KvmVm final : public vcpu::Vm {
 public:
  static Result<std::unique_ptr<KvmVm>> create(const std::shared_ptr<Device>& device,
                                               const KvmOptions& options, Beginning begun,
                                               const x86::CpuidTable& supported,
                                               const vcpu::VmResources& resources) {
    const int vm = begun.vm.get();
    std::unique_ptr<KvmVm> made(new KvmVm(device, std::move(begun.vm), resources, supported));
    auto& shared = made->shared_;
    LIMEN_TRY(place_hidden_pages(*device, vm));
    if (device->extension(KVM_CAP_IOEVENTFD) > 0) made->doorbells_.emplace(vm);
    shared.late_writes = LateWrites::create(*device, vm, resources);
    // Before the chips: once a device is on the kernel's bus, a new slot waits some milliseconds
    // for its readers (SRCU).
    shared.slots =
        LIMEN_TRY(MemorySlots::create(*device, vm, resources.ram, std::move(begun.rings)));
    if (options.irqchip != IrqChip::kOff)
      shared.chips = LIMEN_TRY(InterruptChips::create(*device, vm, options.irqchip));
    const auto xsave2 = static_cast<size_t>(device->extension(KVM_CAP_XSAVE2));
    shared.has_xsave2 = xsave2 != 0;
    shared.xsave_size = std::max(xsave2, sizeof(kvm_xsave));
    shared.has_xcrs = device->extension(KVM_CAP_XCRS) > 0;
    shared.nested_state_size =
        static_cast<size_t>(std::max(device->extension(KVM_CAP_NESTED_STATE), 0));
    shared.can_block_interrupts =
        (device->extension(KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ) != 0;
    shared.tsc_hz = host_tsc_hz();
    return made;
  }

  Result<std::unique_ptr<vcpu::Vcpu>> create_vcpu(
      unsigned index, const x86::CpuidTable& cpuid,
      vcpu::LocalInterruptController& interrupts) override {
    return Vcpu::create(shared_, index, cpuid, interrupts);
  }
  Result<> log_writes(bool on) override { return shared_.slots->log_writes(on); }
  Result<std::vector<uint64_t>> take_written_pages() override {
    return shared_.slots->take_written();
  }
  [[nodiscard]] memory::DoorbellTaker* doorbell_taker() override {
    return doorbells_ ? &*doorbells_ : nullptr;
  }
  [[nodiscard]] memory::LateWriteTaker* late_port_writes() override {
    return shared_.late_writes ? shared_.late_writes->to_ports() : nullptr;
  }
  [[nodiscard]] memory::LateWriteTaker* late_memory_writes() override {
    return shared_.late_writes ? shared_.late_writes->to_memory() : nullptr;
  }
  [[nodiscard]] bool others_may_write() const override { return true; }
  [[nodiscard]] vcpu::InterruptChips* interrupt_chips() override { return shared_.chips.get(); }

 private:
  KvmVm(std::shared_ptr<Device> device, UniqueFd fd, const vcpu::VmResources& resources,
        const x86::CpuidTable& host)
      : shared_(std::move(device), std::move(fd), resources, host) {}

  /// Where Intel's processors without "unrestricted guest" want pages of their own, below the
  /// firmware (api.rst 4.36, 4.41).
  static Result<> place_hidden_pages(const Device& device, int vm) {
    constexpr unsigned long kTaskState = 0xFEFF'D000;
    unsigned long identity_map = 0xFEFF'C000;
    if (device.extension(KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0)
      LIMEN_TRY(
          try_call(vm, KVM_SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR", &identity_map));
    if (device.extension(KVM_CAP_SET_TSS_ADDR) > 0)
      LIMEN_TRY(try_call(vm, KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR", kTaskState));
    return {};
  }

  VmShared shared_;
  std::optional<Doorbells> doorbells_;
};

class KvmAccelerator final : public vcpu::Accelerator {
 public:
  KvmAccelerator(std::shared_ptr<Device> device, KvmOptions options, Beginning begun,
                 x86::CpuidTable supported)
      : device_(std::move(device)),
        options_(options),
        begun_(std::move(begun)),
        supported_(std::move(supported)) {}
  [[nodiscard]] std::string_view name() const override { return "kvm"; }
  [[nodiscard]] x86::CpuidTable supported_cpuid() const override { return supported_; }
  [[nodiscard]] unsigned most_vcpus() const override {
    // KVM_CAP_NR_VCPUS is advice. Beyond 255, APIC IDs do not fit what Vcpu and messages have.
    constexpr int kMost = 255;
    return static_cast<unsigned>(std::clamp(device_->extension(KVM_CAP_MAX_VCPUS), 1, kMost));
  }
  Result<std::unique_ptr<vcpu::Vm>> create_vm(const vcpu::VmResources& resources) override {
    auto begun = std::exchange(begun_, {});
    if (!begun.vm.valid()) begun = LIMEN_TRY(Beginning::make(*device_, options_));
    return KvmVm::create(device_, options_, std::move(begun), supported_, resources);
  }

 private:
  std::shared_ptr<Device> device_;
  KvmOptions options_;
  Beginning begun_;  ///< Of the first machine.
  x86::CpuidTable supported_;
};

}  // namespace

Result<std::unique_ptr<vcpu::Accelerator>> make_kvm_accelerator(std::shared_ptr<Device> device,
                                                                KvmOptions options) {
  if (device->extension(KVM_CAP_IMMEDIATE_EXIT) == 0)
    return fail(
        "accelerator 'kvm': this kernel lacks KVM_CAP_IMMEDIATE_EXIT (Linux 4.11 has it); "
        "use -accel soft");
  auto supported = LIMEN_TRY(supported_cpuid(*device, options.irqchip != IrqChip::kOff));
  auto begun = LIMEN_TRY(Beginning::make(*device, options));
  return std::make_unique<KvmAccelerator>(std::move(device), options, std::move(begun),
                                          std::move(supported));
}

}  // namespace limen::kvm
