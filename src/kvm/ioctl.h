// Calls of /dev/kvm and of the file descriptors that it gives.
#pragma once

#include <sys/ioctl.h>

#include <cerrno>
#include <string>

#include "base/result.h"

namespace limen::kvm {

/// ioctl(2), again after a signal; what it returns, or -1 and errno.
template <typename Argument>
int call(int fd, unsigned long request, Argument argument) {
  int result = 0;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

/// As call(); the error says `name` (of the request, as in linux/kvm.h).
template <typename Argument>
Result<int> try_call(int fd, unsigned long request, const char* name, Argument argument) {
  const int result = call(fd, request, argument);
  if (result < 0) return fail_errno(errno, name);
  return result;
}

}  // namespace limen::kvm
