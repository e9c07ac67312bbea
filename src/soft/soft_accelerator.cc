#include "soft/soft_accelerator.h"

#include "soft/cpu.h"
#include "soft/interpret/runner.h"
#include "soft/supported_cpuid.h"
#include "x86/tsc.h"

namespace limen::soft {
namespace {

class SoftVcpu final : public vcpu::Vcpu {
 public:
  SoftVcpu(const vcpu::VmResources& resources, const x86::CpuidTable& cpuid,
           vcpu::LocalInterruptController& interrupts, uint64_t tsc_hz)
      : cpuid_(cpuid),
        cpu_(resources.ram, resources.ports, resources.mmio, cpuid_, interrupts),
        runner_(cpu_, tsc_hz, size_t{64} << 20) {}

  vcpu::Exit run() override { return runner_.run(); }
  void kick() override { runner_.kick(); }
  void interrupt() override { runner_.interrupt(); }
  [[nodiscard]] x86::CpuState state() const override { return cpu_.state(); }
  void set_state(const x86::CpuState& state) override { cpu_.set_state(state); }
  [[nodiscard]] std::string recent_instructions() override { return runner_.recent_instructions(); }

 private:
  x86::CpuidTable cpuid_;
  Cpu cpu_;
  interpret::Runner runner_;
};

class SoftVm final : public vcpu::Vm {
 public:
  explicit SoftVm(const vcpu::VmResources& resources, uint64_t tsc_hz)
      : resources_(resources), tsc_hz_(tsc_hz) {}

  Result<std::unique_ptr<vcpu::Vcpu>> create_vcpu(
      unsigned index, const x86::CpuidTable& cpuid,
      vcpu::LocalInterruptController& interrupts) override {
    if (index != 0)
      return fail("vcpu {}: the interpreter runs one virtual processor, number 0", index);
    return std::make_unique<SoftVcpu>(resources_, cpuid, interrupts, tsc_hz_);
  }

 private:
  vcpu::VmResources resources_;
  uint64_t tsc_hz_;
};

class SoftAccelerator final : public vcpu::Accelerator {
 public:
  [[nodiscard]] std::string_view name() const override { return "soft"; }
  [[nodiscard]] x86::CpuidTable supported_cpuid() const override { return soft::supported_cpuid(); }
  Result<std::unique_ptr<vcpu::Vm>> create_vm(const vcpu::VmResources& resources) override {
    return std::make_unique<SoftVm>(resources, x86::host_tsc_hz());
  }
};

}  // namespace

std::unique_ptr<vcpu::Accelerator> make_soft_accelerator() {
  return std::make_unique<SoftAccelerator>();
}

}  // namespace limen::soft
