#include "storage/ide/channel.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/trace.h"

namespace limen::storage {

using namespace ata;

namespace {

trace::Event trace_read("ide_ioport_read");
trace::Event trace_write("ide_ioport_write");
trace::Event trace_reset("ide_reset");

/// Offsets in the command block; what is read and what is written differ.
constexpr uint64_t kData = 0, kErrorFeatures = 1, kCount = 2, kLow = 3, kMid = 4, kHigh = 5,
                   kDevice = 6, kStatusCommand = 7;
constexpr uint64_t kCommandPorts = 8;
constexpr size_t kPacketBytes = 12;

uint16_t word(const std::array<uint8_t, 2>& bytes) {
  return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
}

}  // namespace

IdeChannel::IdeChannel(memory::GuestMemory& memory, memory::IoSpace& ports, const Ports& where,
                       irq::InterruptLine line, const std::string& name)
    : memory_(memory),
      ports_(ports),
      where_(where),
      command_block_(*this),
      control_block_(*this),
      line_(line) {
  ports_.claim(where_.command, kCommandPorts, command_block_, name);
  ports_.claim(where_.control, 1, control_block_, name);
}

IdeChannel::~IdeChannel() {
  ports_.release(where_.command, command_block_);
  ports_.release(where_.control, control_block_);
  reset();
}

Result<> IdeChannel::attach(unsigned unit, std::unique_ptr<Device> device) {
  if (unit >= kUnits)
    return fail("Can't create IDE unit {}, bus supports only {} units", unit, kUnits);
  if (occupied(unit)) return fail("IDE unit {} is in use", unit);
  units_[unit].device = std::move(device);
  set_signature(units_[unit]);
  return {};
}

void IdeChannel::leave(std::unique_lock<std::mutex>& lock) {
  auto deferred = std::exchange(deferred_, {});
  lock.unlock();
  if (deferred) deferred();
  line_.publish();
}

void IdeChannel::update_line() { line_.want(interrupt_ && (control_ & kNoInterrupt) == 0); }

void IdeChannel::raise() {
  interrupt_ = true;
  master_status_ |= 0x04;
  update_line();
}

// --- Resets -------------------------------------------------------------------------------------

void IdeChannel::set_signature(Unit& unit) {
  const Taskfile registers = signature_of(*unit.device);
  unit.count = {1, 0};
  unit.low = {1, 0};
  unit.mid = {static_cast<uint8_t>(registers.lba >> 8), 0};
  unit.high = {static_cast<uint8_t>(registers.lba >> 16), 0};
  unit.error = error::kPassed;
  unit.status = status_after_reset(*unit.device);
}

void IdeChannel::finish_reset(bool power_on) {
  reset_wanted_ = false;
  phase_ = Phase::kIdle;
  operation_.reset();
  device_register_ = 0;
  for (Unit& unit : units_) {
    if (unit.device == nullptr) continue;
    unit.device->reset(power_on);
    set_signature(unit);
  }
  interrupt_ = false;
  update_line();
}

void IdeChannel::reset() {
  for (Unit& unit : units_)
    if (unit.device != nullptr) unit.device->give_up_held(true);
  {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return phase_ != Phase::kRunning && completing_ == 0; });
    control_ = 0;
    master_command_ = master_status_ = 0;
    table_ = 0;
    finish_reset(true);
  }
  for (Unit& unit : units_)
    if (unit.device != nullptr) unit.device->give_up_held(false);
  line_.publish();
}

void IdeChannel::write_control(uint8_t value) {
  const uint8_t before = std::exchange(control_, value);
  if ((value & ~before & kSoftReset) != 0) {
    trace_reset("IDEstate {}", static_cast<const void*>(this));
    for (Unit& unit : units_)
      if (unit.device != nullptr) unit.status = status::kBusy;
    interrupt_ = false;
    // What is under way comes to its end; the drives stay busy until then.
    if (phase_ != Phase::kRunning) phase_ = Phase::kIdle;
  } else if ((before & ~value & kSoftReset) != 0) {
    if (phase_ == Phase::kRunning)
      reset_wanted_ = true;
    else
      finish_reset(false);
  }
  update_line();
}

/// EXECUTE DEVICE DIAGNOSTIC is for both drives, whichever is selected.
void IdeChannel::diagnose() {
  bool there = false;
  device_register_ = static_cast<uint8_t>(device_register_ & ~kDeviceUnit);
  for (Unit& unit : units_) {
    if (unit.device == nullptr) continue;
    set_signature(unit);
    there = true;
  }
  if (there) raise();
}

// --- Registers ----------------------------------------------------------------------------------

uint8_t IdeChannel::read_register(uint64_t offset) {
  Unit& unit = selected();
  if (unit.device == nullptr) {
    // Device 0 answers for one that is not there, with nothing; without any, so does the cable.
    return offset == kDevice && units_[0].device != nullptr ? device_register_ : 0;
  }
  const bool before = (control_ & kHighOrderByte) != 0;
  switch (offset) {
    case kErrorFeatures:
      return unit.error;
    case kCount:
      return unit.count[before];
    case kLow:
      return unit.low[before];
    case kMid:
      return unit.mid[before];
    case kHigh:
      return unit.high[before];
    case kDevice:
      return device_register_ | 0xA0;
    default:
      interrupt_ = false;
      update_line();
      return unit.status;
  }
}

void IdeChannel::write_register(uint64_t offset, uint8_t value) {
  control_ = static_cast<uint8_t>(control_ & ~kHighOrderByte);
  if (offset == kStatusCommand) return command_written(value);
  // A drive that is busy or moves data takes nothing; both drives hear what is written.
  if (phase_ == Phase::kRunning) return;
  if (offset == kDevice) {
    device_register_ = value;
    return;
  }
  for (Unit& unit : units_) {
    auto& reg = offset == kErrorFeatures ? unit.features
                : offset == kCount       ? unit.count
                : offset == kLow         ? unit.low
                : offset == kMid         ? unit.mid
                                         : unit.high;
    reg = {value, reg[0]};
  }
}

uint64_t IdeChannel::CommandBlock::io_read(uint64_t offset, unsigned size) {
  std::unique_lock lock(channel.mutex_);
  uint64_t value = 0;
  if (offset == kData) {
    value = channel.read_data(size);
  } else {
    for (unsigned i = 0; i < size && offset + i < kCommandPorts; ++i)
      value |= uint64_t{channel.read_register(offset + i)} << 8 * i;
    trace_read("IDE PIO rd @ {:#x}; val {:#04x}", channel.where_.command + offset, value);
  }
  channel.leave(lock);
  return value;
}

void IdeChannel::CommandBlock::io_write(uint64_t offset, unsigned size, uint64_t value) {
  std::unique_lock lock(channel.mutex_);
  if (offset == kData) {
    channel.write_data(size, value);
  } else {
    trace_write("IDE PIO wr @ {:#x}; val {:#04x}", channel.where_.command + offset, value);
    for (unsigned i = 0; i < size && offset + i < kCommandPorts; ++i)
      channel.write_register(offset + i, static_cast<uint8_t>(value >> 8 * i));
  }
  channel.leave(lock);
}

/// The alternate status, which leaves the interrupt alone.
uint64_t IdeChannel::ControlBlock::io_read(uint64_t, unsigned) {
  const std::lock_guard lock(channel.mutex_);
  const Unit& unit = channel.selected();
  return unit.device == nullptr ? 0 : unit.status;
}

void IdeChannel::ControlBlock::io_write(uint64_t, unsigned, uint64_t value) {
  std::unique_lock lock(channel.mutex_);
  channel.write_control(static_cast<uint8_t>(value));
  channel.leave(lock);
}

// --- Commands -----------------------------------------------------------------------------------

void IdeChannel::command_written(uint8_t command) {
  if ((control_ & kSoftReset) != 0) return;
  Unit& unit = selected();
  if (phase_ == Phase::kRunning) {
    // DEVICE RESET alone reaches a drive that is busy.
    if (command == kDeviceReset && unit.device != nullptr && unit.device->packet() &&
        &unit == &units_[active_])
      reset_wanted_ = true;
    return;
  }
  if (command == kExecuteDiagnostic) {
    phase_ = Phase::kIdle;
    operation_.reset();
    return diagnose();
  }
  if (unit.device == nullptr) return;
  if (phase_ != Phase::kIdle && command != kDeviceReset) return;
  interrupt_ = false;
  update_line();
  active_ = device_register_ >> 4 & 1;
  Taskfile registers;
  registers.features = word(unit.features);
  registers.count = word(unit.count);
  for (size_t half = 0; half < 2; ++half)
    registers.lba |=
        (uint64_t{unit.low[half]} | uint64_t{unit.mid[half]} << 8 | uint64_t{unit.high[half]} << 16)
        << 24 * half;
  registers.device = device_register_;
  registers.command = command;
  operation_ = unit.device->begin(registers);
  from_ = 0;
  dma_ = false;
  phase_ = Phase::kIdle;
  unit.error = 0;
  advance();
}

/// What comes first of the command, or of what its packet asks for.
void IdeChannel::advance() {
  Unit& unit = units_[active_];
  Operation& operation = *operation_;
  // DEVICE RESET raises no interrupt (ATA8-ACS 7.11).
  if (operation.finished) return end(operation.ending, operation.registers.command != kDeviceReset);
  switch (operation.protocol) {
    case Protocol::kPacket:
      phase_ = Phase::kPacket;
      position_ = 0;
      unit.status = status::kGood | status::kDataRequest;
      unit.count = {kReasonCommand, 0};
      return;
    case Protocol::kNoData:
      return run(0, {});
    case Protocol::kPio:
      if (operation.direction == Direction::kToHost) return request_part();
      buffer_.resize(static_cast<size_t>(std::min(operation.bytes - from_, operation.part_bytes)));
      position_ = 0;
      // The first request of a write needs no interrupt; that of a packet's data does.
      present(buffer_.size());
      if (operation.work == Operation::Work::kPacket) raise();
      return;
    default:
      phase_ = Phase::kAwaitsDma;
      unit.status = status::kGood | status::kDataRequest;
      if ((master_command_ & 1) != 0) start_dma();
  }
}

void IdeChannel::packet_complete() {
  Unit& unit = units_[active_];
  unit.device->take_packet(*operation_, packet_);
  advance();
}

/// Asks the device for the next part of what goes to the host.
void IdeChannel::request_part() {
  const uint64_t bytes = std::min(operation_->bytes - from_, operation_->part_bytes);
  buffer_.resize(static_cast<size_t>(bytes));
  run(from_, {{buffer_.data(), buffer_.size()}});
}

/// Makes a data request: of the whole buffer, or of as much as the host said for a packet.
void IdeChannel::present(uint64_t bytes) {
  Unit& unit = units_[active_];
  const bool to_host = operation_->direction == Direction::kToHost;
  if (operation_->work == Operation::Work::kPacket) {
    // The limit that came with PACKET; none is the largest that is even.
    const auto limit = static_cast<uint32_t>(operation_->registers.lba >> 8 & 0xFFFF);
    const uint32_t most = limit == 0 || limit == 0xFFFF ? 0xFFFE : std::max(limit & ~1u, 2u);
    bytes = std::min<uint64_t>(bytes, most);
    unit.mid = {static_cast<uint8_t>(bytes), 0};
    unit.high = {static_cast<uint8_t>(bytes >> 8), 0};
    unit.count = {to_host ? kReasonToHost : uint8_t{0}, 0};
  }
  request_end_ = position_ + static_cast<size_t>(bytes);
  phase_ = to_host ? Phase::kToHost : Phase::kToDevice;
  unit.status = status::kGood | status::kDataRequest;
}

uint64_t IdeChannel::read_data(unsigned size) {
  if (phase_ != Phase::kToHost || &selected() != &units_[active_]) return 0;
  uint64_t value = 0;
  const size_t count = std::min<size_t>(size, request_end_ - position_);
  std::memcpy(&value, buffer_.data() + position_, count);
  position_ += count;
  if (position_ == request_end_) part_moved();
  return value;
}

void IdeChannel::write_data(unsigned size, uint64_t value) {
  if (&selected() != &units_[active_]) return;
  if (phase_ == Phase::kPacket) {
    const size_t count = std::min<size_t>(size, kPacketBytes - position_);
    std::memcpy(packet_.data() + position_, &value, count);
    position_ += count;
    if (position_ == kPacketBytes) packet_complete();
    return;
  }
  if (phase_ != Phase::kToDevice) return;
  const size_t count = std::min<size_t>(size, request_end_ - position_);
  std::memcpy(buffer_.data() + position_, &value, count);
  position_ += count;
  if (position_ == request_end_) part_moved();
}

/// The host moved all that was requested.
void IdeChannel::part_moved() {
  const bool packet = operation_->work == Operation::Work::kPacket;
  if (position_ < buffer_.size()) {
    present(buffer_.size() - position_);
    return raise();
  }
  if (phase_ == Phase::kToDevice) return run(from_, {{buffer_.data(), buffer_.size()}});
  from_ += buffer_.size();
  if (operation_->exact && from_ < operation_->bytes) return request_part();
  // A packet's end has an interrupt of its own, that of a disk's data not.
  end({}, packet);
}

void IdeChannel::run(uint64_t from, std::vector<iovec> buffers) {
  phase_ = Phase::kRunning;
  units_[active_].status = status::kBusy | status::kGood;
  deferred_ = [this, device = units_[active_].device.get(), operation = operation_, from,
               buffers = std::move(buffers)]() mutable {
    device->transfer(operation, from, std::move(buffers),
                     [this](const Ending& ending) { part_done(ending); });
  };
}

void IdeChannel::part_done(const Ending& ending) {
  std::unique_lock lock(mutex_);
  ++completing_;
  if (dma_) data_in_memory();
  phase_ = Phase::kIdle;
  if (reset_wanted_) {
    finish_reset(false);
  } else if ((control_ & kSoftReset) != 0) {
    operation_.reset();  // the rest follows when the host ends the reset
  } else if (ending.failed() || operation_->direction == Direction::kNone) {
    end(ending);
  } else if (dma_) {
    if (table_shorter_) {
      // No interrupt: the bus master has run out of its table (§3.1), which the host sees there.
      master_status_ = static_cast<uint8_t>(master_status_ & ~1);
      end(ending, false);
    } else {
      if (!table_longer_) master_status_ = static_cast<uint8_t>(master_status_ & ~1);
      end(ending);
    }
  } else if (operation_->direction == Direction::kToHost) {
    if (!operation_->exact) buffer_.resize(static_cast<size_t>(ending.transferred));
    position_ = 0;
    if (buffer_.empty()) {
      end(ending);
    } else {
      present(buffer_.size());
      raise();
    }
  } else {
    from_ += buffer_.size();
    if (from_ >= operation_->bytes) {
      end(ending);
    } else {
      buffer_.resize(
          static_cast<size_t>(std::min(operation_->bytes - from_, operation_->part_bytes)));
      position_ = 0;
      present(buffer_.size());
      raise();
    }
  }
  lock.unlock();
  line_.publish();
  // Under the lock, and last: whoever waits for this may be about to end the channel.
  lock.lock();
  --completing_;
  idle_.notify_all();
}

/// The command has ended: its registers are what the host reads.
void IdeChannel::end(const Ending& ending, bool interrupt) {
  Unit& unit = units_[active_];
  const Operation& operation = *operation_;
  if (operation.signature) {
    set_signature(unit);
  } else {
    const auto& registers = operation.registers;
    const auto split = [](uint64_t value) {
      return Register{static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 24)};
    };
    const bool packet = operation.work == Operation::Work::kPacket;
    unit.count = {static_cast<uint8_t>(registers.count),
                  static_cast<uint8_t>(registers.count >> 8)};
    if (packet)
      unit.count = {kReasonCommand | kReasonToHost, 0};
    else
      unit.low = split(registers.lba), unit.mid = split(registers.lba >> 8),
      unit.high = split(registers.lba >> 16);
    if (!packet) device_register_ = registers.device;
  }
  unit.status = ending.status;
  unit.error = ending.error;
  phase_ = Phase::kIdle;
  operation_.reset();
  if (interrupt) raise();
}

// --- The bus master -----------------------------------------------------------------------------

uint64_t IdeChannel::bus_master_read(uint64_t offset, unsigned size) {
  const std::lock_guard lock(mutex_);
  uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i) {
    uint8_t byte = 0;
    const uint64_t at = offset + i;
    if (at == 0)
      byte = master_command_;
    else if (at == 2)
      byte = master_status_;
    else if (at >= 4 && at < 8)
      byte = static_cast<uint8_t>(table_ >> 8 * (at - 4));
    value |= uint64_t{byte} << 8 * i;
  }
  return value;
}

void IdeChannel::bus_master_write(uint64_t offset, unsigned size, uint64_t value) {
  constexpr uint8_t kStart = 0x01, kToMemory = 0x08, kActive = 0x01, kErrorAndInterrupt = 0x06,
                    kCapable = 0x60;
  std::unique_lock lock(mutex_);
  for (unsigned i = 0; i < size; ++i) {
    const auto byte = static_cast<uint8_t>(value >> 8 * i);
    const uint64_t at = offset + i;
    if (at == 0) {
      const uint8_t before = std::exchange(master_command_, byte & (kStart | kToMemory));
      if ((byte & ~before & kStart) != 0) {
        master_status_ |= kActive;
        if (phase_ == Phase::kAwaitsDma) start_dma();
      } else if ((byte & kStart) == 0) {
        master_status_ = static_cast<uint8_t>(master_status_ & ~kActive);
      }
    } else if (at == 2) {
      master_status_ = static_cast<uint8_t>((master_status_ & kActive) | (byte & kCapable) |
                                            (master_status_ & ~byte & kErrorAndInterrupt));
    } else if (at >= 4 && at < 8) {
      const auto shift = 8 * (at - 4);
      table_ = (table_ & ~(0xFFu << shift)) | static_cast<uint32_t>(byte) << shift;
      table_ &= ~3u;
    }
  }
  leave(lock);
}

/// Follows the table of physical regions (§1.2) for `wanted` bytes. False: it leads out of RAM.
bool IdeChannel::gather(uint64_t wanted) {
  constexpr unsigned kMostEntries = 65536 / 8;
  constexpr uint32_t kEndOfTable = 1u << 31;
  struct Entry {
    uint32_t base;
    uint32_t count;
  };
  scatter_ = {};
  bool last = false;
  for (unsigned i = 0; i < kMostEntries && !last && scatter_.bytes() < wanted; ++i) {
    Entry entry{};
    if (!memory_.read({table_ + uint64_t{8} * i}, std::as_writable_bytes(std::span(&entry, 1))))
      return false;
    const uint32_t count = entry.count & 0xFFFE;
    if (!scatter_.add(memory_, {entry.base & ~1u}, count == 0 ? 65536 : count)) return false;
    last = (entry.count & kEndOfTable) != 0;
  }
  table_longer_ = !last || scatter_.bytes() > wanted;
  scatter_.truncate(wanted);
  return true;
}

void IdeChannel::start_dma() {
  constexpr uint8_t kActive = 0x01, kError = 0x02;
  master_status_ |= kActive;
  dma_ = true;
  if (!gather(operation_->bytes)) {
    dma_ = false;
    master_status_ = static_cast<uint8_t>((master_status_ & ~kActive) | kError);
    return end(failure(error::kAbort));
  }
  table_shorter_ = operation_->exact && scatter_.bytes() < operation_->bytes;
  if (table_shorter_) {
    const bool packet = operation_->work == Operation::Work::kPacket;
    scatter_.truncate(scatter_.bytes() / (packet ? 2048 : kSectorBytes) *
                      (packet ? 2048 : kSectorBytes));
    if (scatter_.bytes() == 0) {
      dma_ = false;
      master_status_ = static_cast<uint8_t>(master_status_ & ~kActive);
      return end({}, false);
    }
  }
  run(0, scatter_.buffers());
}

void IdeChannel::data_in_memory() {
  if (operation_ != nullptr && operation_->direction == Direction::kToHost)
    scatter_.note_written(memory_);
}

}  // namespace limen::storage
