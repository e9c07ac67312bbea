// The table of internal snapshots.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/qcow2/header.h"

namespace limen::block::qcow2 {

struct Snapshot {
  uint64_t l1_offset = 0;
  uint32_t l1_size = 0;  ///< Entries.
  std::string id;
  std::string name;
  uint32_t date_seconds = 0;
  uint32_t date_nanoseconds = 0;
  uint64_t vm_clock_nanoseconds = 0;
  uint64_t vm_state_size = 0;
  uint64_t disk_size = 0;
  uint64_t icount = UINT64_MAX;            ///< All ones: not recorded.
  std::vector<std::byte> unknown_extra;  ///< Of later versions; kept.
};

/// `bytes` begins with the table and may be longer; `used` says how long the table is.
Result<std::vector<Snapshot>> parse_snapshots(std::span<const std::byte> bytes, uint32_t count,
                                              const Header& header, const std::string& path,
                                              uint64_t& used);
std::vector<std::byte> serialize_snapshots(const std::vector<Snapshot>& snapshots);

}  // namespace limen::block::qcow2
