// What a host says of itself in files, below a root folder: "/", or what a test made up.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace limen::cli::host {

/// Whether this user may open a device file for reading and writing.
struct Access {
  int error = 0;               ///< errno of the open(); 0: yes.
  std::string group = {};      ///< Whom it belongs to; its number where the group has no name.
  bool for_group = false;      ///< The group may read and write.
  bool foreign_group = false;  ///< It is a group of another user namespace.
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
  /// own it counts there only. Nothing: /proc does not say.
  [[nodiscard]] std::optional<bool> has_capability(unsigned number) const;
  /// This process is in the host's first user namespace, whose capabilities count everywhere.
  [[nodiscard]] bool in_first_user_namespace() const;

 private:
  /// Nothing: it has no name.
  [[nodiscard]] std::optional<std::string> group_name(unsigned number) const;

  std::string root_;
};

/// "/dev/kvm is not there", or that nothing is behind it; of an access that is not there().
[[nodiscard]] std::string absence_of(const Access& access, std::string_view device);
/// What to do about a device file that is there and not granted: to let the group or the container
/// in, to become a member, or to make the file anew, which `remake` says how to do. Empty where it
/// is granted or not there.
[[nodiscard]] std::string advice_on(const Access& access, std::string_view device,
                                    std::string_view remake);

}  // namespace limen::cli::host
