#include "irq/io_apic.h"

namespace limen::irq {
namespace {

// Redirection table entry (82093AA 3.2.4).
constexpr uint64_t kDeliveryStatus = 1u << 12;
constexpr uint64_t kRemoteIrr = 1u << 14;
constexpr uint64_t kLevelTriggered = 1u << 15;
constexpr uint64_t kMasked = 1u << 16;
constexpr uint64_t kReadOnly = kDeliveryStatus | kRemoteIrr;
constexpr uint64_t kWritable = 0xFF0000000001AFFF & ~kReadOnly;

constexpr uint8_t kVersion = 0x20;
constexpr uint64_t kSelect = 0x00, kWindow = 0x10, kEoi = 0x40;
constexpr uint8_t kFirstEntry = 0x10;

}  // namespace

IoApic::IoApic(memory::IoSpace& mmio, IoApicBus& bus, uint64_t base)
    : mmio_(mmio), bus_(bus), base_(base) {
  reset();
  bus_.add(*this);
  mmio_.claim(base_, kSize, *this, "I/O APIC");
}

IoApic::~IoApic() {
  mmio_.release(base_, *this);
  bus_.remove(*this);
}

void IoApic::reset() {
  const std::lock_guard lock(mutex_);
  select_ = 0;
  id_ = 0;
  redirection_.fill(kMasked);
  pending_ = 0;
  awaited_ = 0;
}

void IoApic::set_line(unsigned line, bool asserted) {
  if (line >= kLines) return;
  Pending pending;
  {
    const std::lock_guard lock(mutex_);
    const uint32_t bit = 1u << line;
    const bool rose = asserted && (asserted_ & bit) == 0;
    asserted_ = asserted ? asserted_ | bit : asserted_ & ~bit;
    if ((redirection_[line] & kLevelTriggered) != 0) {
      pending_ = asserted ? pending_ | bit : pending_ & ~bit;
    } else if (rose && (redirection_[line] & kMasked) == 0) {
      pending_ |= bit;  // an edge at a masked input is lost (82093AA 3.2.4, interrupt mask)
    }
    pending = service(line);
  }
  send(pending);
}

bool IoApic::passes(unsigned line) {
  const std::lock_guard lock(mutex_);
  return line < kLines && (redirection_[line] & kMasked) == 0;
}

void IoApic::on_acknowledge(unsigned line, std::function<void()> acknowledged) {
  if (line < kLines) listeners_[line].push_back(std::move(acknowledged));
}

void IoApic::vector_taken(uint8_t vector) {
  if (awaited_.load(std::memory_order_acquire) == 0) return;
  uint32_t taken = 0;
  {
    const std::lock_guard lock(mutex_);
    for (unsigned line = 0; line < kLines; ++line)
      if ((redirection_[line] & 0xFF) == vector) taken |= 1u << line;
    taken &= awaited_.fetch_and(~taken, std::memory_order_acq_rel);
  }
  for (unsigned line = 0; line < kLines; ++line) {
    if ((taken >> line & 1) == 0) continue;
    for (const auto& listener : listeners_[line]) listener();
  }
}

IoApic::Pending IoApic::service(unsigned line) {
  const uint32_t bit = 1u << line;
  uint64_t& entry = redirection_[line];
  if ((pending_ & bit) == 0 || (entry & kMasked) != 0) return {};
  const bool level = (entry & kLevelTriggered) != 0;
  if (level) {
    if ((entry & kRemoteIrr) != 0) return {};
    entry |= kRemoteIrr;
  } else {
    pending_ &= ~bit;
    if (!listeners_[line].empty()) awaited_.fetch_or(bit, std::memory_order_release);
  }
  return message_of(line);
}

IoApic::Pending IoApic::message_of(unsigned line) const {
  const uint64_t entry = redirection_[line];
  return {.send = true,
          .line = line,
          .destination = {.id = static_cast<uint32_t>(entry >> 56),
                          .logical = (entry & 0x800) != 0,
                          .wide = false},
          .message = {.mode = static_cast<DeliveryMode>((entry >> 8) & 7),
                      .vector = static_cast<uint8_t>(entry & 0xFF),
                      .level_triggered = (entry & kLevelTriggered) != 0}};
}

void IoApic::send(const Pending& pending) {
  if (!pending.send) return;
  if (bus_.deliver(pending.destination, pending.message) || !pending.message.level_triggered)
    return;
  // Nobody took it: the entry must not wait for an end of interrupt that will not come.
  const std::lock_guard lock(mutex_);
  redirection_[pending.line] &= ~kRemoteIrr;
}

void IoApic::end_of_interrupt(uint8_t vector) {
  for (unsigned line = 0; line < kLines; ++line) {
    Pending pending;
    {
      const std::lock_guard lock(mutex_);
      uint64_t& entry = redirection_[line];
      if ((entry & 0xFF) != vector || (entry & kLevelTriggered) == 0 || (entry & kRemoteIrr) == 0)
        continue;
      entry &= ~kRemoteIrr;
      pending = service(line);
    }
    send(pending);
  }
}

uint32_t IoApic::read_register(uint8_t index) const {
  switch (index) {
    case 0:
    case 2:
      return uint32_t{id_} << 24;
    case 1:
      return kVersion | (kLines - 1) << 16;
    default:
      break;
  }
  const unsigned line = (index - kFirstEntry) / 2u;
  if (index < kFirstEntry || line >= kLines) return 0;
  return static_cast<uint32_t>(redirection_[line] >> ((index & 1) != 0 ? 32 : 0));
}

IoApic::Pending IoApic::write_register(uint8_t index, uint32_t value) {
  if (index == 0) id_ = (value >> 24) & 0xF;
  const unsigned line = (index - kFirstEntry) / 2u;
  if (index < kFirstEntry || line >= kLines) return {};
  const uint32_t bit = 1u << line;
  uint64_t& entry = redirection_[line];
  const uint64_t old = entry;
  const unsigned shift = (index & 1) != 0 ? 32 : 0;
  const uint64_t mask = (uint64_t{0xFFFFFFFF} << shift) & kWritable;
  entry = (entry & ~mask) | ((uint64_t{value} << shift) & mask);
  if ((entry & kLevelTriggered) != 0) {
    pending_ = (asserted_ & bit) != 0 ? pending_ | bit : pending_ & ~bit;
  } else {
    // Software without an EOI register clears a stuck remote IRR by switching to edge and back.
    entry &= ~kRemoteIrr;
    if ((old & kLevelTriggered) != 0) pending_ &= ~bit;
  }
  const Pending sends = message_of(line);
  bus_.entry_changed(line, sends.destination, sends.message);
  return service(line);
}

uint64_t IoApic::io_read(uint64_t offset, unsigned size) {
  const std::lock_guard lock(mutex_);
  const uint64_t reg = offset & ~uint64_t{3};
  uint64_t value = 0;
  if (reg == kSelect) value = select_;
  if (reg == kWindow) value = read_register(select_);
  return size > 4 ? value : value >> ((offset & 3) * 8);
}

void IoApic::io_write(uint64_t offset, unsigned size, uint64_t value) {
  if (offset == kEoi) {
    end_of_interrupt(static_cast<uint8_t>(value & 0xFF));
    return;
  }
  Pending pending;
  {
    const std::lock_guard lock(mutex_);
    if (offset == kSelect) select_ = static_cast<uint8_t>(value & 0xFF);
    if (offset == kWindow && size >= 4)
      pending = write_register(select_, static_cast<uint32_t>(value));
  }
  send(pending);
}

}  // namespace limen::irq
