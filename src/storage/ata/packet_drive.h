// An ATAPI drive: a SCSI CD drive behind the PACKET command (ATA8-ACS 7.24, MMC-6).
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "base/result.h"
#include "block/scsi/cd.h"
#include "storage/ata/device.h"
#include "storage/ata/identity.h"

namespace limen::storage::ata {

class PacketDrive final : public Device {
 public:
  static Result<std::unique_ptr<PacketDrive>> create(const Identity& identity,
                                                     std::unique_ptr<block::scsi::Cd> cd);
  ~PacketDrive() override;

  [[nodiscard]] block::scsi::Cd& cd() { return *cd_; }

  [[nodiscard]] bool packet() const override { return true; }
  [[nodiscard]] OperationPointer begin(const Taskfile& registers) override;
  void take_packet(Operation& operation, std::span<const uint8_t, 12> cdb) override;
  void reset(bool power_on) override;
  void transfer(OperationPointer operation, uint64_t from, std::vector<iovec> buffers,
                Done done) override;
  void give_up_held(bool on) override {
    if (on) cd_->quiesce();
  }

 private:
  PacketDrive(Identity identity, std::unique_ptr<block::scsi::Cd> cd);
  [[nodiscard]] std::vector<uint8_t> identify() const;
  bool request_sense(const Operation& operation, const std::vector<iovec>& buffers,
                     const Done& done);
  void ended(const block::scsi::Outcome& outcome, const Done& done);

  const Identity identity_;
  const std::unique_ptr<block::scsi::Cd> cd_;
  uint8_t transfer_mode_ = 0x42;  // guarded by the host's lock
  std::mutex mutex_;
  block::scsi::Sense sense_ = {};  // guarded by mutex_: of the last command, for REQUEST SENSE
};

}  // namespace limen::storage::ata
