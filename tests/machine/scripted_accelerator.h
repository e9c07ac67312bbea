// An accelerator whose guest is a function of the test's, and a kernel file for it.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "vcpu/accelerator.h"

namespace limen::machine::testing {

/// What the guest does: called by run(), again and again, until it returns an exit. `wait` sleeps
/// until someone kicks or interrupts the processor.
struct Guest {
  const vcpu::VmResources& machine;
  vcpu::LocalInterruptController& interrupts;
  x86::CpuState& state;
  std::function<void()> wait;
};
using Script = std::function<vcpu::Exit(Guest&)>;

class ScriptedVcpu final : public vcpu::Vcpu {
 public:
  ScriptedVcpu(const vcpu::VmResources& machine, vcpu::LocalInterruptController& interrupts,
               Script script)
      : machine_(machine), interrupts_(interrupts), script_(std::move(script)) {}

  vcpu::Exit run() override {
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(kicked_, false)) return {};
    }
    Guest guest{machine_, interrupts_, state_, [this] { wait(); }};
    const vcpu::Exit exit = script_(guest);
    const std::lock_guard lock(mutex_);
    kicked_ = false;
    return exit;
  }
  void kick() override {
    const std::lock_guard lock(mutex_);
    kicked_ = true;
    wake_.notify_all();
  }
  void interrupt() override {
    const std::lock_guard lock(mutex_);
    interrupted_ = true;
    wake_.notify_all();
  }
  [[nodiscard]] x86::CpuState state() const override { return state_; }
  void set_state(const x86::CpuState& state) override { state_ = state; }
  [[nodiscard]] std::string recent_instructions() override { return "0x1234: ud2\n"; }

 private:
  void wait() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return kicked_ || interrupted_; });
    interrupted_ = false;
  }

  vcpu::VmResources machine_;
  vcpu::LocalInterruptController& interrupts_;
  Script script_;
  x86::CpuState state_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool kicked_ = false;
  bool interrupted_ = false;
};

class ScriptedAccelerator final : public vcpu::Accelerator, private vcpu::Vm {
 public:
  explicit ScriptedAccelerator(Script script) : script_(std::move(script)) {}
  [[nodiscard]] std::string_view name() const override { return "scripted"; }
  [[nodiscard]] x86::CpuidTable supported_cpuid() const override {
    x86::CpuidTable table;
    table.set(0, 0, false, {1, 0, 0, 0});
    table.set(1, 0, false, {0x00000F00, 0, 0, 0});
    return table;
  }
  [[nodiscard]] unsigned most_vcpus() const override { return 8; }
  Result<std::unique_ptr<vcpu::Vm>> create_vm(const vcpu::VmResources& resources) override {
    return std::make_unique<ScriptedVm>(resources, script_);
  }

 private:
  class ScriptedVm final : public vcpu::Vm {
   public:
    ScriptedVm(const vcpu::VmResources& resources, Script script)
        : resources_(resources), script_(std::move(script)) {}
    Result<std::unique_ptr<vcpu::Vcpu>> create_vcpu(
        unsigned, const x86::CpuidTable&, vcpu::LocalInterruptController& interrupts) override {
      return std::make_unique<ScriptedVcpu>(resources_, interrupts, script_);
    }

   private:
    vcpu::VmResources resources_;
    Script script_;
  };
  Result<std::unique_ptr<vcpu::Vcpu>> create_vcpu(unsigned, const x86::CpuidTable&,
                                                  vcpu::LocalInterruptController&) override {
    return fail("make a Vm first");
  }
  Script script_;
};

/// A folder that goes away with its content.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "limen-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ / name; }
  [[nodiscard]] bool empty() const { return std::filesystem::is_empty(path_); }

 private:
  std::filesystem::path path_;
};

/// Writes a Multiboot kernel (0.6.96 §3.1, with address fields) whose code is `code`, at 1 MiB.
inline std::string write_kernel(const std::string& path, const std::string& code = "\xF4") {
  constexpr uint32_t kLoad = 0x100000, kHeaderSize = 32;
  constexpr uint32_t kMagic = 0x1BADB002, kAddressFields = 1u << 16;
  const uint32_t end = kLoad + kHeaderSize + static_cast<uint32_t>(code.size());
  const std::array<uint32_t, 8> header = {
      kMagic, kAddressFields,     0u - (kMagic + kAddressFields), kLoad, kLoad, end,
      end,    kLoad + kHeaderSize};
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(header.data()), sizeof header);
  file.write(code.data(), static_cast<std::streamsize>(code.size()));
  return path;
}

}  // namespace limen::machine::testing
