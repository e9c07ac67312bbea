// Whether `-accel kvm:soft` and `-enable-kvm` take kvm on this host, and why not.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kvm/device.h"
#include "kvm/probe.h"

namespace limen::kvm {

struct Choice {
  std::shared_ptr<Device> device;    ///< nullptr: it could not be opened.
  std::optional<ProbeResult> probe;  ///< Where there is a device.
  /// One line, as in "/dev/kvm emulates ring 0 at 1.4 million instructions a second"; empty: kvm is
  /// the choice.
  std::string why_not;
};

/// Opens the device and runs the probe on it; takes as long as probe().
[[nodiscard]] Choice choose(const std::string& path = kDevicePath);

/// Why a result is not usable(), of the device at `path`; empty: it is.
[[nodiscard]] std::string why_not(const ProbeResult& result, const std::string& path = kDevicePath);

/// "1.4 million", "6700 million": instructions a second, for a person.
[[nodiscard]] std::string describe_rate(double rate);

}  // namespace limen::kvm
