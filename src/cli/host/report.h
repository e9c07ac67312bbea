// All that `limen host` found, and which accelerator follows.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/host/finding.h"
#include "cli/host/host_files.h"
#include "cli/host/memory.h"
#include "cli/host/processor.h"
#include "cli/host/soft_speed.h"
#include "kvm/choice.h"

namespace limen::cli::host {

struct Section {
  std::string title;
  Findings findings;
};

/// What `-accel kvm:soft` takes.
struct AcceleratorChoice {
  std::string name;  ///< "kvm" or "soft".
  std::string reason;
  std::optional<double> kvm_ratio;  ///< Part of native speed, of a kernel's code.
  std::optional<double> soft_ratio;
  std::string soft_trouble = {};  ///< Why it was not measured.
};

struct Report {
  std::vector<Section> sections;
  AcceleratorChoice accelerator;
};

[[nodiscard]] Report make_report(const HostFiles& files, const Processor& processor,
                                 const kvm::Choice& choice, const Result<SoftSpeed>& soft,
                                 const TryUserfaultfd& userfaultfd);

/// How text_of() writes.
struct Style {
  bool colour = false;  ///< With a terminal's escape sequences.
  size_t columns = 0;   ///< Longer lines are wrapped; 0: none.
};

/// Aligned lines for people.
[[nodiscard]] std::string text_of(const Report& report, const Style& style);
/// docs/host.md has the keys.
[[nodiscard]] nlohmann::ordered_json json_of(const Report& report);

}  // namespace limen::cli::host
