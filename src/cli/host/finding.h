// One thing that `limen host` found out.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace limen::cli::host {

enum class Verdict : uint8_t {
  kOk,
  kWarning,  ///< It works, with less than it could.
  kMissing,
};

struct Finding {
  std::string key;               ///< In JSON; stable (docs/host.md).
  std::string name;              ///< For people.
  nlohmann::ordered_json value;  ///< For programs; null: not there.
  std::string text;              ///< For people.
  Verdict verdict = Verdict::kOk;
  std::string advice = {};  ///< What to do about it; empty: nothing.
};

using Findings = std::vector<Finding>;

/// `finding` where the folder that would tell, as in "sys/module", is hidden from this process.
[[nodiscard]] inline Finding unknown(Finding finding, const std::string& folder) {
  finding.value = nullptr;
  finding.text = "unknown: no /" + folder + " here";
  finding.verdict = Verdict::kWarning;
  finding.advice.clear();
  return finding;
}

}  // namespace limen::cli::host
