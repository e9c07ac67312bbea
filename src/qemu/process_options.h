// What a command line says about the process rather than about the machine.
#pragma once

#include <map>
#include <string>

namespace limen::qemu {

struct ProcessOptions {
  bool daemonize = false;
  std::string pid_file = {};
  bool timestamps = false;  ///< -msg timestamp=on.
  std::string user = {};    ///< -run-with user= and -runas: a name, or UID:GID.
  std::string chroot = {};
  bool lock_memory = false;  ///< -overcommit mem-lock=on.
  bool sandbox = false;
  /// -sandbox: "obsolete", "elevateprivileges", "spawn", "resourcecontrol": what is denied.
  std::map<std::string, std::string> sandbox_policies = {};
};

}  // namespace limen::qemu
