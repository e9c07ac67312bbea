// The guest of probe(): a few pages of 64-bit code in plain integer instructions, which end with a
// store to an address that is not memory.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "kvm/device.h"
#include "kvm/kernel.h"

namespace limen::kvm {

/// A round of the loop whose speed is measured: RCX rounds, RSI an address of 8 bytes.
inline constexpr std::array<uint8_t, 14> kProbeLoop = {
    0x48, 0x01, 0xC8,  // add rax, rcx
    0x48, 0x89, 0x06,  // mov [rsi], rax
    0x48, 0x33, 0x16,  // xor rdx, [rsi]
    0x48, 0xFF, 0xC9,  // dec rcx
    0x75, 0xF2,        // jnz the first
};
inline constexpr uint64_t kProbeLoopInstructions = 5;  ///< In a round.

/// A machine of its own with one processor in long mode: page tables, ring 0 and ring 3, a handler
/// per exception. Belongs to the thread that makes it.
class ProbeGuest {
 public:
  enum class Program : uint8_t {
    kKernelLoop,  ///< kProbeLoop in ring 0.
    kUserLoop,    ///< The same in ring 3.
    kBreakpoint,  ///< INT3 in ring 0, back by IRET.
    kSystemCall,  ///< SYSCALL in ring 3, back by SYSRET.
  };
  /// How a program ended.
  struct Outcome {
    /// Empty: as it should. Otherwise what happened instead, for a person.
    std::string trouble;
    bool timed_out = false;
    uint64_t rounds_left = 0;  ///< RCX of a loop that timed out.
    std::chrono::duration<double> processor_time{};
  };

  static Result<std::unique_ptr<ProbeGuest>> create(const Device& device);
  ~ProbeGuest();
  ProbeGuest(const ProbeGuest&) = delete;
  ProbeGuest& operator=(const ProbeGuest&) = delete;

  /// Runs it from its start for at most `limit`. Fails where the kernel takes no registers.
  Result<Outcome> run(Program program, uint64_t rounds, std::chrono::nanoseconds limit);

 private:
  ProbeGuest() = default;
  void write_memory();
  Result<> set_registers(Program program, uint64_t rounds);
  Result<> set_system_call_entry();
  /// What the program told, or what ended it instead.
  Result<Outcome> outcome_of(Program program, uint64_t rounds, int run_errno);

  UniqueFd vm_;
  UniqueFd vcpu_;
  std::byte* memory_ = nullptr;
  kvm_run* run_ = nullptr;
  size_t run_size_ = 0;
};

}  // namespace limen::kvm
