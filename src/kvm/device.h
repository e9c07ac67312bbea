// /dev/kvm: the Linux kernel's hypervisor.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "x86/cpuid.h"

namespace limen::kvm {

/// Where the kernel offers it.
inline constexpr const char* kDevicePath = "/dev/kvm";

/// Why open(2) of `path` failed, for a person, as in "/dev/kvm may not be opened by this user (it
/// is for group kvm)".
[[nodiscard]] std::string why_not_opened(int error, const std::string& path);

/// The system's file descriptor (Documentation/virt/kvm/api.rst).
class Device {
 public:
  /// KVM_GET_API_VERSION of every kernel since 2.6.22.
  static constexpr int kApiVersion = 12;

  /// Fails where there is none, it may not be opened, or its API is not kApiVersion; the error
  /// names the cause and the remedy.
  static Result<std::shared_ptr<Device>> open(const std::string& path = kDevicePath);

  [[nodiscard]] int fd() const { return fd_.get(); }
  /// What KVM_CHECK_EXTENSION says of a KVM_CAP_*; 0: not there.
  [[nodiscard]] int extension(unsigned long capability) const;
  /// Bytes of what a vCPU shares with the kernel (KVM_GET_VCPU_MMAP_SIZE).
  [[nodiscard]] size_t run_size() const { return run_size_; }
  /// A new machine's file descriptor. The error names the cause, another hypervisor that holds the
  /// processor for one.
  [[nodiscard]] Result<UniqueFd> create_vm() const;

  /// KVM_GET_SUPPORTED_CPUID as it comes: what the kernel can run, without what depends on where
  /// the local APIC is (supported_cpuid.h).
  [[nodiscard]] Result<x86::CpuidTable> raw_cpuid() const;
  /// The MSRs that it saves and restores (KVM_GET_MSR_INDEX_LIST), in ascending order.
  [[nodiscard]] const std::vector<uint32_t>& msrs() const { return msrs_; }

 private:
  Device() = default;
  Result<> read_msrs();

  UniqueFd fd_;
  size_t run_size_ = 0;
  std::vector<uint32_t> msrs_;
};

}  // namespace limen::kvm
