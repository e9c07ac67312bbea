#include "device/tpm/tis.h"

#include <algorithm>
#include <utility>

namespace limen::device {
namespace {

constexpr unsigned kLocalityShift = 12;

/// Registers of a locality (table 17).
enum Register : uint16_t {
  kAccess = 0x00,
  kIntEnable = 0x08,
  kIntfCapability = 0x14,
  kSts = 0x18,
  kFifo = 0x24,
  kInterfaceId = 0x30,
  kWideFifo = 0x80,
  kDidVid = 0xF00,
  kRid = 0xF04,
};
constexpr unsigned kFifoBytes = 4, kWideFifoBytes = 64;

/// TPM_ACCESS (table 18).
constexpr uint8_t kValid = 0x80, kActive = 0x20, kBeenSeized = 0x10, kSeize = 0x08, kPending = 0x04,
                  kRequest = 0x02, kNotEstablished = 0x01;
/// TPM_STS (table 19).
constexpr uint32_t kStsValid = 1u << 7, kCommandReady = 1u << 6, kGo = 1u << 5,
                   kDataAvailable = 1u << 4, kExpect = 1u << 3, kSelfTestDone = 1u << 2,
                   kResponseRetry = 1u << 1, kCancel = 1u << 24, kResetEstablishment = 1u << 25,
                   kFamily2 = 1u << 26;
constexpr unsigned kBurstShift = 8;
/// Interface version 1.3 for TPM 2.0, transfers of up to 64 bytes (table 22).
constexpr uint32_t kCapabilities = 3u << 28 | 3u << 9;
/// A FIFO, the only interface, with five localities (table 14).
constexpr uint32_t kInterface = 1u << 13 | 1u << 8;
constexpr uint32_t kVendor = 0x0001'1014;  ///< As QEMU's.

constexpr size_t kSizeEnd = 6;  ///< Of a header: tag and size.

}  // namespace

TpmTis::TpmTis(memory::IoSpace& mmio, TpmBackend& backend) : mmio_(mmio), backend_(backend) {
  mmio_.claim(kBase, kSize, *this, "tpm-tis");
}

TpmTis::~TpmTis() { mmio_.release(kBase, *this); }

void TpmTis::reset() {
  backend_.start();  // and with it a command that was under way is over
  const bool established = backend_.established();
  const std::lock_guard lock(mutex_);
  state_ = State::kIdle;
  active_.reset();
  requested_ = seized_ = {};
  interrupt_enable_ = {};
  established_ = established;
  buffer_.clear();
  position_ = 0;
  ++serial_;
  abandoned_ = to_cancel_ = to_reset_established_ = false;
  to_execute_.clear();
}

// --- Localities ---------------------------------------------------------------------------------

uint8_t TpmTis::access(unsigned locality) const {
  bool others = false;
  for (unsigned each = 0; each < kLocalities; ++each)
    others |= each != locality && requested_[each];
  return static_cast<uint8_t>(kValid | (active(locality) ? kActive : 0) |
                              (seized_[locality] ? kBeenSeized : 0) | (others ? kPending : 0) |
                              (requested_[locality] ? kRequest : 0) |
                              (established_ ? 0 : kNotEstablished));
}

void TpmTis::activate(unsigned locality) {
  abandon();
  active_ = locality;
  requested_[locality] = false;
}

/// The TPM goes to the highest locality that asked for it (§6.2.1).
void TpmTis::release() {
  abandon();
  active_.reset();
  for (unsigned each = kLocalities; each-- > 0;)
    if (requested_[each]) return activate(each);
}

/// A command under way is cancelled; its end is waited for before another begins.
void TpmTis::abandon() {
  if (state_ == State::kExecution) {
    abandoned_ = to_cancel_ = true;
    return;
  }
  state_ = State::kIdle;
  buffer_.clear();
}

void TpmTis::write_access(unsigned locality, uint8_t value) {
  if ((value & kBeenSeized) != 0) seized_[locality] = false;
  if ((value & kActive) != 0) {
    requested_[locality] = false;
    if (active(locality)) release();
  }
  if ((value & kRequest) != 0 && !active(locality)) {
    if (!active_)
      activate(locality);
    else
      requested_[locality] = true;
  }
  if ((value & kSeize) != 0 && (!active_ || *active_ < locality)) {
    if (active_) seized_[*active_] = true;
    activate(locality);
  }
}

// --- Commands -----------------------------------------------------------------------------------

bool TpmTis::expects_more() const {
  return state_ == State::kReception && buffer_.size() < backend_.buffer_bytes() &&
         (buffer_.size() < kSizeEnd || buffer_.size() < tpm_size(buffer_.data()));
}

uint32_t TpmTis::status(unsigned locality) const {
  if (!active(locality)) return UINT32_MAX;
  uint32_t value = kStsValid | kSelfTestDone | kFamily2;
  size_t burst = 0;
  switch (state_) {
    case State::kReady:
      value |= kCommandReady;
      burst = backend_.buffer_bytes();
      break;
    case State::kReception:
      value |= expects_more() ? kExpect : 0;
      burst = backend_.buffer_bytes() - buffer_.size();
      break;
    case State::kCompletion:
      burst = buffer_.size() - position_;
      value |= burst != 0 ? kDataAvailable : 0;
      break;
    default:
      break;
  }
  return value | static_cast<uint32_t>(std::min<size_t>(burst, 0xFFFF)) << kBurstShift;
}

void TpmTis::write_status(unsigned locality, uint32_t value) {
  if (!active(locality)) return;
  if ((value & kResetEstablishment) != 0 && (locality == 3 || locality == 4)) {
    established_ = false;
    to_reset_established_ = true;
  }
  if ((value & kCancel) != 0 && state_ == State::kExecution) to_cancel_ = true;
  if ((value & kCommandReady) != 0) {
    abandon();
    if (state_ == State::kIdle) state_ = State::kReady;
  } else if ((value & kGo) != 0) {
    go();
  } else if ((value & kResponseRetry) != 0 && state_ == State::kCompletion) {
    position_ = 0;
  }
}

void TpmTis::go() {
  if (state_ != State::kReception || expects_more()) return;
  to_execute_ = std::exchange(buffer_, {});
  state_ = State::kExecution;
  ++serial_;
}

void TpmTis::write_fifo(uint8_t value) {
  if (state_ == State::kReady) {
    buffer_.clear();
    state_ = State::kReception;
  }
  if (expects_more()) buffer_.push_back(value);
}

uint8_t TpmTis::read_fifo() {
  if (state_ != State::kCompletion || position_ == buffer_.size()) return 0xFF;
  return buffer_[position_++];
}

void TpmTis::completed(uint64_t serial, std::vector<uint8_t> response) {
  const std::lock_guard lock(mutex_);
  if (serial != serial_ || state_ != State::kExecution) return;
  position_ = 0;
  if (std::exchange(abandoned_, false)) {
    buffer_.clear();
    state_ = State::kReady;
  } else {
    buffer_ = std::move(response);
    state_ = State::kCompletion;
  }
}

void TpmTis::act() {
  std::vector<uint8_t> command;
  uint64_t serial = 0;
  uint8_t locality = 0;
  bool cancel = false, reset = false;
  {
    const std::lock_guard lock(mutex_);
    command.swap(to_execute_);
    serial = serial_;
    locality = static_cast<uint8_t>(active_.value_or(0));
    cancel = std::exchange(to_cancel_, false);
    reset = std::exchange(to_reset_established_, false);
  }
  if (reset) backend_.reset_established(locality);
  if (!command.empty()) {
    // What the header says was not what came: nothing for a backend, which would wait for more.
    if (command.size() < kTpmHeaderBytes || command.size() != tpm_size(command.data()))
      return completed(serial, tpm_error(kTpmCommandSize));
    backend_.execute(locality, std::move(command), [this, serial](std::vector<uint8_t> response) {
      completed(serial, std::move(response));
    });
  }
  if (cancel) backend_.cancel();
}

// --- Accesses -----------------------------------------------------------------------------------

uint32_t TpmTis::register_value(unsigned locality, unsigned offset) const {
  switch (offset) {
    case kAccess:
      return access(locality);
    case kIntEnable:
      return interrupt_enable_[locality];
    case kIntfCapability:
      return kCapabilities;
    case kSts:
      return status(locality);
    case kInterfaceId:
      return kInterface;
    case kDidVid:
      return kVendor;
    case kRid:
      return 1;
    default:
      return UINT32_MAX;
  }
}

uint64_t TpmTis::io_read(uint64_t offset, unsigned size) {
  const std::lock_guard lock(mutex_);
  const auto locality = static_cast<unsigned>(offset >> kLocalityShift);
  const auto at = static_cast<unsigned>(offset & ((1u << kLocalityShift) - 1));
  const bool fifo = (at >= kFifo && at < kFifo + kFifoBytes) ||
                    (at >= kWideFifo && at < kWideFifo + kWideFifoBytes);
  uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const unsigned byte_at = at + i;
    const uint8_t byte =
        !fifo ? static_cast<uint8_t>(register_value(locality, byte_at & ~3u) >> 8 * (byte_at & 3))
        : active(locality) ? read_fifo()
                           : uint8_t{0xFF};
    value |= uint64_t{byte} << 8 * i;
  }
  return value;
}

void TpmTis::io_write(uint64_t offset, unsigned size, uint64_t value) {
  {
    const std::lock_guard lock(mutex_);
    const auto locality = static_cast<unsigned>(offset >> kLocalityShift);
    const auto at = static_cast<unsigned>(offset & ((1u << kLocalityShift) - 1));
    const auto shifted = static_cast<uint32_t>(value << 8 * (at & 3));
    if ((at >= kFifo && at < kFifo + kFifoBytes) ||
        (at >= kWideFifo && at < kWideFifo + kWideFifoBytes)) {
      if (active(locality))
        for (unsigned i = 0; i < size; ++i) write_fifo(static_cast<uint8_t>(value >> 8 * i));
    } else if (at == kAccess) {
      write_access(locality, static_cast<uint8_t>(value));
    } else if ((at & ~3u) == kSts) {
      write_status(locality, shifted);
    } else if (at == kIntEnable && active(locality)) {
      interrupt_enable_[locality] = static_cast<uint32_t>(value);
    }
  }
  act();
}

}  // namespace limen::device
