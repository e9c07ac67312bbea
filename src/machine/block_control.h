// What a monitor does to the disks of a machine while it runs. On the loop's thread.
//
// Errors are worded as QEMU's.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "machine/block_node.h"
#include "machine/board.h"
#include "machine/drive.h"

namespace limen::machine {

class BlockControl {
 public:
  explicit BlockControl(Board& board) : board_(board), drives_(board.drives()) {}

  /// The drive with that id; not a node. Null: there is none.
  [[nodiscard]] Drive* find_drive(std::string_view id);
  /// The drive of the device with that id or path.
  [[nodiscard]] Drive* find_by_device(std::string_view device);
  /// The drive whose first node has that name.
  [[nodiscard]] Drive* find_node(std::string_view name);

  Result<> add_node(const nlohmann::json& options);
  Result<> delete_node(const std::string& name);
  /// One that no device has; its image is closed.
  Result<> delete_drive(const std::string& id);

  Result<> resize(Drive& drive, uint64_t size);

  struct Overlay {
    std::string file;
    std::string format = "qcow2";
    std::string node_name;  ///< "": one is made up.
    bool existing = false;  ///< It is there already.
  };
  /// What is written from now on goes into a file of its own; what the drive had so far is only
  /// read.
  Result<> snapshot(Drive& drive, const Overlay& overlay);
  /// The same with a node that is there.
  Result<> snapshot(Drive& drive, const std::string& overlay_node);
  /// Whether snapshot() has a chance; changes nothing.
  Result<> check_snapshot(Drive& drive, const Overlay& overlay);

  // Removable media; `called` is what the user called the drive, for messages.

  struct Medium {
    std::string file;
    std::string format = {};             ///< "": to be guessed.
    std::optional<bool> read_only = {};  ///< Nothing: as it was.
  };
  /// Whether the tray is open now; otherwise the guest was asked to let the medium go.
  Result<bool> open_tray(Drive& drive, bool force, const std::string& called);
  Result<> close_tray(Drive& drive, const std::string& called);
  Result<> remove_medium(Drive& drive, const std::string& called);
  Result<> insert_medium(Drive& drive, const std::string& node, const std::string& called);
  Result<> change_medium(Drive& drive, const Medium& medium, bool force, const std::string& called);

 private:
  Result<> check_name(const std::string& node_name);
  Result<> check_overlay(const Drive& drive, const std::string& file);
  Result<> switch_to(Drive& drive, DriveDescription fresh);
  Result<> insert(Drive& drive, const DriveDescription& description, const std::string& called);

  Board& board_;
  std::vector<Drive>& drives_;
};

}  // namespace limen::machine
