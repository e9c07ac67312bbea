#include "storage/ahci/port.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/trace.h"

namespace limen::storage::ahci {

using namespace ata;

namespace {

trace::Event trace_write("ahci_port_write");
trace::Event trace_frame("handle_cmd_fis_dump");
trace::Event trace_reset("ahci_reset_port");

constexpr size_t kFrameBytes = 64;
constexpr uint8_t kIsCommand = 0x80, kInterrupt = 0x40, kToHost = 0x20;

void replace_low(uint64_t& address, uint32_t value) {
  address = (address & ~uint64_t{0xFFFF'FFFF}) | value;
}
void replace_high(uint64_t& address, uint32_t value) {
  address = (address & 0xFFFF'FFFF) | uint64_t{value} << 32;
}

Taskfile taskfile_of(std::span<const uint8_t, 64> frame) {
  Taskfile registers;
  registers.command = frame[2];
  registers.features = static_cast<uint16_t>(frame[3] | frame[11] << 8);
  for (size_t i = 0; i < 3; ++i)
    registers.lba |= uint64_t{frame[4 + i]} << 8 * i | uint64_t{frame[8 + i]} << (24 + 8 * i);
  registers.device = frame[7];
  registers.count = static_cast<uint16_t>(frame[12] | frame[13] << 8);
  return registers;
}

/// Frames that carry registers to the host have them in the same places.
std::array<uint8_t, 20> register_frame(uint8_t type, const Taskfile& registers,
                                       const Ending& ending) {
  std::array<uint8_t, 20> frame{};
  frame[0] = type;
  frame[2] = ending.status;
  frame[3] = ending.error;
  for (size_t i = 0; i < 3; ++i) {
    frame[4 + i] = static_cast<uint8_t>(registers.lba >> 8 * i);
    frame[8 + i] = static_cast<uint8_t>(registers.lba >> (24 + 8 * i));
  }
  frame[7] = registers.device;
  frame[12] = static_cast<uint8_t>(registers.count);
  frame[13] = static_cast<uint8_t>(registers.count >> 8);
  return frame;
}

bool is_queued(uint8_t command) {
  return command == kReadFpdmaQueued || command == kWriteFpdmaQueued;
}

}  // namespace

void Port::attach(std::unique_ptr<Device> device) {
  device_ = std::move(device);
  reset(true);
}

// --- Registers ----------------------------------------------------------------------------------

uint32_t Port::read(uint32_t offset) const {
  switch (offset) {
    case kClb:
      return static_cast<uint32_t>(list_);
    case kClbu:
      return static_cast<uint32_t>(list_ >> 32);
    case kFb:
      return static_cast<uint32_t>(received_);
    case kFbu:
      return static_cast<uint32_t>(received_ >> 32);
    case kPortIs:
      return status();
    case kPortIe:
      return interrupts_;
    case kCmd:
      return command_ | next_slot_ << cmd::kSlotShift;
    case kTfd:
      return task_file_;
    case kSig:
      return signature_;
    case kSsts:
      return link_;
    case kSctl:
      return control_;
    case kSerr:
      return error_;
    case kSact:
      return active_;
    case kCi:
      return issued_;
    default:
      return 0;
  }
}

void Port::write(uint32_t offset, uint32_t value) {
  trace_write("ahci {}: port reg write 0x{:x}: 0x{:x}", static_cast<const void*>(this), offset,
              value);
  switch (offset) {
    case kClb:
      return replace_low(list_, value & ~0x3FFu);
    case kClbu:
      return replace_high(list_, value);
    case kFb:
      return replace_low(received_, value & ~0xFFu);
    case kFbu:
      return replace_high(received_, value);
    case kPortIs:
      status_ &= ~value;
      return;
    case kPortIe:
      interrupts_ = value & 0xFDC0'00FF;
      return;
    case kCmd:
      return write_command(value);
    case kSctl:
      return write_control(value);
    case kSerr:
      error_ &= ~value;
      return;
    case kSact:
      if ((command_ & cmd::kStart) != 0) active_ |= value;
      return;
    case kCi:
      if ((command_ & cmd::kStart) != 0) issued_ |= value;
      return;
    default:
      return;
  }
}

void Port::write_command(uint32_t value) {
  const uint32_t before = command_;
  command_ = (before & ~(cmd::kStart | cmd::kReceive | cmd::kPlain)) |
             (value & (cmd::kStart | cmd::kReceive | cmd::kPlain));
  // What the port stands for cannot be switched off here (§3.3.7: no staggered spin-up).
  command_ |= cmd::kSpinUp | cmd::kPowerOn;
  if ((value & cmd::kReceive) != 0)
    command_ |= cmd::kReceiving;
  else
    command_ &= ~cmd::kReceiving;
  if (signature_due_ && (command_ & cmd::kReceiving) != 0) give_signature();
  if ((value & cmd::kOverride) != 0) task_file_ &= ~uint32_t{status::kBusy | status::kDataRequest};
  if ((before & ~value & cmd::kStart) != 0) {
    stopping_ = true;
    issued_ = active_ = 0;
    if (idle()) settle();
  } else if ((value & cmd::kStart) != 0 && !stopping_) {
    command_ |= cmd::kRunning;
  }
}

void Port::write_control(uint32_t value) {
  constexpr uint32_t kDetection = 0xF, kReset = 1, kOffline = 4;
  const uint32_t before = std::exchange(control_, value & 0xFFF) & kDetection;
  const uint32_t now = value & kDetection;
  if (now == kReset) {
    link_ = 0;
    task_file_ = kNoTaskFile;
    // Commands that were issued are forgotten, those with the drive once it is done.
    issued_ = active_ = 0;
  } else if (now == kOffline) {
    link_ = kOffline;
  } else if (now == 0 && before != 0) {
    link_reset_wanted_ = true;
    if (idle()) settle();
  }
}

void Port::settle() {
  if (stopping_) {
    stopping_ = false;
    halted_ = false;
    next_slot_ = 0;
    if ((command_ & cmd::kStart) == 0) command_ &= ~cmd::kRunning;
  }
  if (link_reset_wanted_) reset_link();
}

void Port::reset_link() {
  trace_reset("ahci {}: reset port", static_cast<const void*>(this));
  link_reset_wanted_ = false;
  halted_ = soft_reset_ = false;
  task_file_ = kNoTaskFile;
  signature_ = kNoSignature;
  signature_due_ = false;
  link_ = 0;
  if (device_ == nullptr) return;
  device_->reset(false);
  link_ = kLinkUp;
  error_ |= kExchanged;
  task_file_ = kNoTaskFile | status::kBusy;
  signature_due_ = true;
  if ((command_ & cmd::kReceiving) != 0) give_signature();
}

void Port::reset(bool power_on) {
  if (power_on) list_ = received_ = 0;
  status_ = interrupts_ = 0;
  command_ = cmd::kSpinUp | cmd::kPowerOn;
  control_ = error_ = active_ = issued_ = 0;
  next_slot_ = 0;
  stopping_ = false;
  if (device_ != nullptr && power_on) device_->reset(true);
  reset_link();
  if (power_on) error_ = 0;
}

/// The first frame after a reset: who the drive is.
void Port::give_signature() {
  signature_due_ = false;
  const Taskfile registers = signature_of(*device_);
  signature_ = static_cast<uint32_t>(registers.lba << 8 | (registers.count & 0xFF));
  send_registers(registers, {.status = status_after_reset(*device_), .error = error::kPassed},
                 false);
}

void Port::fatal(uint32_t what) {
  status_ |= what;
  halted_ = true;
}

// --- Frames to the host -------------------------------------------------------------------------

void Port::receive(uint64_t at, std::span<const uint8_t> frame) {
  if ((command_ & cmd::kReceiving) == 0) return;
  if (!memory_.write({received_ + at}, std::as_bytes(frame))) fatal(event::kHostBusFatal);
}

void Port::send_registers(const Taskfile& registers, const Ending& ending, bool interrupt) {
  auto frame = register_frame(kDeviceToHost, registers, ending);
  if (interrupt) frame[1] = kInterrupt;
  task_file_ = static_cast<uint32_t>(ending.error << 8 | ending.status);
  receive(kDeviceToHostAt, frame);
  if (interrupt) status_ |= event::kDeviceToHost;
  if (ending.failed()) fatal(event::kTaskFile);
}

/// Of the data that went to the host, with the status that the command ends with.
void Port::send_pio_setup(const Operation& operation, const Ending& ending) {
  Ending before = ending;
  before.status = ending.status | status::kDataRequest;
  auto frame = register_frame(kPioSetup, operation.registers, before);
  frame[1] = kInterrupt | kToHost;
  frame[15] = ending.status;
  frame[16] = static_cast<uint8_t>(ending.transferred);
  frame[17] = static_cast<uint8_t>(ending.transferred >> 8);
  task_file_ = static_cast<uint32_t>(ending.error << 8 | ending.status);
  receive(kPioSetupAt, frame);
  status_ |= event::kPioSetup;
}

// --- Commands -----------------------------------------------------------------------------------

std::optional<Port::Job> Port::next() {
  while (running() && device_ != nullptr && link_ == kLinkUp && !exclusive_) {
    // In the order of the slots, from the one after the last (§5.3.2.3).
    unsigned slot = kSlots;
    for (unsigned i = 0; i < kSlots && slot == kSlots; ++i)
      if (const unsigned each = (next_slot_ + i) % kSlots;
          (issued_ >> each & 1) != 0 && !commands_[each])
        slot = each;
    if (slot == kSlots) return std::nullopt;
    CommandHeader header{};
    std::array<uint8_t, kFrameBytes> frame{};
    if (!memory_.read({list_ + sizeof header * slot},
                      std::as_writable_bytes(std::span(&header, 1))) ||
        !memory_.read({header.table & ~uint64_t{0x7F}}, std::as_writable_bytes(std::span(frame)))) {
      fatal(event::kHostBusFatal);
      return std::nullopt;
    }
    const bool command = frame[0] == kHostToDevice && (frame[1] & kIsCommand) != 0;
    // Queued commands are under way together, others alone.
    if (!(command && is_queued(frame[2])) && !idle()) return std::nullopt;
    next_slot_ = slot;
    if (frame[0] != kHostToDevice) {
      fatal(event::kInterfaceFatal);
      return std::nullopt;
    }
    if (!command) {
      control(slot, frame[15]);
      continue;
    }
    if (auto job = start(slot, header, frame)) return job;
  }
  return std::nullopt;
}

/// A frame that carries the device control register.
void Port::control(unsigned slot, uint8_t value) {
  issued_ &= ~(1u << slot);
  const bool reset = (value & kSoftReset) != 0;
  if (soft_reset_ && !reset) {
    device_->reset(false);
    give_signature();
  }
  soft_reset_ = reset;
}

std::optional<Port::Job> Port::start(unsigned slot, const CommandHeader& header,
                                     std::span<const uint8_t, 64> frame) {
  const Taskfile registers = taskfile_of(frame);
  trace_frame("ahci {}: slot {} command 0x{:02x} lba {} count {}", static_cast<const void*>(this),
              slot, registers.command, registers.lba, registers.count);
  Command command;
  command.operation = device_->begin(registers);
  Operation& operation = *command.operation;
  if (operation.protocol == Protocol::kPacket) {
    std::array<uint8_t, 12> packet{};
    if (!memory_.read({(header.table & ~uint64_t{0x7F}) + kPacketAt},
                      std::as_writable_bytes(std::span(packet)))) {
      fatal(event::kHostBusFatal);
      return std::nullopt;
    }
    device_->take_packet(operation, packet);
  }
  command.queued = operation.protocol == Protocol::kQueued;
  if (command.queued) {
    // The drive has taken it, and others may follow (§5.6.4.2).
    command.tag = static_cast<uint8_t>(registers.count >> 3 & 31);
    issued_ &= ~(1u << slot);
    task_file_ = status::kGood;
  } else {
    task_file_ = (task_file_ & ~0xFFu) | status::kBusy | status::kReady;
  }
  const bool finished = operation.finished;
  if (!finished && operation.bytes != 0) {
    if (!gather(command, header, operation.bytes)) {
      fatal(event::kHostBusFatal);
      return std::nullopt;
    }
    if (operation.exact && command.scatter.bytes() < operation.bytes) {
      status_ |= event::kOverflow;
      commands_[slot] = std::move(command);
      complete(slot, failure(error::kAbort));
      return std::nullopt;
    }
  }
  Job job{slot, command.operation, command.scatter.buffers()};
  commands_[slot] = std::move(command);
  if (finished) {
    complete(slot, job.operation->ending);
    return std::nullopt;
  }
  ++under_way_;
  exclusive_ = !commands_[slot]->queued;
  return job;
}

/// Follows the table of regions (§4.2.3.3). False: it leads out of RAM.
bool Port::gather(Command& command, const CommandHeader& header, uint64_t wanted) {
  const uint32_t count = header.flags >> 16;
  const uint64_t table = (header.table & ~uint64_t{0x7F}) + kRegionsAt;
  for (uint32_t i = 0; i < count && command.scatter.bytes() < wanted; ++i) {
    Region region{};
    if (!memory_.read({table + sizeof region * i}, std::as_writable_bytes(std::span(&region, 1))))
      return false;
    const uint64_t length = (region.count & 0x3F'FFFF) + uint64_t{1};
    if (!command.scatter.add(memory_, {region.base & ~uint64_t{1}}, length)) return false;
    if ((region.count >> 31) != 0) command.wants_descriptor_interrupt = true;
  }
  command.scatter.truncate(wanted);
  return true;
}

void Port::done(unsigned slot, const Ending& ending) {
  --under_way_;
  exclusive_ = false;
  complete(slot, ending);
  if (idle()) settle();
}

void Port::complete(unsigned slot, const Ending& ending) {
  const Command command = *std::exchange(commands_[slot], std::nullopt);
  const Operation& operation = *command.operation;
  if (operation.direction == Direction::kToHost) command.scatter.note_written(memory_);
  // The driver has given the command up: it hears no more of it.
  if (stopping_ || link_ != kLinkUp || (halted_ && command.queued)) return;
  if (command.wants_descriptor_interrupt) status_ |= event::kDescriptor;
  if (command.queued) return complete_queued(command, ending);

  const auto moved = static_cast<uint32_t>(ending.transferred);
  if (!memory_.write({list_ + sizeof(CommandHeader) * slot + 4},
                     std::as_bytes(std::span(&moved, 1))))
    return fatal(event::kHostBusFatal);
  const bool packet = operation.work == Operation::Work::kPacket;
  const bool pio_to_host =
      operation.protocol == Protocol::kPio && operation.direction == Direction::kToHost;
  if (!ending.failed()) issued_ &= ~(1u << slot);
  if (pio_to_host && !ending.failed()) {
    send_pio_setup(operation, ending);
    if (!packet) return;
  }
  Taskfile registers = operation.signature ? signature_of(*device_) : operation.registers;
  if (packet) registers.count = kReasonCommand | kReasonToHost;
  send_registers(registers, ending, true);
}

/// A frame that says which queued commands have ended (Serial ATA 3.0 §10.3.6).
void Port::complete_queued(const Command& command, const Ending& ending) {
  const uint32_t bit = ending.failed() ? 0 : 1u << command.tag;
  std::array<uint8_t, 8> frame{kSetDeviceBits, kInterrupt,
                               static_cast<uint8_t>(ending.status & 0x77), ending.error};
  std::memcpy(&frame[4], &bit, sizeof bit);
  task_file_ = static_cast<uint32_t>(ending.error << 8 | ending.status);
  receive(kSetDeviceBitsAt, frame);
  active_ &= ~bit;
  status_ |= event::kSetBits;
  if (!ending.failed()) return;
  device_->note_queued_error(command.tag, command.operation->registers, ending);
  fatal(event::kTaskFile);
}

}  // namespace limen::storage::ahci
