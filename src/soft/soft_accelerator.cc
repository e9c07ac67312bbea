#include "soft/soft_accelerator.h"

#include <cpuid.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/delayed_library.h"
#include "base/host_tsc.h"
#include "base/log.h"
#include "soft/cpu.h"
#include "soft/interpret/runner.h"
#include "soft/supported_cpuid.h"

namespace limen::soft {
namespace {

double mebibytes(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

/// What the process holds beside shared memory, which the guest's RAM is, and beside the code.
std::string process_memory(size_t private_code) {
  std::ifstream status("/proc/self/status");
  size_t held = 0;
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("RssAnon:") || line.starts_with("RssFile:"))
      held += std::stoul(line.substr(line.find(':') + 1)) << 10;  // kB
  return fmt::format("memory beside guest RAM and code cache: {:.1f} MiB\n",
                     mebibytes(held - std::min(held, private_code)));
}

/// The translators of a machine.
using Translators = std::vector<const translate::Translator*>;

class SoftVcpu final : public vcpu::Vcpu {
 public:
  SoftVcpu(const vcpu::VmResources& resources, const x86::CpuidTable& cpuid,
           vcpu::LocalInterruptController& interrupts, CodeSharing& code,
           std::shared_ptr<Translators> translators, unsigned index, uint64_t tsc_hz,
           const SoftOptions& options)
      : trace_(options.trace),
        cpuid_(cpuid),
        code_(code),
        translators_(std::move(translators)),
        index_(index),
        cpu_(resources.ram, resources.ports, resources.mmio, cpuid_, interrupts, &code, index),
        runner_(cpu_, tsc_hz, options.code_size) {
    cpu_.trace = trace_.get();
    cpu_.traces_interrupts = trace_ && trace_->options().interrupts;
    if (const auto* translator = runner_.translator()) {
      translators_->push_back(translator);
      if (trace_) translator->name_trampolines(*trace_);
    }
  }

  vcpu::Exit run() override { return runner_.run(); }
  void kick() override { runner_.kick(); }
  void interrupt() override { runner_.interrupt(); }
  [[nodiscard]] x86::CpuState state() const override { return cpu_.state(); }
  void set_state(const x86::CpuState& state) override {
    if (!state.nested.empty())
      log::error("soft: the guest's own guests are lost: this engine has no virtualization");
    cpu_.set_state(state);
  }
  Result<> set_debug(const vcpu::DebugRequest& request) override {
    if (request.watchpoints.size() > Watchpoints::kMostOfDebugger)
      return fail("{} watchpoints are too many; the software engine has {}",
                  request.watchpoints.size(), Watchpoints::kMostOfDebugger);
    cpu_.set_debug(request);
    return {};
  }
  [[nodiscard]] std::optional<GuestPhysicalAddress> translate(
      GuestLinearAddress address) const override {
    return cpu_.mmu.translate(address.value);
  }
  [[nodiscard]] std::string recent_instructions() override { return runner_.recent_instructions(); }
  [[nodiscard]] std::string statistics() override {
    std::string text = runner_.report();
    if (const auto* translator = runner_.translator())
      text += translator->report() + fmt::format("memory of the code cache: {:.1f} MiB\n",
                                                 mebibytes(translator->cache().resident_bytes()));
    if (index_ != 0) return text;
    size_t private_code = 0;
    for (const auto* translator : *translators_)
      if (translator->cache().is_private()) private_code += translator->cache().resident_bytes();
    return text + code_.report() + process_memory(private_code);
  }

 private:
  std::shared_ptr<Trace> trace_;
  x86::CpuidTable cpuid_;
  CodeSharing& code_;
  const std::shared_ptr<Translators> translators_;
  const unsigned index_;
  Cpu cpu_;
  interpret::Runner runner_;
};

class SoftVm final : public vcpu::Vm {
 public:
  SoftVm(const vcpu::VmResources& resources, uint64_t tsc_hz, const SoftOptions& options)
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
    return std::make_unique<SoftVcpu>(resources_, cpuid, interrupts, code_, translators_, index,
                                      tsc_hz_, options_);
  }

 private:
  vcpu::VmResources resources_;
  CodeSharing code_;
  std::shared_ptr<Translators> translators_ = std::make_shared<Translators>();
  uint64_t tsc_hz_;
  SoftOptions options_;
};

class SoftAccelerator final : public vcpu::Accelerator {
 public:
  explicit SoftAccelerator(SoftOptions options) : options_(std::move(options)) {}
  [[nodiscard]] std::string_view name() const override { return "soft"; }
  [[nodiscard]] x86::CpuidTable supported_cpuid() const override { return soft::supported_cpuid(); }
  [[nodiscard]] unsigned most_vcpus() const override { return CodeSharing::kMaxMembers; }
  Result<std::unique_ptr<vcpu::Vm>> create_vm(const vcpu::VmResources& resources) override {
    LIMEN_TRY(load_library(LIMEN_ZYDIS_LIBRARY));
    return std::make_unique<SoftVm>(resources, host_tsc_hz(), options_);
  }

 private:
  SoftOptions options_;
};

}  // namespace

Result<> check_may_make_code() {
  constexpr size_t kPage = 4096;
  void* page = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return fail_errno(errno, "accelerator 'soft': mapping a page");
  const int result = ::mprotect(page, kPage, PROT_READ | PROT_EXEC);
  const int error = errno;
  ::munmap(page, kPage);
  if (result == 0) return {};
  return fail_errno(error,
                    "accelerator 'soft': this process may not make code, by systemd's "
                    "MemoryDenyWriteExecute=, SELinux's deny_execmem or prctl(PR_SET_MDWE): lift "
                    "that, or use -accel soft,tier=interpreter, which is many times slower");
}

Result<> check_host_processor() {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & bit_OSXSAVE) == 0)
    return fail("accelerator 'soft' needs a processor and a kernel with XSAVE; this host has none");
  return {};
}

std::unique_ptr<vcpu::Accelerator> make_soft_accelerator(SoftOptions options) {
  return std::make_unique<SoftAccelerator>(std::move(options));
}

}  // namespace limen::soft
