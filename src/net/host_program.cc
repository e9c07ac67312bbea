#include "net/host_program.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

extern char** environ;

namespace limen::net {
namespace {

/// Takes the descriptor that stands beside one byte. Does not wait: the sender has ended.
Result<UniqueFd> receive_descriptor(int socket) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) > 0)
    if (const cmsghdr* header = CMSG_FIRSTHDR(&message);
        header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int))) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
      return UniqueFd(fd);
    }
  return fail("bridge helper sent no device");
}

}  // namespace

Result<> run_host_program(const std::string& what, std::vector<std::string> words,
                          std::optional<int> inherited) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (auto& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);

  // All descriptors of this process are closed by exec, but for one that is its own duplicate. The
  // signals that this process takes otherwise are not the program's to ignore.
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  if (inherited) ::posix_spawn_file_actions_adddup2(&files, *inherited, *inherited);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t child = 0;
  const int error =
      ::posix_spawn(&child, pointers[0], &files, &attributes, pointers.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0) return fail("could not launch {} {}: {}", what, words[0], std::strerror(error));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return fail_errno(errno, fmt::format("waiting for {} {}", what, words[0]));
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFEXITED(status))
    return fail("{} {} failed with status {}", what, words[0], WEXITSTATUS(status));
  return fail("{} {} died of signal {}", what, words[0], WTERMSIG(status));
}

Result<UniqueFd> ask_bridge_helper(const std::string& helper, const std::string& bridge,
                                   bool header) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return fail_errno(errno, "socketpair");
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  std::vector<std::string> own = {helper};
  if (header) own.emplace_back("--use-vnet");
  own.push_back(fmt::format("--fd={}", theirs.get()));
  own.push_back("--br=" + bridge);
  if (helper.find_first_of(" \t") != std::string::npos)
    own = {"/bin/sh", "-c", fmt::format("{}", fmt::join(own, " "))};
  LIMEN_TRY(run_host_program("bridge helper", std::move(own), theirs.get()));
  theirs.reset();
  return receive_descriptor(ours.get());
}

}  // namespace limen::net
