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
           vcpu::LocalInterruptController& interrupts, CodeSharing& code, unsigned index,
           uint64_t tsc_hz, SoftOptions options)
      : cpuid_(cpuid),
        code_(code),
        index_(index),
        cpu_(resources.ram, resources.ports, resources.mmio, cpuid_, interrupts, &code, index),
        runner_(cpu_, tsc_hz, options.code_size) {}

  vcpu::Exit run() override { return runner_.run(); }
  void kick() override { runner_.kick(); }
  void interrupt() override { runner_.interrupt(); }
  [[nodiscard]] x86::CpuState state() const override { return cpu_.state(); }
  void set_state(const x86::CpuState& state) override { cpu_.set_state(state); }
  [[nodiscard]] std::string recent_instructions() override { return runner_.recent_instructions(); }
  [[nodiscard]] std::string statistics() override {
    return (runner_.translator() != nullptr ? runner_.translator()->report() : std::string()) +
           (index_ == 0 ? code_.report() : std::string());
  }

 private:
  x86::CpuidTable cpuid_;
  CodeSharing& code_;
  const unsigned index_;
  Cpu cpu_;
  interpret::Runner runner_;
};

class SoftVm final : public vcpu::Vm {
 public:
  SoftVm(const vcpu::VmResources& resources, uint64_t tsc_hz, SoftOptions options)
      : resources_(resources),
        code_(resources.ram.page_count()),
        tsc_hz_(tsc_hz),
        options_(options) {}

  Result<std::unique_ptr<vcpu::Vcpu>> create_vcpu(
      unsigned index, const x86::CpuidTable& cpuid,
      vcpu::LocalInterruptController& interrupts) override {
    if (index >= CodeSharing::kMaxMembers)
      return fail("vcpu {}: the software engine runs at most {} processors", index,
                  CodeSharing::kMaxMembers);
    return std::make_unique<SoftVcpu>(resources_, cpuid, interrupts, code_, index, tsc_hz_,
                                      options_);
  }

 private:
  vcpu::VmResources resources_;
  CodeSharing code_;
  uint64_t tsc_hz_;
  SoftOptions options_;
};

class SoftAccelerator final : public vcpu::Accelerator {
 public:
  explicit SoftAccelerator(SoftOptions options) : options_(options) {}
  [[nodiscard]] std::string_view name() const override { return "soft"; }
  [[nodiscard]] x86::CpuidTable supported_cpuid() const override { return soft::supported_cpuid(); }
  [[nodiscard]] unsigned most_vcpus() const override { return CodeSharing::kMaxMembers; }
  Result<std::unique_ptr<vcpu::Vm>> create_vm(const vcpu::VmResources& resources) override {
    return std::make_unique<SoftVm>(resources, x86::host_tsc_hz(), options_);
  }

 private:
  SoftOptions options_;
};

}  // namespace

std::unique_ptr<vcpu::Accelerator> make_soft_accelerator(SoftOptions options) {
  return std::make_unique<SoftAccelerator>(options);
}

}  // namespace limen::soft
