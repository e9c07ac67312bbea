#include "kvm/choice.h"

#include <fmt/format.h>

namespace limen::kvm {
namespace {

/// Of what Device::open() failed with.
std::string why_not(const Error& error, const std::string& path) {
  if (error.system_errno != 0) return why_not_opened(error.system_errno, path);
  return path + " has another API version than 12";
}

}  // namespace

std::string describe_rate(double rate) {
  const double millions = rate / 1e6;
  return fmt::format("{:.{}f} million", millions, millions < 10 ? 1 : 0);
}

std::string why_not(const ProbeResult& result, const std::string& path) {
  if (result.usable()) return {};
  if (!result.runs) return fmt::format("{} runs no guest: {}", path, result.trouble);
  if (result.emulates_kernel())
    return fmt::format("{} emulates ring 0 at {} instructions a second", path,
                       describe_rate(result.kernel_rate));
  return fmt::format("{} runs no unmodified kernel: {}", path, result.trouble);
}

Choice choose(const std::string& path) {
  Choice choice;
  auto device = Device::open(path);
  if (!device) {
    choice.why_not = why_not(device.error(), path);
    return choice;
  }
  choice.device = *std::move(device);
  choice.probe = probe(*choice.device);
  choice.why_not = why_not(*choice.probe, path);
  return choice;
}

}  // namespace limen::kvm
