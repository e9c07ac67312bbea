#include "kvm/device.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "kvm/ioctl.h"
#include "kvm/kernel.h"
#include "kvm/listed.h"

namespace limen::kvm {
namespace {

/// " (it is for group kvm)", if that helps.
std::string for_group(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || (status.st_mode & S_IWGRP) == 0) return {};
  constexpr gid_t kOverflow = 65534;  // /proc/sys/kernel/overflowgid
  if (status.st_gid == kOverflow) return " (it is for a group of another user namespace)";
  group entry{};
  group* found = nullptr;
  std::array<char, 4096> space{};
  if (getgrgid_r(status.st_gid, &entry, space.data(), space.size(), &found) != 0 ||
      found == nullptr)
    return fmt::format(" (it is for group {})", status.st_gid);
  return fmt::format(" (it is for group {})", found->gr_name);
}

/// What to do about it.
std::string_view remedy(int error) {
  switch (error) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return "no VT-x or AMD-V here, or kvm_intel or kvm_amd is not loaded: `limen host` says "
             "which; use -accel soft";
    case EACCES:
      return "have its owner let you, mostly by way of group kvm; or use -accel soft";
    case EPERM:
      return "start the container with --device /dev/kvm; or use -accel soft";
    case EBUSY:
      return "end it, or use -accel soft";
    case EISDIR:
    case ENOTTY:
      return "remove it and load kvm_intel or kvm_amd, or make it again (mknod /dev/kvm c 10 232); "
             "or use -accel soft";
    default:
      return "use -accel soft";
  }
}

std::unexpected<Error> cannot_open(int error, const std::string& path) {
  return std::unexpected(Error{
      fmt::format("accelerator 'kvm': {}; {}", why_not_opened(error, path), remedy(error)), error});
}

}  // namespace

std::string why_not_opened(int error, const std::string& path) {
  switch (error) {
    case ENOENT:
      return path + " is not there";
    case ENODEV:
    case ENXIO:
      return path + " has no driver behind it";
    case ENOTTY:
      return path + " is not the kernel's hypervisor";
    case EPERM:
      return path + " may not be opened by this container";
    case EACCES:
      return fmt::format("{} may not be opened by this user{}", path, for_group(path));
    case EBUSY:
      return path + " is in use by another hypervisor";
    default:
      return fmt::format("{} cannot be used: {}", path, std::strerror(error));
  }
}

Result<std::shared_ptr<Device>> Device::open(const std::string& path) {
  std::shared_ptr<Device> device(new Device);
  device->fd_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!device->fd_.valid()) return cannot_open(errno, path);
  const int version = call(device->fd(), KVM_GET_API_VERSION, 0);
  if (version < 0) return cannot_open(errno, path);
  if (version != kApiVersion)
    return fail(
        "accelerator 'kvm': {} has API version {}; version {} is needed (a kernel since "
        "2.6.22); use -accel soft",
        path, version, kApiVersion);
  device->run_size_ = static_cast<size_t>(
      LIMEN_TRY(try_call(device->fd(), KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE", 0)));
  LIMEN_TRY(device->read_msrs());
  return device;
}

int Device::extension(unsigned long capability) const {
  return std::max(call(fd(), KVM_CHECK_EXTENSION, capability), 0);
}

Result<UniqueFd> Device::create_vm() const {
  UniqueFd vm(call(fd(), KVM_CREATE_VM, 0));
  if (vm.valid()) return vm;
  if (errno == EBUSY)
    return fail_errno(errno,
                      "accelerator 'kvm': the processor's virtualization is in use by "
                      "another hypervisor (end it); or use -accel soft");
  return fail_errno(errno, "accelerator 'kvm': cannot make a machine (KVM_CREATE_VM)");
}

Result<x86::CpuidTable> Device::raw_cpuid() const {
  constexpr size_t kMost = 4096;
  for (size_t count = 128; count <= kMost; count *= 2) {
    Listed<kvm_cpuid2, kvm_cpuid_entry2> list(count);
    list->nent = static_cast<uint32_t>(count);
    if (call(fd(), KVM_GET_SUPPORTED_CPUID, list.get()) < 0) {
      if (errno == E2BIG) continue;
      return fail_errno(errno, "KVM_GET_SUPPORTED_CPUID");
    }
    x86::CpuidTable table;
    for (uint32_t i = 0; i < list->nent; ++i) {
      const kvm_cpuid_entry2& entry = list->entries[i];
      table.set(entry.function, entry.index, (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
                {entry.eax, entry.ebx, entry.ecx, entry.edx});
    }
    return table;
  }
  return fail("KVM_GET_SUPPORTED_CPUID: more than {} leaves", kMost);
}

Result<> Device::read_msrs() {
  // The first call says how many there are.
  kvm_msr_list none{};
  if (call(fd(), KVM_GET_MSR_INDEX_LIST, &none) < 0 && errno != E2BIG)
    return fail_errno(errno, "KVM_GET_MSR_INDEX_LIST");
  Listed<kvm_msr_list, uint32_t> list(none.nmsrs);
  list->nmsrs = none.nmsrs;
  LIMEN_TRY(try_call(fd(), KVM_GET_MSR_INDEX_LIST, "KVM_GET_MSR_INDEX_LIST", list.get()));
  msrs_.assign(list->indices, list->indices + list->nmsrs);
  std::ranges::sort(msrs_);
  return {};
}

}  // namespace limen::kvm
