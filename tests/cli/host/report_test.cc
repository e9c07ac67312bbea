#include "cli/host/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/host/made_up_host.h"

namespace limen::cli::host {
namespace {

using testing::HasSubstr;
using testing::Not;

int has_userfaultfd(int) { return 0; }

Report report_of(const kvm::Choice& choice) {
  const MadeUpHost host;
  return make_report(host.files(), Processor{.name = "made up"}, choice,
                     SoftSpeed{.native_rate = 100, .soft_rate = 50}, has_userfaultfd);
}

kvm::ProbeResult good_probe() {
  return {.runs = true,
          .native_rate = 4e9,
          .kernel_rate = 4e9,
          .user_rate = 4e9,
          .breakpoint = true,
          .system_call = true,
          .trouble = {}};
}

TEST(HostReport, TakesKvmWhereNothingSpeaksAgainstIt) {
  kvm::Choice choice;
  choice.probe = good_probe();
  const auto report = report_of(choice);
  EXPECT_EQ(report.accelerator.name, "kvm");
  const auto json = json_of(report);
  EXPECT_EQ(json["accelerator"]["choice"], "kvm");
  EXPECT_EQ(json["accelerator"]["native-ratio"]["kvm"], 1.0);
  EXPECT_EQ(json["accelerator"]["native-ratio"]["soft"], 0.5);
  EXPECT_THAT(text_of(report, {}), HasSubstr("takes kvm: "));
}

TEST(HostReport, TakesSoftAndSaysWhy) {
  kvm::Choice choice;
  choice.why_not = "/dev/kvm is not there";
  const auto report = report_of(choice);
  EXPECT_EQ(report.accelerator.name, "soft");
  const auto json = json_of(report);
  EXPECT_EQ(json["accelerator"]["reason"], "/dev/kvm is not there");
  EXPECT_EQ(json["accelerator"]["native-ratio"]["kvm"], nullptr);
  const auto text = text_of(report, {});
  EXPECT_THAT(text, HasSubstr("takes soft: /dev/kvm is not there\n"));
  EXPECT_THAT(text, HasSubstr("2.00 times native time"));
}

TEST(HostReport, JsonHasEveryFindingByItsKey) {
  const auto report = report_of({});
  const auto findings = json_of(report)["findings"];
  size_t count = 0;
  for (const auto& section : report.sections)
    for (const auto& finding : section.findings) {
      ++count;
      ASSERT_TRUE(findings.contains(finding.key)) << finding.key;
      EXPECT_EQ(findings[finding.key]["section"], section.title);
      EXPECT_EQ(findings[finding.key]["value"], finding.value);
      EXPECT_EQ(findings[finding.key].contains("advice"), !finding.advice.empty());
    }
  EXPECT_EQ(findings.size(), count);
  EXPECT_EQ(findings["tsc"]["verdict"], "warning");
}

TEST(HostReport, TextIsPaintedAndWrappedForATerminalAlone) {
  const auto report = report_of({});
  EXPECT_THAT(text_of(report, {}), Not(HasSubstr("\x1b")));
  EXPECT_THAT(text_of(report, {.colour = true}), HasSubstr("\x1b[31mmissing\x1b[0m"));
  std::istringstream lines(text_of(report, {.columns = 80}));
  size_t longest = 0;
  for (std::string line; std::getline(lines, line);)
    if (line.find("/sys/") == std::string::npos) longest = std::max(longest, line.size());
  EXPECT_LE(longest, 80u);
  EXPECT_GT(longest, 60u);
}

TEST(HostSoftSpeed, GuestComputesWhatTheProcessorDoesAtAPartOfItsSpeed) {
  const auto speed = measure_soft();
  ASSERT_TRUE(speed) << speed.error().message;
  EXPECT_GT(speed->native_rate, speed->soft_rate / 2);
  EXPECT_GT(speed->ratio(), 0.01);
}

}  // namespace
}  // namespace limen::cli::host
