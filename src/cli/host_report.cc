// `limen host`: what this host offers to machines.
#include <cpuid.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/host_tsc.h"
#include "base/unique_fd.h"
#include "cli/programs.h"
#include "machine/host_limits.h"

namespace limen::cli {
namespace {

struct Feature {
  std::string_view name;
  uint32_t leaf;
  unsigned register_index;  ///< EAX, EBX, ECX, EDX.
  unsigned bit;
};
/// SDM Vol. 2A, CPUID; APM Vol. 3 appendix E.
constexpr std::array kFeatures = {
    Feature{"vmx", 1, 2, 5},
    Feature{"svm", 0x8000'0001, 2, 2},
    Feature{"sse4_2", 1, 2, 20},
    Feature{"aes", 1, 2, 25},
    Feature{"avx", 1, 2, 28},
    Feature{"avx2", 7, 1, 5},
    Feature{"bmi2", 7, 1, 8},
    Feature{"sha", 7, 1, 29},
    Feature{"avx512f", 7, 1, 16},
    Feature{"avx512bw", 7, 1, 30},
    Feature{"avx512_vnni", 7, 2, 11},
    Feature{"fsgsbase", 7, 1, 0},
    Feature{"rdrand", 1, 2, 30},
    Feature{"rdseed", 7, 1, 18},
    Feature{"pdpe1gb", 0x8000'0001, 3, 26},
    Feature{"nonstop_tsc", 0x8000'0007, 3, 8},
};

std::array<uint32_t, 4> cpuid(uint32_t leaf) {
  std::array<uint32_t, 4> answer{};
  if (__get_cpuid_max(leaf & 0x8000'0000, nullptr) < leaf) return answer;
  __cpuid_count(leaf, 0, answer[0], answer[1], answer[2], answer[3]);
  return answer;
}

std::string processor_name() {
  constexpr uint32_t kFirst = 0x8000'0002, kLast = 0x8000'0004;
  std::string name;
  for (uint32_t leaf = kFirst; leaf <= kLast; ++leaf) {
    const auto part = cpuid(leaf);
    name.append(reinterpret_cast<const char*>(part.data()), sizeof part);
  }
  return name.c_str();
}

std::string kvm_state() {
  constexpr unsigned long kGetApiVersion = 0xAE00;  // KVM_GET_API_VERSION
  const UniqueFd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!kvm.valid()) return fmt::format("not usable: /dev/kvm: {}", ::strerror(errno));
  const int version = ::ioctl(kvm.get(), kGetApiVersion, 0);
  if (version < 0) return fmt::format("not usable: /dev/kvm: {}", ::strerror(errno));
  return fmt::format("/dev/kvm is there (API {}); this version of Limen does not use it yet",
                     version);
}

}  // namespace

std::string describe_host() {
  std::vector<std::string_view> features;
  for (const auto& feature : kFeatures)
    if ((cpuid(feature.leaf)[feature.register_index] >> feature.bit & 1) != 0)
      features.push_back(feature.name);
  return fmt::format(
      "processor     {}\n"
      "features      {}\n"
      "time stamps   {:.3f} GHz\n"
      "memory        {}\n"
      "accelerators  soft (default)\n"
      "kvm           {}\n",
      processor_name(), fmt::join(features, " "), static_cast<double>(host_tsc_hz()) / 1e9,
      machine::describe_size(machine::host_memory()), kvm_state());
}

}  // namespace limen::cli
