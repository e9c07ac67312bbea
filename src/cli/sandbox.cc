#include <linux/sched.h>
#include <seccomp.h>
#include <sys/prctl.h>

#include <array>
#include <cerrno>
#include <initializer_list>

#include "cli/process.h"

namespace limen::cli {
namespace {

// Groups as QEMU's documentation of -sandbox names them.
constexpr std::array kNeverNeeded = {
    // Administration of the host.
    SCMP_SYS(reboot),  SCMP_SYS(swapon),   SCMP_SYS(swapoff),    SCMP_SYS(syslog),
    SCMP_SYS(mount),   SCMP_SYS(umount2),  SCMP_SYS(kexec_load), SCMP_SYS(afs_syscall),
    SCMP_SYS(break),   SCMP_SYS(ftime),    SCMP_SYS(getpmsg),    SCMP_SYS(gtty),
    SCMP_SYS(lock),    SCMP_SYS(mpx),      SCMP_SYS(prof),       SCMP_SYS(profil),
    SCMP_SYS(putpmsg), SCMP_SYS(security), SCMP_SYS(stty),       SCMP_SYS(tuxcall),
    SCMP_SYS(ulimit),  SCMP_SYS(vserver)};
constexpr std::array kObsolete = {
    SCMP_SYS(readdir),         SCMP_SYS(_sysctl),      SCMP_SYS(bdflush),  SCMP_SYS(create_module),
    SCMP_SYS(get_kernel_syms), SCMP_SYS(query_module), SCMP_SYS(sgetmask), SCMP_SYS(ssetmask),
    SCMP_SYS(sysfs),           SCMP_SYS(uselib),       SCMP_SYS(ustat)};
constexpr std::array kPrivileges = {SCMP_SYS(setuid),    SCMP_SYS(setgid),    SCMP_SYS(setpgid),
                                    SCMP_SYS(setsid),    SCMP_SYS(setreuid),  SCMP_SYS(setregid),
                                    SCMP_SYS(setresuid), SCMP_SYS(setresgid), SCMP_SYS(setfsuid),
                                    SCMP_SYS(setfsgid)};
constexpr std::array kSpawn = {SCMP_SYS(fork),     SCMP_SYS(vfork), SCMP_SYS(execve),
                               SCMP_SYS(execveat), SCMP_SYS(setns), SCMP_SYS(unshare)};
constexpr std::array kResources = {SCMP_SYS(setpriority),       SCMP_SYS(sched_setparam),
                                   SCMP_SYS(sched_setaffinity), SCMP_SYS(sched_setscheduler),
                                   SCMP_SYS(sched_setattr),     SCMP_SYS(ioprio_set)};

class Filter {
 public:
  Filter() : context_(::seccomp_init(SCMP_ACT_ALLOW)) {}
  ~Filter() {
    if (context_ != nullptr) ::seccomp_release(context_);
  }
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;

  template <size_t kCount>
  Result<> deny(uint32_t action, const std::array<int, kCount>& calls) {
    if (context_ == nullptr) return fail("failed to install seccomp syscall filter in the kernel");
    for (const int call : calls)
      if (const int error = ::seccomp_rule_add(context_, action, call, 0); error < 0)
        return fail_errno(-error, "failed to install seccomp syscall filter in the kernel");
    return {};
  }
  /// clone() makes threads; a process it does not.
  Result<> deny_processes() {
    if (const int error = ::seccomp_rule_add(context_, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                             SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
        error < 0)
      return fail_errno(-error, "failed to install seccomp syscall filter in the kernel");
    // Its flags lie in memory, where a filter cannot look; the C library then uses clone().
    return deny(SCMP_ACT_ERRNO(ENOSYS), std::array{SCMP_SYS(clone3)});
  }
  Result<> load() {
    static_cast<void>(::seccomp_attr_set(context_, SCMP_FLTATR_CTL_TSYNC, 1));
    if (const int error = ::seccomp_load(context_); error < 0)
      return fail_errno(-error, "failed to install seccomp syscall filter in the kernel");
    return {};
  }

 private:
  scmp_filter_ctx context_;
};

}  // namespace

Result<> enter_sandbox(const qemu::ProcessOptions& options) {
  if (!options.sandbox) return {};
  const auto policy = [&](const char* group) {
    const auto found = options.sandbox_policies.find(group);
    return found == options.sandbox_policies.end() ? std::string() : found->second;
  };
  Filter filter;
  constexpr uint32_t kKill = SCMP_ACT_KILL_PROCESS;
  LIMEN_TRY(filter.deny(kKill, kNeverNeeded));
  if (policy("obsolete") == "deny") LIMEN_TRY(filter.deny(kKill, kObsolete));
  if (policy("elevateprivileges") == "deny") LIMEN_TRY(filter.deny(kKill, kPrivileges));
  if (policy("elevateprivileges") != "allow" && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return fail_errno(errno, "failed to set no_new_privs");
  if (policy("spawn") == "deny") {
    LIMEN_TRY(filter.deny(kKill, kSpawn));
    LIMEN_TRY(filter.deny_processes());
  }
  if (policy("resourcecontrol") == "deny")
    LIMEN_TRY(filter.deny(SCMP_ACT_ERRNO(EPERM), kResources));
  return filter.load();
}

}  // namespace limen::cli
