#include "usb/mass_storage.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace limen::usb {

namespace scsi = block::scsi;

namespace {

constexpr uint16_t kVendor = 0x46F4, kProduct = 0x0001;
constexpr uint8_t kMassStorageClass = 8, kScsiCommands = 6, kBulkOnly = 0x50;

/// Class requests (§3.1, §3.2).
constexpr uint8_t kClassOut = 0x21, kClassIn = 0xA1, kMassStorageReset = 0xFF, kGetMaxLun = 0xFE;

/// The wrappers as they lie on the wire, little-endian (§5.1, §5.2).
struct [[gnu::packed]] CommandWrapper {
  uint32_t signature;
  uint32_t tag;
  uint32_t length;
  uint8_t flags;
  uint8_t lun;
  uint8_t cdb_length;
  uint8_t cdb[16];
};
struct [[gnu::packed]] StatusWrapper {
  uint32_t signature;
  uint32_t tag;
  uint32_t residue;
  uint8_t status;
};
static_assert(sizeof(CommandWrapper) == 31 && sizeof(StatusWrapper) == 13);
constexpr uint32_t kCommandSignature = 0x43425355, kStatusSignature = 0x53425355;
constexpr uint8_t kToHost = 0x80;
enum WrapperStatus : uint8_t { kPassed = 0, kFailed = 1 };

constexpr Outcome kStalled = {.status = Status::kStall, .bytes = 0};
constexpr Outcome kWait = {.status = Status::kNotReady, .bytes = 0};

Description describe(const std::string& serial) {
  const auto interface = [](uint16_t packet, uint8_t burst) {
    return Interface{
        .device_class = kMassStorageClass,
        .subclass = kScsiCommands,
        .protocol = kBulkOnly,
        .endpoints = {{.address = MassStorage::kDataIn, .packet_bytes = packet, .burst = burst},
                      {.address = MassStorage::kDataOut, .packet_bytes = packet, .burst = burst}}};
  };
  Description description{.vendor = kVendor,
                          .product = kProduct,
                          .name = "QEMU USB HARDDRIVE",
                          .serial = serial.empty() ? "1" : serial};
  description.speeds.emplace_back(Speed::kFull, interface(64, 0));
  description.speeds.emplace_back(Speed::kHigh, interface(512, 0));
  description.speeds.emplace_back(Speed::kSuper, interface(1024, 15));
  return description;
}

}  // namespace

MassStorage::MassStorage(std::unique_ptr<scsi::LogicalUnit> unit, const std::string& serial)
    : UsbDevice(describe(serial)), unit_(std::move(unit)) {
  target_.add(0, *unit_);
}

MassStorage::~MassStorage() { unit_->quiesce(); }

/// What the unit works on comes to an end by itself, and nobody hears of it.
void MassStorage::device_reset() {
  const std::lock_guard lock(mutex_);
  phase_ = Phase::kCommand;
  operation_ = nullptr;
  sense_ = {};
}

Outcome MassStorage::class_request(const Setup& setup, std::span<uint8_t> data) {
  if (setup.type == kClassOut && setup.request == kMassStorageReset) {
    device_reset();
    return {};
  }
  if (setup.type == kClassIn && setup.request == kGetMaxLun) {
    const uint8_t highest = 0;
    return give({&highest, 1}, data);
  }
  return kStalled;
}

Outcome MassStorage::endpoint_transfer(uint8_t endpoint, std::span<const iovec> buffers,
                                       uint64_t bytes) {
  std::unique_lock lock(mutex_);
  std::shared_ptr<Operation> to_start;
  Outcome outcome = kWait;
  const Phase before = phase_;
  if (phase_ == Phase::kBroken) return kStalled;
  if (endpoint == kDataOut) {
    if (phase_ == Phase::kCommand)
      outcome = take_command(buffers, bytes);
    else if (phase_ == Phase::kDataOut)
      outcome = take_data(buffers, bytes);
  } else {
    if (phase_ == Phase::kDataIn)
      outcome = give_data(buffers, bytes);
    else if (phase_ == Phase::kStatus)
      outcome = give_status(buffers, bytes);
  }
  if (phase_ == Phase::kUnit && before != Phase::kUnit) to_start = operation_;
  const bool free_again = before == Phase::kStatus && phase_ == Phase::kCommand;
  lock.unlock();
  if (to_start != nullptr) start(to_start);
  if (free_again) ready(kDataOut);
  return outcome;
}

/// A wrapper that is not valid or not meaningful: nothing goes on before the host's reset (§6.6.1).
Outcome MassStorage::take_command(std::span<const iovec> buffers, uint64_t bytes) {
  CommandWrapper wrapper{};
  const size_t got =
      scsi::copy_from(buffers, {reinterpret_cast<uint8_t*>(&wrapper), sizeof wrapper});
  if (bytes != sizeof wrapper || got != sizeof wrapper || wrapper.signature != kCommandSignature ||
      (wrapper.lun & 0xF0) != 0 || wrapper.cdb_length < 1 ||
      wrapper.cdb_length > sizeof wrapper.cdb) {
    phase_ = Phase::kBroken;
    return kStalled;
  }
  operation_ = std::make_shared<Operation>();
  operation_->tag = wrapper.tag;
  operation_->length = wrapper.length;
  operation_->to_host = (wrapper.flags & kToHost) != 0;
  operation_->lun = wrapper.lun;
  std::copy_n(wrapper.cdb, wrapper.cdb_length, operation_->cdb.begin());
  if (wrapper.length <= kMostData && wrapper.length != 0)
    operation_->data = std::make_unique_for_overwrite<uint8_t[]>(wrapper.length);
  phase_ = wrapper.length != 0 && !operation_->to_host ? Phase::kDataOut : Phase::kUnit;
  return {.bytes = sizeof wrapper};
}

Outcome MassStorage::take_data(std::span<const iovec> buffers, uint64_t bytes) {
  Operation& operation = *operation_;
  const auto count =
      static_cast<uint32_t>(std::min<uint64_t>(bytes, operation.length - operation.moved));
  if (operation.data != nullptr)
    scsi::copy_from(buffers, {operation.data.get() + operation.moved, count});
  operation.moved += count;
  if (operation.moved == operation.length) phase_ = Phase::kUnit;
  return {.bytes = bytes};
}

/// What the unit did not give is filled up (§6.7.2, case 5); the residue says how much it was.
Outcome MassStorage::give_data(std::span<const iovec> buffers, uint64_t bytes) {
  Operation& operation = *operation_;
  const auto count =
      static_cast<uint32_t>(std::min<uint64_t>(bytes, operation.length - operation.moved));
  if (operation.data != nullptr) {
    scsi::copy_to(buffers, {operation.data.get() + operation.moved, count});
  } else {
    uint64_t left = count;
    for (const iovec& buffer : buffers) {
      const size_t part = static_cast<size_t>(std::min<uint64_t>(left, buffer.iov_len));
      std::memset(buffer.iov_base, 0, part);
      left -= part;
    }
  }
  operation.moved += count;
  if (operation.moved == operation.length) phase_ = Phase::kStatus;
  return {.bytes = count};
}

Outcome MassStorage::give_status(std::span<const iovec> buffers, uint64_t bytes) {
  if (bytes < sizeof(StatusWrapper)) return kStalled;
  const StatusWrapper wrapper{
      .signature = kStatusSignature,
      .tag = operation_->tag,
      .residue = static_cast<uint32_t>(
          operation_->length - std::min<uint64_t>(operation_->transferred, operation_->length)),
      .status = operation_->status};
  scsi::copy_to(buffers, {reinterpret_cast<const uint8_t*>(&wrapper), sizeof wrapper});
  operation_ = nullptr;
  phase_ = Phase::kCommand;
  return {.bytes = sizeof wrapper};
}

void MassStorage::start(const std::shared_ptr<Operation>& operation) {
  const auto length = operation->length;
  // The transport keeps the sense data of the last command, which units give with its end.
  if (operation->cdb[0] == scsi::kRequestSense && operation->to_host &&
      operation->data != nullptr) {
    scsi::Sense sense;
    {
      const std::lock_guard lock(mutex_);
      sense = std::exchange(sense_, {});
    }
    const auto bytes = scsi::fixed_sense(sense);
    const auto count =
        std::min({size_t{length}, bytes.size(), static_cast<size_t>(operation->cdb[4])});
    std::copy_n(bytes.begin(), count, operation->data.get());
    return finish(operation, {.transferred = count});
  }
  if (length != 0 && operation->data == nullptr)
    return finish(operation, {.status = scsi::Status::kCheckCondition,
                              .sense = scsi::sense::kInvalidFieldInCdb});
  scsi::Command command;
  std::ranges::copy(operation->cdb, command.cdb.begin());
  if (length != 0) {
    auto& buffers = operation->to_host ? command.data_in : command.data_out;
    (operation->to_host ? command.in_bytes : command.out_bytes) = length;
    buffers.push_back({operation->data.get(), length});
  }
  command.done = [this, operation](const scsi::Outcome& outcome) { finish(operation, outcome); };
  target_.execute(operation->lun, std::move(command));
}

void MassStorage::finish(const std::shared_ptr<Operation>& operation,
                         const scsi::Outcome& outcome) {
  {
    const std::lock_guard lock(mutex_);
    if (operation_ != operation) return;  // a reset came between
    operation->transferred = outcome.transferred;
    operation->status = outcome.status == scsi::Status::kGood ? kPassed : kFailed;
    if (outcome.status == scsi::Status::kCheckCondition) sense_ = outcome.sense;
    if (operation->to_host && operation->length != 0) {
      phase_ = Phase::kDataIn;
      const auto given =
          static_cast<size_t>(std::min<uint64_t>(outcome.transferred, operation->length));
      if (operation->data != nullptr)
        std::memset(operation->data.get() + given, 0, operation->length - given);
    } else {
      phase_ = Phase::kStatus;
    }
  }
  ready(kDataIn);
}

}  // namespace limen::usb
