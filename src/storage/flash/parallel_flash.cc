#include "storage/flash/parallel_flash.h"

#include <algorithm>
#include <array>
#include <bit>
#include <condition_variable>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace limen::storage {
namespace {

// Commands (datasheet, "Command Definitions").
constexpr uint8_t kProgramByte = 0x10, kBlockErase = 0x20, kProgramByteToo = 0x40,
                  kClearStatus = 0x50, kLockSetup = 0x60, kReadStatus = 0x70,
                  kReadIdentifier = 0x90, kReadQuery = 0x98, kConfirm = 0xD0, kWriteToBuffer = 0xE8,
                  kReadArray = 0xFF, kAmdReset = 0xF0, kLockBlock = 0x01;
constexpr uint8_t kErased = 0xFF;
constexpr uint64_t kImageGranularity = 512;
constexpr uint64_t kBufferSize = 64;

}  // namespace

Result<std::unique_ptr<ParallelFlash>> ParallelFlash::create(const std::string& name,
                                                             memory::GuestMemory& memory,
                                                             memory::IoSpace& mmio,
                                                             block::BlockDevice& image,
                                                             uint64_t end) {
  const uint64_t size = image.size();
  if (size == 0 || size % kBlockSize != 0)
    return fail(
        "system firmware block device {} has invalid size {}: its size must be a non-zero multiple "
        "of {:#x}",
        name, size, kBlockSize);
  const auto bytes = LIMEN_TRY(memory.reserve(size));
  std::unique_ptr<ParallelFlash> flash(new ParallelFlash(name, memory, mmio, image, bytes, end));
  if (auto read = flash->transfer(block::Request::Kind::kRead, 0, bytes); !read)
    return fail("system firmware block device {}: {}", name, read.error().message);
  const std::lock_guard lock(flash->mutex_);
  flash->enter(Mode::kArray);
  return flash;
}

ParallelFlash::ParallelFlash(std::string name, memory::GuestMemory& memory, memory::IoSpace& mmio,
                             block::BlockDevice& image, std::span<std::byte> bytes, uint64_t end)
    : name_(std::move(name)),
      memory_(memory),
      mmio_(mmio),
      image_(image),
      bytes_(bytes),
      start_(end - bytes.size()) {
  mmio_.claim(start_, bytes_.size(), *this, name_);
}

ParallelFlash::~ParallelFlash() {
  mmio_.release(start_, *this);
  const std::lock_guard lock(mutex_);
  if (mode_ == Mode::kArray) memory_.unmap({start_}, bytes_);
  save();
}

void ParallelFlash::reset() {
  const std::lock_guard lock(mutex_);
  status_ = kReady;
  enter(Mode::kArray);
}

void ParallelFlash::enter(Mode mode) {
  if (mode == Mode::kArray) save();
  const Mode before = std::exchange(mode_, mode);
  if ((before == Mode::kArray) == (mode == Mode::kArray)) return;
  if (mode == Mode::kArray)
    memory_.map({start_}, bytes_, false);
  else
    memory_.unmap({start_}, bytes_);
}

Result<> ParallelFlash::transfer(block::Request::Kind kind, uint64_t offset,
                                 std::span<std::byte> part) {
  std::mutex done_mutex;
  std::condition_variable wake;
  std::optional<int> outcome;
  block::Request request{.kind = kind, .offset = offset, .length = part.size()};
  request.buffers = {{part.data(), part.size()}};
  request.done = [&](int error) {
    const std::lock_guard lock(done_mutex);
    outcome = error;
    wake.notify_one();
  };
  image_.submit(std::move(request));
  std::unique_lock lock(done_mutex);
  wake.wait(lock, [&] { return outcome.has_value(); });
  if (*outcome != 0) return fail("{}", ::strerror(*outcome));
  return {};
}

void ParallelFlash::save() {
  if (changed_from_ >= changed_to_) return;
  const uint64_t from = changed_from_ / kImageGranularity * kImageGranularity;
  const uint64_t to = (changed_to_ + kImageGranularity - 1) / kImageGranularity * kImageGranularity;
  changed_from_ = UINT64_MAX;
  changed_to_ = 0;
  if (auto saved = transfer(block::Request::Kind::kWrite, from, bytes_.subspan(from, to - from));
      !saved) {
    log::warning("{}: what was programmed could not be saved: {}", name_, saved.error().message);
    status_ |= kProgramError;
  }
}

void ParallelFlash::note_changed(uint64_t offset, uint64_t size) {
  changed_from_ = std::min(changed_from_, offset);
  changed_to_ = std::max(changed_to_, offset + size);
  memory_.note_code_changed(
      static_cast<uint64_t>(bytes_.data() + offset - memory_.file_bytes(0, 0).data()) >>
      memory::kPageShift);
}

void ParallelFlash::program(uint64_t offset, uint8_t value) {
  status_ |= kReady;
  if (image_.read_only()) {
    status_ |= kProgramError;
    return;
  }
  bytes_[offset] = static_cast<std::byte>(value);
  note_changed(offset, 1);
}

void ParallelFlash::erase(uint64_t offset) {
  status_ |= kReady;
  if (image_.read_only()) {
    status_ |= kEraseError;
    return;
  }
  offset = offset / kBlockSize * kBlockSize;
  std::memset(bytes_.data() + offset, kErased, kBlockSize);
  note_changed(offset, kBlockSize);
}

/// The CFI table (JESD68 4.3), from its "QRY" at 10h on.
uint8_t ParallelFlash::query(uint64_t offset) const {
  const auto size_bits = static_cast<uint8_t>(std::bit_width(bytes_.size() - 1));
  const auto blocks = static_cast<uint16_t>(bytes_.size() / kBlockSize - 1);
  constexpr uint64_t kStart = 0x10;
  const std::array<uint8_t, 0x21> table = {'Q',
                                           'R',
                                           'Y',
                                           0x01,
                                           0x00,  // Intel's command set
                                           0x31,
                                           0x00,  // its table
                                           0x00,
                                           0x00,  // no other
                                           0x00,
                                           0x00,
                                           0x45,
                                           0x55,  // voltages
                                           0x00,
                                           0x00,
                                           0x07,
                                           0x07,
                                           0x0A,
                                           0x00,  // usual times
                                           0x04,
                                           0x04,
                                           0x04,
                                           0x00,  // longest times
                                           size_bits,
                                           0x02,
                                           0x00,  // size; x8 and x16
                                           static_cast<uint8_t>(std::bit_width(kBufferSize - 1)),
                                           0x00,
                                           0x01,  // one region of blocks
                                           static_cast<uint8_t>(blocks),
                                           static_cast<uint8_t>(blocks >> 8),
                                           static_cast<uint8_t>(kBlockSize >> 8),
                                           static_cast<uint8_t>(kBlockSize >> 16)};
  return offset >= kStart && offset - kStart < table.size() ? table[offset - kStart] : 0;
}

uint64_t ParallelFlash::io_read(uint64_t offset, unsigned size) {
  const std::lock_guard lock(mutex_);
  uint64_t value = 0;
  for (unsigned i = 0; i < size && offset + i < bytes_.size(); ++i) {
    uint8_t byte = status_;
    switch (mode_) {
      case Mode::kArray:
        byte = static_cast<uint8_t>(bytes_[offset + i]);
        break;
      case Mode::kIdentifier:
        byte = (offset + i) % 2 == 0 ? 0x89 : 0x18;  // Intel, 128 Mbit
        break;
      case Mode::kQuery:
        byte = query((offset + i) % kBlockSize);
        break;
      default:
        break;
    }
    value |= uint64_t{byte} << (8 * i);
  }
  return value;
}

void ParallelFlash::io_write(uint64_t offset, unsigned size, uint64_t value) {
  const std::lock_guard lock(mutex_);
  for (unsigned i = 0; i < size && offset + i < bytes_.size(); ++i)
    command(offset + i, static_cast<uint8_t>(value >> (8 * i)));
}

void ParallelFlash::command(uint64_t offset, uint8_t value) {
  switch (mode_) {
    case Mode::kProgram:
      program(offset, value);
      return enter(Mode::kStatus);
    case Mode::kErase:
      if (value == kConfirm)
        erase(offset);
      else
        status_ |= kReady | kEraseError | kProgramError;  // a sequence that is none
      return enter(Mode::kStatus);
    case Mode::kBufferCount:
      expected_ = std::min<uint64_t>(value + 1u, kBufferSize);
      return enter(Mode::kBuffer);
    case Mode::kBuffer:
      program(offset, value);
      if (--expected_ == 0) enter(Mode::kBufferConfirm);
      return;
    case Mode::kBufferConfirm:
      if (value != kConfirm) status_ |= kProgramError;
      return enter(Mode::kStatus);
    case Mode::kLock:
      // Blocks are never locked.
      if (value == kConfirm || value == kLockBlock) status_ |= kReady;
      return enter(Mode::kStatus);
    default:
      break;
  }
  switch (value) {
    case kProgramByte:
    case kProgramByteToo:
      return enter(Mode::kProgram);
    case kBlockErase:
      return enter(Mode::kErase);
    case kClearStatus:
      status_ = 0;
      return enter(Mode::kArray);
    case kLockSetup:
      return enter(Mode::kLock);
    case kReadStatus:
      return enter(Mode::kStatus);
    case kReadIdentifier:
      return enter(Mode::kIdentifier);
    case kReadQuery:
      return enter(Mode::kQuery);
    case kWriteToBuffer:
      status_ |= kReady;
      return enter(Mode::kBufferCount);
    case kReadArray:
    case kAmdReset:
    case 0:
      return enter(Mode::kArray);
    default:
      log::info("{}: command {:#04x} is not known", name_, value);
      return enter(Mode::kArray);
  }
}

}  // namespace limen::storage
