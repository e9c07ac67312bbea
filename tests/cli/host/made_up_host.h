// A host that a test makes up: files below a temporary folder.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "cli/host/finding.h"
#include "cli/host/host_files.h"

namespace limen::cli::host {

class MadeUpHost {
 public:
  MadeUpHost() {
    EXPECT_NE(::mkdtemp(root_.data()), nullptr);
    EXPECT_EQ(::chmod(root_.c_str(), 0755), 0);
  }
  ~MadeUpHost() { std::filesystem::remove_all(root_); }
  MadeUpHost(const MadeUpHost&) = delete;
  MadeUpHost& operator=(const MadeUpHost&) = delete;

  void put(const std::string& name, std::string_view text, unsigned mode = 0644) const {
    const auto path = root_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
  }
  /// A file that open() refuses as it does a device file without a driver: with ENXIO.
  void put_without_driver(const std::string& name) const {
    const auto path = root_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  void give_to_group(const std::string& name, unsigned group) const {
    EXPECT_EQ(::chown((root_ + "/" + name).c_str(), 0, group), 0);
  }
  [[nodiscard]] HostFiles files() const { return HostFiles(root_); }

 private:
  std::string root_ = "/tmp/limen_host_XXXXXX";
};

/// While it lives, this thread opens files as nobody does.
class AsNobody {
 public:
  AsNobody() {
    ::setfsgid(kNobody);
    ::setfsuid(kNobody);
  }
  ~AsNobody() {
    ::setfsuid(0);
    ::setfsgid(0);
  }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  static constexpr unsigned kNobody = 65534;
};

inline Finding find(const Findings& findings, std::string_view key) {
  for (const auto& finding : findings)
    if (finding.key == key) return finding;
  ADD_FAILURE() << "no finding " << key;
  return {};
}

}  // namespace limen::cli::host
