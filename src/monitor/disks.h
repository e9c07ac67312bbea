// The disks of a machine, as monitors show them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace limen::machine {
class Machine;
}
namespace limen::block {
class Measured;
}

namespace limen::monitor {

struct Disk {
  std::string id;    ///< Of -drive; "virtio0" and so on for one without.
  std::string node;  ///< "#block000" and so on for one without a name.
  std::string qdev;  ///< Where its device stands among QOM's objects; "": no device has it.
  std::string file;
  std::string format;
  uint64_t size = 0;
  std::optional<uint64_t> allocated = {};  ///< Bytes on the host's disk.
  bool read_only = false;
  bool cache_writeback = true;
  bool cache_direct = false;
  bool cache_no_flush = false;
  const block::Measured* measured = nullptr;  ///< What it counted; null: nothing.
};

[[nodiscard]] std::vector<Disk> disks_of(machine::Machine& machine);

}  // namespace limen::monitor
