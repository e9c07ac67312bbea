#include "device/uart_16550.h"

#include <algorithm>

namespace limen::device {
namespace {

// Registers by offset (PC16550D table II).
enum Register : unsigned {
  kData = 0,  // RBR, THR; with DLAB the low byte of the divisor
  kInterruptEnable = 1,
  kInterruptIdentification = 2,  // write: FIFO control
  kLineControl = 3,
  kModemControl = 4,
  kLineStatus = 5,
  kModemStatus = 6,
  kScratch = 7,
};

constexpr uint8_t kDivisorLatch = 0x80;

constexpr uint8_t kEnableReceived = 1, kEnableTransmit = 2, kEnableLineStatus = 4,
                  kEnableModemStatus = 8;

constexpr uint8_t kDataReady = 0x01, kOverrun = 0x02, kBreakInterrupt = 0x10,
                  kTransmitterEmpty = 0x60;

constexpr uint8_t kDtr = 0x01, kRts = 0x02, kOut1 = 0x04, kOut2 = 0x08, kLoopback = 0x10;
constexpr uint8_t kCts = 0x10, kDsr = 0x20, kRing = 0x40, kCarrier = 0x80;

// Interrupt identification, in falling priority (table V).
constexpr uint8_t kLineStatusInterrupt = 0x06, kReceivedInterrupt = 0x04, kTimeoutInterrupt = 0x0C,
                  kTransmitInterrupt = 0x02, kModemInterrupt = 0x00, kNoInterrupt = 0x01;

}  // namespace

Uart16550::Uart16550(memory::IoSpace& ports, uint16_t base, irq::InterruptLine line,
                     CharacterBackend& backend, EventLoop& loop)
    : ports_(ports),
      base_(base),
      backend_(backend),
      loop_(loop),
      line_(line),
      timeout_(loop, [this] { character_timeout(); }) {
  reset_registers();
  backend_.set_receiver([this] { return can_receive(); },
                        [this](std::span<const uint8_t> bytes) { receive(bytes); });
  backend_.set_event_handler([this](CharacterEvent event) {
    if (event == CharacterEvent::kBreak) receive_break();
  });
  ports_.claim(base_, kPorts, *this, "16550");
}

Uart16550::~Uart16550() {
  ports_.release(base_, *this);
  backend_.set_receiver({}, {});
  backend_.set_event_handler({});
}

void Uart16550::reset_registers() {
  ier_ = fcr_ = lcr_ = mcr_ = scratch_ = 0;
  divisor_ = 12;  // 9600 baud, as firmware leaves it
  lsr_errors_ = msr_delta_ = 0;
  thre_pending_ = timeout_pending_ = false;
  fifo_count_ = fifo_head_ = 0;
  timeout_.disarm();
}

void Uart16550::reset() {
  {
    const std::lock_guard lock(mutex_);
    reset_registers();
    update_line();
  }
  line_.publish();
  backend_.accept_input();
}

uint64_t Uart16550::io_read(uint64_t offset, unsigned size) {
  uint64_t value = 0;
  bool took_input = false;
  {
    const std::lock_guard lock(mutex_);
    for (unsigned i = 0; i < size; ++i)
      value |= uint64_t{read(static_cast<unsigned>(offset) + i, took_input)} << (8 * i);
    update_line();
  }
  line_.publish();
  if (took_input) backend_.accept_input();
  return value;
}

void Uart16550::io_write(uint64_t offset, unsigned size, uint64_t value) {
  for (unsigned i = 0; i < size; ++i) {
    Effects effects;
    {
      const std::lock_guard lock(mutex_);
      write(static_cast<unsigned>(offset) + i, static_cast<uint8_t>((value >> (8 * i)) & 0xFF),
            effects);
      update_line();
    }
    line_.publish();
    if (effects.transmit) backend_.write({&effects.byte, 1});
    if (effects.made_room) backend_.accept_input();
  }
}

uint8_t Uart16550::read(unsigned reg, bool& took_input) {
  switch (reg) {
    case kData: {
      if ((lcr_ & kDivisorLatch) != 0) return static_cast<uint8_t>(divisor_ & 0xFF);
      timeout_pending_ = false;
      if (fifo_count_ == 0) return 0;
      const uint8_t byte = fifo_[fifo_head_];
      fifo_head_ = (fifo_head_ + 1) % kFifoSize;
      --fifo_count_;
      took_input = fifo_count_ == 0;
      arm_character_timeout();
      return byte;
    }
    case kInterruptEnable:
      return (lcr_ & kDivisorLatch) != 0 ? static_cast<uint8_t>(divisor_ >> 8) : ier_;
    case kInterruptIdentification: {
      const uint8_t pending = interrupt_identification();
      // Reading clears THRE, but only if that is what was reported (table V).
      if (pending == kTransmitInterrupt) thre_pending_ = false;
      return static_cast<uint8_t>(pending | (fifo_enabled() ? 0xC0 : 0));
    }
    case kLineControl:
      return lcr_;
    case kModemControl:
      return mcr_;
    case kLineStatus: {
      const auto value = static_cast<uint8_t>(kTransmitterEmpty | lsr_errors_ |
                                              (fifo_count_ != 0 ? kDataReady : 0));
      lsr_errors_ = 0;
      return value;
    }
    case kModemStatus: {
      const auto value = static_cast<uint8_t>(modem_status_lines() | msr_delta_);
      msr_delta_ = 0;
      return value;
    }
    default:
      return scratch_;
  }
}

void Uart16550::write(unsigned reg, uint8_t value, Effects& effects) {
  switch (reg) {
    case kData:
      if ((lcr_ & kDivisorLatch) != 0) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xFF00) | value);
        break;
      }
      thre_pending_ = true;  // the byte is gone before the next instruction
      if ((mcr_ & kLoopback) != 0) {
        push(value);
      } else {
        effects.transmit = true;
        effects.byte = value;
      }
      break;
    case kInterruptEnable:
      if ((lcr_ & kDivisorLatch) != 0) {
        divisor_ = static_cast<uint16_t>((divisor_ & 0xFF) | value << 8);
        break;
      }
      // Enabling the THRE interrupt while the transmitter is empty raises it (8.6.3).
      if ((value & kEnableTransmit) != 0 && (ier_ & kEnableTransmit) == 0) thre_pending_ = true;
      ier_ = value & 0x0F;
      break;
    case kInterruptIdentification: {
      // Switching the FIFOs on or off empties them; bits 1 and 2 clear one each (8.5).
      const bool switched = ((value ^ fcr_) & 1) != 0;
      if (switched || ((value & 1) != 0 && (value & 2) != 0)) {
        fifo_count_ = 0;
        timeout_pending_ = false;
        timeout_.disarm();
        effects.made_room = true;
      }
      if (switched || ((value & 1) != 0 && (value & 4) != 0)) thre_pending_ = true;
      fcr_ = (value & 1) != 0 ? value & 0xC9 : 0;
      break;
    }
    case kLineControl:
      lcr_ = value;
      break;
    case kModemControl: {
      const uint8_t before = modem_status_lines();
      const bool left_loopback = (mcr_ & kLoopback) != 0 && (value & kLoopback) == 0;
      mcr_ = value & 0x1F;
      update_modem_status(before);
      effects.made_room = left_loopback;
      break;
    }
    case kScratch:
      scratch_ = value;
      break;
    default:
      break;  // LSR and MSR are read-only
  }
}

size_t Uart16550::trigger_level() const {
  constexpr std::array<size_t, 4> kLevels = {1, 4, 8, 14};
  return fifo_enabled() ? kLevels[fcr_ >> 6] : 1;
}

uint8_t Uart16550::interrupt_identification() const {
  if ((ier_ & kEnableLineStatus) != 0 && lsr_errors_ != 0) return kLineStatusInterrupt;
  if ((ier_ & kEnableReceived) != 0) {
    if (fifo_count_ >= trigger_level()) return kReceivedInterrupt;
    if (timeout_pending_) return kTimeoutInterrupt;
  }
  if ((ier_ & kEnableTransmit) != 0 && thre_pending_) return kTransmitInterrupt;
  if ((ier_ & kEnableModemStatus) != 0 && msr_delta_ != 0) return kModemInterrupt;
  return kNoInterrupt;
}

uint8_t Uart16550::modem_status_lines() const {
  if ((mcr_ & kLoopback) == 0) return kCts | kDsr | kCarrier;  // a peer that is always there
  uint8_t lines = 0;
  if ((mcr_ & kRts) != 0) lines |= kCts;
  if ((mcr_ & kDtr) != 0) lines |= kDsr;
  if ((mcr_ & kOut1) != 0) lines |= kRing;
  if ((mcr_ & kOut2) != 0) lines |= kCarrier;
  return lines;
}

void Uart16550::update_modem_status(uint8_t before) {
  const uint8_t now = modem_status_lines();
  const auto changed = static_cast<uint8_t>(before ^ now);
  msr_delta_ |= static_cast<uint8_t>((changed & (kCts | kDsr | kCarrier)) >> 4);
  if ((before & kRing) != 0 && (now & kRing) == 0) msr_delta_ |= kRing >> 4;  // trailing edge
}

void Uart16550::push(uint8_t byte) {
  if (fifo_count_ >= capacity()) {
    lsr_errors_ |= kOverrun;
    // Without FIFOs the new byte takes the old one's place; a full FIFO keeps what it has (8.4).
    if (!fifo_enabled()) fifo_[fifo_head_] = byte;
    return;
  }
  fifo_[(fifo_head_ + fifo_count_) % kFifoSize] = byte;
  ++fifo_count_;
  arm_character_timeout();
}

void Uart16550::arm_character_timeout() {
  if (!fifo_enabled() || fifo_count_ == 0 || fifo_count_ >= trigger_level()) {
    timeout_.disarm();
    return;
  }
  // Four characters of ten bits (8.4.1.2 of the FIFO's description); never longer than a person
  // notices.
  const auto character = std::chrono::nanoseconds(uint64_t{10} * 1'000'000'000 * 16 *
                                                  std::max<uint16_t>(divisor_, 1) / 1'843'200);
  timeout_.arm(loop_.now() +
               std::min<Clock::duration>(4 * character, std::chrono::milliseconds(5)));
}

void Uart16550::character_timeout() {
  {
    const std::lock_guard lock(mutex_);
    if (!fifo_enabled() || fifo_count_ == 0) return;
    timeout_pending_ = true;
    update_line();
  }
  line_.publish();
}

void Uart16550::update_line() {
  // OUT2 gates the interrupt of a PC's serial port; in loopback the pin is inactive (8.7), and the
  // guest sees pending interrupts through the IIR alone.
  const bool gate = (mcr_ & kOut2) != 0 && (mcr_ & kLoopback) == 0;
  line_.want(gate && interrupt_identification() != kNoInterrupt);
}

size_t Uart16550::can_receive() {
  const std::lock_guard lock(mutex_);
  if ((mcr_ & kLoopback) != 0) return 0;  // the input is disconnected
  return capacity() - std::min(capacity(), fifo_count_);
}

/// A break arrives as a character of zeros with its mark in the line status (8.6.2).
void Uart16550::receive_break() {
  {
    const std::lock_guard lock(mutex_);
    if ((mcr_ & kLoopback) != 0) return;
    push(0);
    lsr_errors_ |= kBreakInterrupt;
    update_line();
  }
  line_.publish();
}

void Uart16550::receive(std::span<const uint8_t> bytes) {
  {
    const std::lock_guard lock(mutex_);
    for (const uint8_t byte : bytes) push(byte);
    update_line();
  }
  line_.publish();
}

}  // namespace limen::device
