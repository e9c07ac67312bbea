#include "cli/process.h"

#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>

#include "base/delayed_library.h"

namespace limen::cli {
namespace {

/// Waits for the background process's word and ends with it.
[[noreturn]] void wait_for_answer(int fd) {
  char answer = 1;
  ssize_t count = 0;
  do {
    count = ::read(fd, &answer, 1);
  } while (count < 0 && errno == EINTR);
  ::_exit(count == 1 ? answer : 1);
}

}  // namespace

Result<Background> Background::enter() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "cannot create pipe");
  UniqueFd read_end(ends[0]);
  Background background;
  background.answer_.reset(ends[1]);
  const pid_t first = ::fork();
  if (first < 0) return fail_errno(errno, "cannot fork");
  if (first > 0) {
    background.answer_.reset();
    wait_for_answer(read_end.get());
  }
  read_end.reset();
  // A leader of a session could get a terminal again; its child cannot.
  ::setsid();
  const pid_t second = ::fork();
  if (second < 0) ::_exit(1);
  if (second > 0) ::_exit(0);
  ::umask(027);
  for (const int signal : {SIGTSTP, SIGTTOU, SIGTTIN}) ::signal(signal, SIG_IGN);
  return background;
}

Result<> Background::ready() {
  const UniqueFd nowhere(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!nowhere.valid()) return fail_errno(errno, "not able to open /dev/null");
  if (::chdir("/") != 0) return fail_errno(errno, "not able to chdir to /");
  for (int fd = 0; fd < 3; ++fd)
    if (::dup2(nowhere.get(), fd) < 0) return fail_errno(errno, "redirecting to /dev/null");
  const char answer = 0;
  [[maybe_unused]] const auto written = ::write(answer_.get(), &answer, 1);
  answer_.reset();
  return {};
}

Result<std::unique_ptr<PidFile>> PidFile::create(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd.valid()) return fail_errno(errno, fmt::format("cannot create PID file: {}", path));
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(fd.get(), F_SETLK, &lock) != 0)
    return fail("cannot create PID file: Cannot lock {}: another process has it", path);
  const auto text = fmt::format("{}\n", ::getpid());
  if (::ftruncate(fd.get(), 0) != 0 ||
      ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail_errno(errno, fmt::format("cannot create PID file: {}", path));
  // Its folder may be another one by the time that it is removed.
  std::error_code ignored;
  auto absolute = std::filesystem::absolute(path, ignored).string();
  return std::unique_ptr<PidFile>(new PidFile(std::move(fd), std::move(absolute)));
}

PidFile::~PidFile() { ::unlink(path_.c_str()); }

void limit_thread_stacks() {
  constexpr size_t kStackSize = size_t{1} << 20;
  pthread_attr_t attributes;
  if (::pthread_getattr_default_np(&attributes) != 0) return;
  // What cannot be set stays as large as it was.
  if (::pthread_attr_setstacksize(&attributes, kStackSize) == 0)
    static_cast<void>(::pthread_setattr_default_np(&attributes));
  ::pthread_attr_destroy(&attributes);
}

Result<> lock_memory(const qemu::ProcessOptions& options) {
  if (options.lock_memory && ::mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
    return fail_errno(errno, "-overcommit mem-lock=on: mlockall");
  return {};
}

Result<> change_user(const qemu::ProcessOptions& options) {
  uid_t user = 0;
  gid_t group = 0;
  std::string name;
  if (!options.user.empty()) {
    const auto colon = options.user.find(':');
    if (const passwd* entry = ::getpwnam(options.user.c_str())) {
      user = entry->pw_uid;
      group = entry->pw_gid;
      name = entry->pw_name;
    } else {
      const auto number = [](std::string_view text, auto& into) {
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into);
        return error == std::errc() && end == text.data() + text.size();
      };
      if (colon == std::string::npos ||
          !number(std::string_view(options.user).substr(0, colon), user) ||
          !number(std::string_view(options.user).substr(colon + 1), group))
        return fail("User \"{}\" doesn't exist (and is not <uid>:<gid>)", options.user);
    }
  }
  if (!options.chroot.empty()) {
    load_delayed_libraries();
    if (::chroot(options.chroot.c_str()) != 0)
      return fail_errno(errno, fmt::format("chroot to {} failed", options.chroot));
    if (::chdir("/") != 0) return fail_errno(errno, "not able to chdir to /");
  }
  if (options.user.empty()) return {};
  if (name.empty() ? ::setgroups(1, &group) != 0 : ::initgroups(name.c_str(), group) != 0)
    return fail_errno(errno, fmt::format("Failed to set the groups of {}", options.user));
  if (::setgid(group) != 0) return fail_errno(errno, fmt::format("Failed to setgid({})", group));
  if (::setuid(user) != 0) return fail_errno(errno, fmt::format("Failed to setuid({})", user));
  if (user != 0 && ::setuid(0) != -1) return fail("Dropping privileges failed");
  return {};
}

}  // namespace limen::cli
