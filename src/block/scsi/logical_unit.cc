#include "block/scsi/logical_unit.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

namespace limen::block::scsi {
namespace {

/// Sense data of an error of the host's.
Sense sense_of(int error, bool write) {
  switch (error) {
    case ENOSPC:
      return sense::kSpaceExhausted;
    case EROFS:
      return sense::kWriteProtected;
    case ENOMEDIUM:
      return sense::kNoMedium;
    case ENOTSUP:
      return sense::kInvalidOpcode;
    case EIO:
      return write ? sense::kWriteError : sense::kReadError;
    default:
      return sense::kInternalFailure;
  }
}

/// The part of `buffers` that holds the first `bytes`.
std::vector<iovec> first_bytes(std::vector<iovec> buffers, uint64_t bytes) {
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (bytes < buffers[i].iov_len) buffers[i].iov_len = static_cast<size_t>(bytes);
    bytes -= buffers[i].iov_len;
    if (bytes == 0) {
      buffers.resize(i + 1);
      break;
    }
  }
  return buffers;
}

}  // namespace

LogicalUnit::LogicalUnit(Settings settings, BlockDevice* medium)
    : settings_(std::move(settings)), medium_(medium), write_cache_(settings_.write_cache) {
  attentions_.push_back(sense::kPowerOnOrReset);
}

LogicalUnit::~LogicalUnit() = default;

void LogicalUnit::reset() {
  write_cache_ = settings_.write_cache;
  const std::lock_guard lock(mutex_);
  attentions_.assign(1, sense::kPowerOnOrReset);
}

void LogicalUnit::attention(const Sense& sense) {
  const std::lock_guard lock(mutex_);
  if (std::ranges::find(attentions_, sense) == attentions_.end()) attentions_.push_back(sense);
}

void LogicalUnit::quiesce() {
  if (medium_ != nullptr) medium_->give_up_held(true);
  {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return under_way_ == 0; });
  }
  if (medium_ != nullptr) medium_->give_up_held(false);
}

void LogicalUnit::set_medium(BlockDevice* medium) {
  // Whoever is told of a command's end may begin the next one from there, and would wait for this
  // lock while this waits for that end: so it is let go of now and then.
  constexpr auto kPatience = std::chrono::milliseconds(1);
  for (;; std::this_thread::sleep_for(kPatience)) {
    const std::unique_lock lock(medium_mutex_);
    if (medium_ != nullptr) medium_->give_up_held(true);
    bool quiet = false;
    {
      std::unique_lock commands(mutex_);
      quiet = idle_.wait_for(commands, kPatience, [this] { return under_way_ == 0; });
    }
    if (medium_ != nullptr) medium_->give_up_held(false);
    if (!quiet) continue;
    medium_ = medium;
    return;
  }
}

void LogicalUnit::ended() {
  const std::lock_guard lock(mutex_);
  if (--under_way_ == 0) idle_.notify_all();
}

void LogicalUnit::execute(Command command) {
  const std::shared_lock lock(medium_mutex_);
  ++under_way_;
  command.done = [this, done = std::move(command.done)](const Outcome& outcome) {
    done(outcome);
    ended();
  };
  if (take_attention(command) || execute_common(command) || execute_own(command)) return;
  finish(command, sense::kInvalidOpcode);
}

/// Most commands end with a unit attention that is pending (SAM-5 5.14.1).
bool LogicalUnit::take_attention(Command& command) {
  const uint8_t opcode = command.cdb[0];
  if (opcode == kInquiry || opcode == kReportLuns || opcode == kRequestSense ||
      opcode == kGetEventStatus)
    return false;
  Sense sense;
  {
    const std::lock_guard lock(mutex_);
    if (attentions_.empty()) return false;
    sense = attentions_.front();
    attentions_.pop_front();
  }
  finish(command, sense);
  return true;
}

bool LogicalUnit::execute_common(Command& command) {
  const auto& cdb = command.cdb;
  switch (cdb[0]) {
    case kTestUnitReady:
      finish(command, readiness());
      return true;
    case kInquiry:
      finish(command, inquiry(command), get_be<2>(&cdb[3]));
      return true;
    case kRequestSense: {
      if ((cdb[1] & 1) != 0) {  // sense data as descriptors, which are not kept
        finish(command, sense::kInvalidFieldInCdb);
        return true;
      }
      Sense pending;
      {
        const std::lock_guard lock(mutex_);
        if (!attentions_.empty()) {
          pending = attentions_.front();
          attentions_.pop_front();
        }
      }
      const auto bytes = fixed_sense(pending);
      finish(command, std::vector<uint8_t>(bytes.begin(), bytes.end()), cdb[4]);
      return true;
    }
    case kModeSense6:
      finish(command, mode_sense(command, false), cdb[4]);
      return true;
    case kModeSense10:
      finish(command, mode_sense(command, true), get_be<2>(&cdb[7]));
      return true;
    case kModeSelect6:
      finish(command, mode_select(command, false));
      return true;
    case kModeSelect10:
      finish(command, mode_select(command, true));
      return true;
    case kReserve6:  // there is one initiator, which has it all the time
    case kRelease6:
    case kReserve10:
    case kRelease10:
      finish(command, sense::kNone);
      return true;
    case kSendDiagnostic:
      finish(command, (cdb[1] & 0x04) != 0 ? sense::kNone : sense::kInvalidFieldInCdb);
      return true;
    default:
      return false;
  }
}

// --- Ending -------------------------------------------------------------------------------------

void LogicalUnit::finish(Command& command, const Sense& sense) {
  const bool good = sense == sense::kNone;
  command.done({.status = good ? Status::kGood : Status::kCheckCondition, .sense = sense});
}

void LogicalUnit::finish(Command& command, const Reply& reply, uint64_t allocation) {
  if (!reply) return finish(command, reply.error());
  const std::span<const uint8_t> bytes(*reply);
  const size_t given =
      copy_to(command.data_in,
              bytes.first(std::min<size_t>(bytes.size(), static_cast<size_t>(allocation))));
  command.done({.transferred = given});
}

void LogicalUnit::finish_io(Command& command, bool write, int error, uint64_t transferred) {
  if (error == 0) return command.done({.transferred = transferred});
  finish(command, sense_of(error, write));
}

// --- Blocks -------------------------------------------------------------------------------------

Sense LogicalUnit::readiness() const {
  return medium_ == nullptr ? sense::kNoMedium : sense::kNone;
}

uint64_t LogicalUnit::blocks() const {
  return medium_ == nullptr ? 0 : medium_->size() / settings_.block_size;
}

bool LogicalUnit::fits(uint64_t block, uint64_t count) const {
  return block <= blocks() && count <= blocks() - block;
}

LogicalUnit::Extent LogicalUnit::extent(const Command& command) {
  const uint8_t* cdb = command.cdb.data();
  switch (cdb_length(cdb[0])) {
    case 6:  // 21 bits of address; a count of 0 is 256 (SBC-3 5.8)
      return {.block = get_be<3>(cdb + 1) & 0x1F'FFFF, .count = cdb[4] == 0 ? 256u : cdb[4]};
    case 10:
      return {.block = get_be<4>(cdb + 2), .count = get_be<2>(cdb + 7), .flags = cdb[1]};
    case 12:
      return {.block = get_be<4>(cdb + 2), .count = get_be<4>(cdb + 6), .flags = cdb[1]};
    default:
      return {.block = get_be<8>(cdb + 2), .count = get_be<4>(cdb + 10), .flags = cdb[1]};
  }
}

void LogicalUnit::read(Command& command, uint64_t block, uint64_t count) {
  if (const Sense sense = readiness(); sense != sense::kNone) return finish(command, sense);
  if (!fits(block, count)) return finish(command, sense::kBlockOutOfRange);
  const uint64_t bytes = count * settings_.block_size;
  if (bytes == 0) return finish(command, sense::kNone);
  // A transport that has less room says so itself (virtio-scsi: OVERRUN).
  if (bytes > command.in_bytes) return finish(command, sense::kInvalidFieldInCdb);
  Request request{.kind = Request::Kind::kRead,
                  .offset = block * settings_.block_size,
                  .length = bytes,
                  .buffers = first_bytes(std::move(command.data_in), bytes)};
  request.done = [moved = std::make_shared<Command>(std::move(command)), bytes](int error) {
    finish_io(*moved, false, error, bytes);
  };
  medium_->submit(std::move(request));
}

void LogicalUnit::write(Command& command, uint64_t block, uint64_t count, bool force_unit_access) {
  if (const Sense sense = readiness(); sense != sense::kNone) return finish(command, sense);
  if (medium_->read_only()) return finish(command, sense::kWriteProtected);
  if (!fits(block, count)) return finish(command, sense::kBlockOutOfRange);
  const uint64_t bytes = count * settings_.block_size;
  if (bytes == 0) return finish(command, sense::kNone);
  if (bytes > command.out_bytes) return finish(command, sense::kInvalidFieldInCdb);
  Request request{.kind = Request::Kind::kWrite,
                  .offset = block * settings_.block_size,
                  .length = bytes,
                  .buffers = first_bytes(std::move(command.data_out), bytes)};
  const bool durable = force_unit_access || !write_cache_;
  request.done = [this, moved = std::make_shared<Command>(std::move(command)), bytes,
                  durable](int error) {
    if (error == 0 && durable) return flush(*moved, true, bytes);
    finish_io(*moved, true, error, bytes);
  };
  medium_->submit(std::move(request));
}

void LogicalUnit::flush(Command& command, bool write, uint64_t transferred) {
  Request request{.kind = Request::Kind::kFlush};
  request.done = [moved = std::make_shared<Command>(std::move(command)), write,
                  transferred](int error) { finish_io(*moved, write, error, transferred); };
  medium_->submit(std::move(request));
}

// --- Targets ------------------------------------------------------------------------------------

bool Target::add(uint16_t number, LogicalUnit& unit) {
  const std::unique_lock lock(mutex_);
  const auto at =
      std::ranges::lower_bound(units_, number, {}, [](const auto& u) { return u.first; });
  if (at != units_.end() && at->first == number) return false;
  units_.insert(at, {number, &unit});
  return true;
}

void Target::remove(uint16_t number) {
  const std::unique_lock lock(mutex_);
  std::erase_if(units_, [number](const auto& unit) { return unit.first == number; });
}

LogicalUnit* Target::find(uint16_t number) const {
  const std::shared_lock lock(mutex_);
  return find_locked(number);
}

LogicalUnit* Target::find_locked(uint16_t number) const {
  const auto at = std::ranges::find(units_, number, [](const auto& unit) { return unit.first; });
  return at == units_.end() ? nullptr : at->second;
}

bool Target::empty() const {
  const std::shared_lock lock(mutex_);
  return units_.empty();
}

void Target::execute(uint16_t number, Command command) {
  const auto reply = [&command](std::span<const uint8_t> bytes, uint64_t allocation) {
    const size_t given =
        copy_to(command.data_in,
                bytes.first(std::min<size_t>(bytes.size(), static_cast<size_t>(allocation))));
    command.done({.transferred = given});
  };
  const auto refuse = [&command](const Sense& sense) {
    command.done({.status = Status::kCheckCondition, .sense = sense});
  };
  const auto& cdb = command.cdb;
  const std::shared_lock lock(mutex_);
  LogicalUnit* unit = find_locked(number);
  if (cdb[0] == kReportLuns) {
    // SPC-4 6.33: the list is the target's, whichever unit is asked.
    constexpr uint8_t kWellKnownOnly = 1, kMost = 2;
    if (cdb[2] > kMost || get_be<4>(&cdb[6]) < 16) return refuse(sense::kInvalidFieldInCdb);
    std::vector<uint8_t> list(8);
    if (cdb[2] != kWellKnownOnly) {
      for (const auto& [each, ignored] : units_) {
        uint8_t entry[8] = {};
        // Single-level: peripheral addressing to 255, then flat space (SAM-5 4.7.7).
        put_be<2>(entry, each < 256 ? each : 0x4000u | each);
        list.insert(list.end(), entry, entry + sizeof entry);
      }
    }
    put_be<4>(list.data(), list.size() - 8);
    return reply(list, get_be<4>(&cdb[6]));
  }
  if (unit != nullptr) return unit->execute(std::move(command));
  if (cdb[0] == kInquiry) {
    if ((cdb[1] & 1) != 0 || cdb[2] != 0) return refuse(sense::kInvalidFieldInCdb);
    std::vector<uint8_t> bytes(36);
    bytes[0] = 0x7F;  // there could be a unit, and there is none (SPC-4 6.6.2)
    bytes[2] = 5;
    bytes[3] = 0x12;
    bytes[4] = 31;
    bytes[7] = 2;
    return reply(bytes, get_be<2>(&cdb[3]));
  }
  if (cdb[0] == kRequestSense) {
    const auto bytes = fixed_sense(sense::kLogicalUnitNotSupported);
    return reply(bytes, cdb[4]);
  }
  refuse(sense::kLogicalUnitNotSupported);
}

}  // namespace limen::block::scsi
