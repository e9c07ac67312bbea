// -device usb-storage: a SCSI unit behind the bulk-only transport (USB Mass Storage Class,
// Bulk-Only Transport 1.0).
//
// The data of a command pass through memory of the device's own, so that a command that the disk
// works on and a host that gave up never meet.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "block/scsi/logical_unit.h"
#include "usb/device.h"

namespace limen::usb {

class MassStorage final : public UsbDevice {
 public:
  static constexpr uint8_t kDataIn = kIn | 1, kDataOut = 2;
  /// The most data of a command; one with more fails.
  static constexpr uint32_t kMostData = 64 << 20;

  /// `serial`: "" for the same as all.
  MassStorage(std::unique_ptr<block::scsi::LogicalUnit> unit, const std::string& serial);
  ~MassStorage() override;

  [[nodiscard]] block::scsi::LogicalUnit& unit() { return *unit_; }

 private:
  /// A command block wrapper without what only the transport needs (§5.1).
  struct Operation {
    uint32_t tag = 0;
    uint32_t length = 0;  ///< That the host wants to move.
    bool to_host = false;
    uint8_t lun = 0;
    std::array<uint8_t, 16> cdb = {};
    std::unique_ptr<uint8_t[]> data = {};
    uint32_t moved = 0;        ///< Between the host and `data`.
    uint64_t transferred = 0;  ///< Between `data` and the unit.
    uint8_t status = 0;
  };
  enum class Phase : uint8_t { kCommand, kDataOut, kUnit, kDataIn, kStatus, kBroken };

  Outcome class_request(const Setup& setup, std::span<uint8_t> data) override;
  Outcome endpoint_transfer(uint8_t endpoint, std::span<const iovec> buffers,
                            uint64_t bytes) override;
  void device_reset() override;

  Outcome take_command(std::span<const iovec> buffers, uint64_t bytes);
  Outcome take_data(std::span<const iovec> buffers, uint64_t bytes);
  Outcome give_data(std::span<const iovec> buffers, uint64_t bytes);
  Outcome give_status(std::span<const iovec> buffers, uint64_t bytes);
  void start(const std::shared_ptr<Operation>& operation);
  void finish(const std::shared_ptr<Operation>& operation, const block::scsi::Outcome& outcome);

  std::unique_ptr<block::scsi::LogicalUnit> unit_;
  block::scsi::Target target_;
  std::mutex mutex_;
  Phase phase_ = Phase::kCommand;         // guarded by mutex_, as what follows
  std::shared_ptr<Operation> operation_;  ///< Null in kCommand and kBroken.
  block::scsi::Sense sense_;              ///< Of the last command, for REQUEST SENSE.
};

}  // namespace limen::usb
