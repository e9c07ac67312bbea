#include "base/trace.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "base/unique_fd.h"

namespace limen::trace {
namespace {

/// Filled in by constructors of static objects, in whatever order they run.
std::vector<Event*>& registry() {
  static std::vector<Event*> all;
  return all;
}

UniqueFd& file() {
  static UniqueFd descriptor;
  return descriptor;
}

bool matches(std::string_view pattern, std::string_view name) {
  size_t at = 0, in_name = 0, star = std::string_view::npos, resumed = 0;
  while (in_name < name.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      resumed = in_name;
    } else if (at < pattern.size() && (pattern[at] == '?' || pattern[at] == name[in_name])) {
      ++at;
      ++in_name;
    } else if (star != std::string_view::npos) {
      // The star takes one character more.
      at = star + 1;
      in_name = ++resumed;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', at) == std::string_view::npos;
}

}  // namespace

Event::Event(std::string_view name) : name_(name) { registry().push_back(this); }

void Event::write(std::string_view text) const {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  const auto line = fmt::format("{}@{}.{:06}:{} {}\n", ::getpid(), microseconds / 1'000'000,
                                microseconds % 1'000'000, name_, text);
  const int fd = file().valid() ? file().get() : STDERR_FILENO;
  // One call, so that lines of several threads do not mix. A full disk must not stop the machine.
  [[maybe_unused]] const auto written = ::write(fd, line.data(), line.size());
}

std::vector<Event*> events() {
  auto all = registry();
  std::ranges::sort(all, {}, &Event::name);
  return all;
}

size_t choose(std::string_view pattern) {
  const bool off = pattern.starts_with('-');
  if (off) pattern.remove_prefix(1);
  size_t count = 0;
  for (Event* event : registry()) {
    if (!matches(pattern, event->name())) continue;
    event->switch_to(!off);
    ++count;
  }
  return count;
}

Result<> write_to(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd.valid()) return fail_errno(errno, fmt::format("cannot open trace file '{}'", path));
  struct stat status {};
  // What an earlier run wrote is not this one's; a device or pipe stays as it is.
  if (::fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode) && ::ftruncate(fd.get(), 0) != 0)
    return fail_errno(errno, fmt::format("cannot write trace file '{}'", path));
  file() = std::move(fd);
  return {};
}

}  // namespace limen::trace
