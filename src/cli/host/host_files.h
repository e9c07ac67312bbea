// What a host says of itself in files, below a root folder: "/", or what a test made up.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace limen::cli::host {

/// Whether this user may open a device file for reading and writing.
struct Access {
  int error = 0;           ///< errno of the open(); 0: yes.
  std::string group = {};  ///< Whom it belongs to; its number where the group has no name.
  bool for_group = false;  ///< The group may read and write.
  [[nodiscard]] bool granted() const { return error == 0; }
  [[nodiscard]] bool there() const;  ///< False: there is no such file, or no driver behind it.
};

class HostFiles {
 public:
  explicit HostFiles(std::string root = "/");

  /// Below the root; `name` has no slash in front, as in "proc/self/limits".
  [[nodiscard]] std::string path(std::string_view name) const;
  /// The file's text without blanks at its end; nothing: it cannot be read.
  [[nodiscard]] std::optional<std::string> read(std::string_view name) const;
  [[nodiscard]] bool exists(std::string_view name) const;
  /// Names in the folder, sorted; none where there is no such folder.
  [[nodiscard]] std::vector<std::string> list(std::string_view name) const;
  [[nodiscard]] Access access(std::string_view name) const;
  /// This process has the capability, by its number in capabilities(7). In a user namespace of its
  /// own it counts there only.
  [[nodiscard]] bool has_capability(unsigned number) const;
  /// This process is in the host's first user namespace, whose capabilities count everywhere.
  [[nodiscard]] bool in_first_user_namespace() const;

 private:
  [[nodiscard]] std::string group_name(unsigned number) const;

  std::string root_;
};

/// What to do about a device file that is not granted: to let the group in, or to become a member.
/// Empty where that is not what is wrong.
[[nodiscard]] std::string advice_on(const Access& access, std::string_view device);

}  // namespace limen::cli::host
