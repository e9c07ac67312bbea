// What hangs on an ATA cable, whoever drives it: PIO, bus master IDE or AHCI.
//
// A host begins a command with the registers, moves its data as the Operation says, in one part
// (DMA) or several (PIO, a part per data request), and is told of each part's end. begin() only
// decides and is called under the host's lock; transfer() goes to the medium and is called outside.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "storage/ata/registers.h"

namespace limen::storage::ata {

enum class Protocol : uint8_t { kNoData, kPio, kDma, kQueued, kPacket };
enum class Direction : uint8_t { kNone, kToHost, kToDevice };

/// How a command, or a part of its data, ended.
struct Ending {
  uint8_t status = status::kGood;
  uint8_t error = 0;
  uint64_t transferred = 0;  ///< Bytes of this part.
  [[nodiscard]] bool failed() const { return (status & status::kError) != 0; }
};
[[nodiscard]] inline Ending failure(uint8_t error_bits) {
  return {.status = status::kGood | status::kError, .error = error_bits};
}

/// One command, from its registers to its end.
struct Operation {
  Taskfile registers = {};  ///< At the end: what the host reads.
  Protocol protocol = Protocol::kNoData;
  Direction direction = Direction::kNone;
  uint64_t bytes = 0;         ///< Of data.
  bool exact = true;          ///< False: at most `bytes`; transfer() says how many there were.
  uint64_t part_bytes = 512;  ///< PIO: what a part has at most, a data request's worth for disks.
  bool signature = false;     ///< Ends with the signature, as a reset.
  bool finished = false;      ///< There is nothing left to do, as `ending` says.
  Ending ending = {};

  // The device's own.
  enum class Work : uint8_t { kNone, kReply, kRead, kWrite, kFlush, kTrim, kPacket };
  Work work = Work::kNone;
  uint64_t offset = 0;               ///< On the medium.
  bool durable = false;              ///< A write that the medium has before it ends.
  std::vector<uint8_t> data = {};    ///< A reply, or what was collected.
  std::array<uint8_t, 12> cdb = {};  ///< PACKET's.
};
using OperationPointer = std::shared_ptr<Operation>;
using Done = std::function<void(const Ending&)>;

class Device {
 public:
  virtual ~Device() = default;

  /// Takes PACKET commands: its signature says so.
  [[nodiscard]] virtual bool packet() const = 0;

  // Under the host's lock.

  [[nodiscard]] virtual OperationPointer begin(const Taskfile& registers) = 0;
  /// The packet of an operation of kPacket, which says afterwards what data follow.
  virtual void take_packet(Operation&, std::span<const uint8_t, 12>) {}
  /// Settings as after power-on, or as a reset by the host leaves them. Nothing is under way.
  virtual void reset(bool power_on) = 0;
  /// A queued command of that tag failed; READ LOG EXT tells of it (ATA8-ACS A.13).
  virtual void note_queued_error(uint8_t, const Taskfile&, const Ending&) {}

  // Without a lock.

  /// Moves the bytes of the operation that begin at `from`. `done` is called once, on any thread,
  /// perhaps before this returns; `buffers` are valid until then.
  virtual void transfer(OperationPointer operation, uint64_t from, std::vector<iovec> buffers,
                        Done done) = 0;
  /// While `on`, what waits for an error to be dealt with fails instead.
  virtual void give_up_held(bool on) = 0;
};

/// The registers after a reset, by which a host knows what is there (ATA8-APT 7.1).
[[nodiscard]] inline Taskfile signature_of(const Device& device) {
  return {.count = 1, .lba = device.packet() ? 0xEB'1401u : 0x00'0001u};
}
[[nodiscard]] inline uint8_t status_after_reset(const Device& device) {
  return device.packet() ? 0 : status::kGood;
}

}  // namespace limen::storage::ata
