#include "cli/host/memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <sstream>

#include "base/unique_fd.h"
#include "machine/host_limits.h"

namespace limen::cli::host {
namespace {

std::optional<uint64_t> number(const std::optional<std::string>& text) {
  uint64_t value = 0;
  if (!text) return std::nullopt;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc{} || end != text->data() + text->size()) return std::nullopt;
  return value;
}

/// Of "always [madvise] never" what is in brackets.
std::string chosen(const std::string& text) {
  const auto open = text.find('['), close = text.find(']');
  if (open == std::string::npos || close == std::string::npos || close < open) return text;
  return text.substr(open + 1, close - open - 1);
}

Finding transparent_huge_pages(const HostFiles& files) {
  Finding finding{.key = "transparent-huge-pages",
                  .name = "transparent huge pages",
                  .value = nullptr,
                  .text = "not in this kernel"};
  const auto mode = files.read("sys/kernel/mm/transparent_hugepage/enabled");
  if (!files.exists("sys/kernel/mm")) return unknown(finding, "sys/kernel/mm");
  if (!mode) {
    finding.verdict = Verdict::kMissing;
    finding.advice = "a kernel with CONFIG_TRANSPARENT_HUGEPAGE runs guests faster";
    return finding;
  }
  const auto shared =
      chosen(files.read("sys/kernel/mm/transparent_hugepage/shmem_enabled").value_or("never"));
  finding.value = {{"private", chosen(*mode)}, {"shared", shared}};
  finding.text = fmt::format("{}; of shared memory: {}", chosen(*mode), shared);
  const bool no_private = chosen(*mode) == "never",
             no_shared = shared == "never" || shared == "deny";
  if (!no_private && !no_shared) return finding;
  finding.verdict = Verdict::kWarning;
  finding.advice = no_shared ? "guest memory gets them as it is touched after: echo advise > "
                               "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
                             : "the engine's tables get them after: echo madvise > "
                               "/sys/kernel/mm/transparent_hugepage/enabled";
  return finding;
}

Finding reserved_huge_pages(const HostFiles& files) {
  Finding finding{.key = "reserved-huge-pages",
                  .name = "reserved huge pages",
                  .value = nlohmann::ordered_json::array(),
                  .text = {}};
  if (!files.exists("sys/kernel/mm")) return unknown(finding, "sys/kernel/mm");
  uint64_t all = 0;
  for (const auto& name : files.list("sys/kernel/mm/hugepages")) {
    constexpr std::string_view kPrefix = "hugepages-", kSuffix = "kB";
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) continue;
    const auto size =
        number(name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size()));
    const auto folder = "sys/kernel/mm/hugepages/" + name;
    const auto total = number(files.read(folder + "/nr_hugepages"));
    const auto free = number(files.read(folder + "/free_hugepages"));
    if (!size || !total || !free) continue;
    all += *total;
    finding.value.push_back({{"size", *size << 10}, {"total", *total}, {"free", *free}});
    if (*total > 0)
      finding.text += fmt::format("{}{} of {} free, of {}", finding.text.empty() ? "" : "; ", *free,
                                  *total, machine::describe_size(*size << 10));
  }
  if (all > 0) return finding;
  finding.text = "none";
  finding.verdict = Verdict::kMissing;
  finding.advice =
      "only guests whose memory is to come from hugetlbfs need them: sysctl "
      "vm.nr_hugepages=N";
  return finding;
}

constexpr unsigned kIpcLock = 14;  ///< capabilities(7)

Finding locked_memory(const HostFiles& files) {
  Finding finding{.key = "locked-memory", .name = "locked memory", .value = nullptr, .text = {}};
  if (!files.exists("proc/self")) return unknown(finding, "proc/self");
  // proc(5): name, soft limit, hard limit, unit, in columns.
  std::istringstream lines(files.read("proc/self/limits").value_or(""));
  constexpr std::string_view kName = "Max locked memory";
  std::string limit;
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(kName)) std::istringstream(line.substr(kName.size())) >> limit;
  const bool unlimited = limit == "unlimited" || (files.has_capability(kIpcLock) == true &&
                                                  files.in_first_user_namespace());
  if (unlimited) {
    finding.value = "unlimited";
    finding.text = "unlimited";
    return finding;
  }
  finding.verdict = Verdict::kWarning;
  finding.advice =
      "-overcommit mem-lock=on wants a guest's memory and some more: ulimit -l "
      "unlimited, or LimitMEMLOCK=infinity of a service";
  const auto bytes = number(limit);
  if (bytes) finding.value = *bytes;
  finding.text = bytes ? fmt::format("at most {}", machine::describe_size(*bytes)) : "unknown";
  return finding;
}

Finding map_count(const HostFiles& files) {
  // An engine with 64 processors has some 900 mappings.
  constexpr uint64_t kEnough = 4096;
  Finding finding{.key = "map-count", .name = "mappings", .value = nullptr, .text = "unknown"};
  if (!files.exists("proc/sys/vm")) return unknown(finding, "proc/sys/vm");
  const auto most = number(files.read("proc/sys/vm/max_map_count"));
  if (most) {
    finding.value = *most;
    finding.text = fmt::format("at most {}", *most);
    if (*most >= kEnough) return finding;
  }
  finding.verdict = Verdict::kWarning;
  finding.advice = fmt::format("soft wants {}: sysctl vm.max_map_count=65530", kEnough);
  return finding;
}

Finding userfaultfd(const HostFiles& files, const TryUserfaultfd& attempt) {
  Finding finding{
      .key = "userfaultfd", .name = "userfaultfd", .value = "all", .text = "all faults"};
  const int error = attempt(0);
  if (error == 0 || files.access("dev/userfaultfd").granted()) return finding;
  if (attempt(UFFD_USER_MODE_ONLY) == 0) {
    finding.value = "user";
    finding.text = "faults in user mode only";
    finding.verdict = Verdict::kWarning;
    finding.advice =
        "for those of kvm and vhost, too: sysctl vm.unprivileged_userfaultfd=1, or let "
        "this user open /dev/userfaultfd";
    return finding;
  }
  finding.value = nullptr;
  finding.text = error == ENOSYS ? "not in this kernel" : std::strerror(error);
  finding.verdict = Verdict::kMissing;
  finding.advice = error == ENOSYS ? "a kernel with CONFIG_USERFAULTFD has it"
                                   : "a sandbox around this process may forbid it (seccomp); or "
                                     "sysctl vm.unprivileged_userfaultfd=1";
  return finding;
}

}  // namespace

int try_userfaultfd(int flags) {
  const UniqueFd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags)));
  return fd.valid() ? 0 : errno;
}

Findings memory_findings(const HostFiles& files, const TryUserfaultfd& attempt) {
  return {transparent_huge_pages(files), reserved_huge_pages(files), locked_memory(files),
          map_count(files), userfaultfd(files, attempt)};
}

}  // namespace limen::cli::host
