#include "cli/host/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/host/devices.h"
#include "cli/host/kernel_hypervisor.h"

namespace limen::cli::host {
namespace {

using nlohmann::ordered_json;

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kWarning:
      return "warning";
    case Verdict::kMissing:
      break;
  }
  return "missing";
}

/// ECMA-48: green, yellow, red.
std::string_view colour_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "\x1b[32m";
    case Verdict::kWarning:
      return "\x1b[33m";
    case Verdict::kMissing:
      break;
  }
  return "\x1b[31m";
}
constexpr std::string_view kBold = "\x1b[1m", kPlain = "\x1b[0m";

AcceleratorChoice choose_accelerator(const kvm::Choice& choice, const Result<SoftSpeed>& soft) {
  AcceleratorChoice accelerator{.name = choice.why_not.empty() ? "kvm" : "soft",
                                .reason = choice.why_not,
                                .kvm_ratio = std::nullopt,
                                .soft_ratio = std::nullopt};
  if (soft)
    accelerator.soft_ratio = soft->ratio();
  else
    accelerator.soft_trouble = soft.error().message;
  if (choice.why_not.empty()) accelerator.reason = "the probe guest runs as it should";
  if (choice.probe && choice.probe->runs && choice.probe->native_rate > 0)
    accelerator.kvm_ratio = choice.probe->kernel_ratio();
  return accelerator;
}

std::string describe_ratio(double ratio) {
  if (ratio <= 0) return "not measured";
  if (ratio >= 1) return "as fast as native";
  const double times = 1 / ratio;
  return fmt::format("{:.{}f} times native time", times, times < 10 ? 2 : 0);
}

/// `text` in lines of at most `columns` (0: in one), all but the first behind `indent` blanks.
std::string wrap(std::string_view text, size_t indent, size_t columns) {
  constexpr size_t kLeast = 20;
  if (columns == 0) return std::string(text);
  const size_t width = std::max(columns, indent + kLeast) - indent;
  std::string wrapped;
  while (text.size() > width) {
    size_t end = text.rfind(' ', width);
    if (end == std::string_view::npos) end = text.find(' ');
    if (end == std::string_view::npos) break;
    wrapped += fmt::format("{}\n{:{}}", text.substr(0, end), "", indent);
    text.remove_prefix(end + 1);
  }
  return wrapped + std::string(text);
}

}  // namespace

Report make_report(const HostFiles& files, const Processor& processor, const kvm::Choice& choice,
                   const Result<SoftSpeed>& soft, const TryUserfaultfd& userfaultfd) {
  Report report;
  report.sections.push_back({"processor", processor_findings(files, processor)});
  report.sections.push_back({"kvm", kvm_findings(files, processor, choice)});
  report.sections.push_back({"memory", memory_findings(files, userfaultfd)});
  report.sections.push_back({"devices", device_findings(files, processor)});
  report.accelerator = choose_accelerator(choice, soft);
  return report;
}

std::string text_of(const Report& report, const Style& style) {
  const auto paint = [&](std::string_view with, std::string_view text) {
    return style.colour ? fmt::format("{}{}{}", with, text, kPlain) : std::string(text);
  };
  size_t name_width = 0;
  for (const auto& section : report.sections)
    for (const auto& finding : section.findings)
      name_width = std::max(name_width, finding.name.size());
  constexpr size_t kVerdictWidth = 7;
  const size_t indent = 2 + name_width + 2 + kVerdictWidth + 2;

  std::string text;
  for (const auto& section : report.sections) {
    text += paint(kBold, section.title) + "\n";
    for (const auto& finding : section.findings) {
      const auto verdict = fmt::format("{:<{}}", name_of(finding.verdict), kVerdictWidth);
      text += fmt::format("  {:<{}}  {}  {}\n", finding.name, name_width,
                          paint(colour_of(finding.verdict), verdict),
                          wrap(finding.text, indent, style.columns));
      if (!finding.advice.empty())
        text += fmt::format("{:{}}-> {}\n", "", indent,
                            wrap(finding.advice, indent + 3, style.columns));
    }
  }
  const auto& accelerator = report.accelerator;
  text += paint(kBold, "accelerator") + "\n";
  const auto line = [&](std::string_view name, std::string_view value) {
    text += fmt::format("  {:<{}}  {}\n", name, name_width, value);
  };
  line("-accel kvm:soft",
       fmt::format("takes {}: {}", paint(kBold, accelerator.name), accelerator.reason));
  if (accelerator.kvm_ratio) line("kvm, ring 0", describe_ratio(*accelerator.kvm_ratio));
  line("soft", accelerator.soft_ratio ? describe_ratio(*accelerator.soft_ratio)
                                      : "not measured: " + accelerator.soft_trouble);
  return text;
}

ordered_json json_of(const Report& report) {
  ordered_json findings = ordered_json::object();
  for (const auto& section : report.sections)
    for (const auto& finding : section.findings) {
      auto& entry = findings[finding.key];
      entry = {{"section", section.title},
               {"value", finding.value},
               {"verdict", name_of(finding.verdict)},
               {"text", finding.text}};
      if (!finding.advice.empty()) entry["advice"] = finding.advice;
    }
  const auto ratio = [](const std::optional<double>& value) {
    return value ? ordered_json(*value) : ordered_json(nullptr);
  };
  const auto& accelerator = report.accelerator;
  return {{"findings", findings},
          {"accelerator",
           {{"choice", accelerator.name},
            {"reason", accelerator.reason},
            {"native-ratio",
             {{"kvm", ratio(accelerator.kvm_ratio)}, {"soft", ratio(accelerator.soft_ratio)}}}}}};
}

}  // namespace limen::cli::host
