// `limen host`: what this host offers to machines.
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "cli/host/report.h"
#include "cli/programs.h"

namespace limen::cli {
namespace {

/// Of standard output. A terminal has colours if it is not told otherwise (https://no-color.org).
host::Style style() {
  if (::isatty(STDOUT_FILENO) != 1) return {};
  winsize size{};
  (void)::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
  const auto text = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string_view(value == nullptr ? "" : value);
  };
  return {.colour = text("NO_COLOR").empty() && text("TERM") != "dumb", .columns = size.ws_col};
}

bool write_out(const std::string& text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
         std::fflush(stdout) == 0;
}

}  // namespace

int host_main(const std::string& program, bool json) {
  constexpr int kKvm = 0, kSoft = 1;
  const host::HostFiles files;
  const auto report =
      host::make_report(files, host::read_processor(), kvm::choose(files.path("dev/kvm")),
                        host::measure_soft(), host::try_userfaultfd);
  const auto text = json ? host::json_of(report).dump(
                               2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
                               "\n"
                         : host::text_of(report, style());
  if (!write_out(text)) {
    complain(program, fail_errno(errno, "host: cannot write to standard output").error());
    return kHostError;
  }
  return report.accelerator.name == "kvm" ? kKvm : kSoft;
}

}  // namespace limen::cli
