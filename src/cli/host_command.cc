// `limen host`: what this host offers to machines.
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
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

}  // namespace

int host_main(const std::string& program, bool json) {
  constexpr int kKvm = 0, kSoft = 1;
  const host::HostFiles files;
  const auto soft = host::measure_soft();
  if (!soft) {
    complain(program, {"host: " + soft.error().message});
    return kHostError;
  }
  const auto report =
      host::make_report(files, host::read_processor(), kvm::choose(files.path("dev/kvm")), *soft,
                        host::try_userfaultfd);
  if (json)
    fmt::print("{}\n", host::json_of(report).dump(
                           2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  else
    fmt::print("{}", host::text_of(report, style()));
  return report.accelerator.name == "kvm" ? kKvm : kSoft;
}

}  // namespace limen::cli
