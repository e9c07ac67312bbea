// A SCSI disk: direct access block device (SBC-3).
#pragma once

#include <memory>

#include "block/scsi/logical_unit.h"

namespace limen::block::scsi {

struct DiskProperties {
  Identity identity = {};
  uint32_t logical_block_size = 512;   ///< Power of two, 512 to 32768.
  uint32_t physical_block_size = 512;  ///< Power of two, at least the logical one.
  uint16_t rotation_rate = 1;          ///< Page B1h: 1 is no rotation, 0 not said.
  bool removable = false;
  bool write_cache = true;  ///< Initial state of the WCE bit.
  bool discard = true;      ///< UNMAP is there, if the disk has it.
};

class Disk final : public LogicalUnit {
 public:
  /// `disk` outlives the unit. Fails for a property out of range.
  static Result<std::unique_ptr<Disk>> create(const DiskProperties& properties, BlockDevice& disk);

 private:
  Disk(const DiskProperties& properties, BlockDevice& disk);

  [[nodiscard]] uint8_t device_type() const override { return 0x00; }
  bool execute_own(Command& command) override;
  std::optional<std::vector<uint8_t>> own_page(uint8_t page) override;
  [[nodiscard]] std::vector<uint8_t> own_pages() const override { return {0xB0, 0xB1, 0xB2}; }
  std::optional<std::vector<uint8_t>> mode_page(uint8_t page, bool changeable) override;
  [[nodiscard]] std::vector<uint8_t> mode_pages() const override {
    return {0x01, 0x04, 0x08, 0x0A};
  }
  void select_mode_page(uint8_t page, std::span<const uint8_t> bytes) override;

  [[nodiscard]] bool unmaps() const;
  Reply read_capacity_10(const Command& command) const;
  Reply read_capacity_16(const Command& command) const;
  void unmap(Command& command);
  void write_same(Command& command);
  void fill(std::shared_ptr<Command> command, const std::shared_ptr<std::vector<uint8_t>>& pattern,
            uint64_t offset, uint64_t left);
  void ended_changes(Command& command, int error);

  const DiskProperties properties_;
};

}  // namespace limen::block::scsi
