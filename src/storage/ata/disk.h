// An ATA disk (ATA8-ACS): sectors of 512 bytes on a block::BlockDevice.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "base/result.h"
#include "block/block_device.h"
#include "storage/ata/device.h"
#include "storage/ata/identity.h"

namespace limen::storage::ata {

struct DiskProperties {
  Identity identity = {};
  uint32_t physical_block_size = 512;  ///< Power of two, at least 512.
  uint16_t rotation_rate = 0;          ///< Turns in a minute; 1: does not turn, 0: not said.
  bool write_cache = true;
  bool discard = true;  ///< TRIM is there, if the disk has it.
  /// What older systems count in; 0: as the size has it.
  uint16_t cylinders = 0, heads = 0, sectors = 0;
};

class Disk final : public Device {
 public:
  static constexpr unsigned kMostMultiple = 16;
  static constexpr unsigned kQueueDepth = 32;

  /// `medium` outlives the disk. Fails for a property out of range or a medium that is read-only.
  static Result<std::unique_ptr<Disk>> create(const DiskProperties& properties,
                                              block::BlockDevice& medium);

  [[nodiscard]] bool packet() const override { return false; }
  [[nodiscard]] OperationPointer begin(const Taskfile& registers) override;
  void reset(bool power_on) override;
  void note_queued_error(uint8_t tag, const Taskfile& registers, const Ending& ending) override;
  void transfer(OperationPointer operation, uint64_t from, std::vector<iovec> buffers,
                Done done) override;
  void give_up_held(bool on) override { medium_.give_up_held(on); }

 private:
  struct Extent {
    uint64_t sector = 0;
    uint64_t count = 0;
  };
  Disk(const DiskProperties& properties, block::BlockDevice& medium);

  [[nodiscard]] uint64_t sectors() const { return medium_.size() / kSectorBytes; }
  void decide(Operation& operation);
  void begin_transfer(Operation& operation, Protocol protocol, Direction direction, bool extended,
                      bool multiple = false, bool force_unit_access = false);
  void begin_queued(Operation& operation, Direction direction);
  void begin_trim(Operation& operation);
  [[nodiscard]] std::optional<Extent> extent(const Taskfile& registers, bool extended) const;
  void verify(Operation& operation, bool extended) const;
  void read_native_max(Operation& operation, bool extended) const;
  void set_features(Operation& operation);
  void initialize_parameters(Operation& operation);
  void smart(Operation& operation);
  void read_log(Operation& operation, Protocol protocol) const;
  [[nodiscard]] std::vector<uint8_t> identify() const;

  void write(const OperationPointer& operation, uint64_t from, std::vector<iovec> buffers,
             uint64_t bytes, Done done);
  void trim(const OperationPointer& operation, uint64_t from, const std::vector<iovec>& buffers,
            Done done);

  const DiskProperties properties_;
  block::BlockDevice& medium_;
  const uint16_t default_cylinders_, default_heads_, default_sectors_;

  // Guarded by the host's lock.
  uint16_t heads_, track_sectors_;  ///< As INITIALIZE DEVICE PARAMETERS set them.
  uint8_t multiple_ = kMostMultiple;
  uint8_t transfer_mode_ = 0x45;
  bool write_cache_;
  bool look_ahead_ = true;
  bool smart_ = true;
  bool smart_autosave_ = true;
  bool standby_ = false;
  std::vector<uint8_t> queued_error_;  ///< Log page 10h.
};

}  // namespace limen::storage::ata
