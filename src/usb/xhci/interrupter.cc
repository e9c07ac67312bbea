#include "usb/xhci/interrupter.h"

#include <span>

namespace limen::usb::xhci {
namespace {

constexpr uint32_t kFewestBlocks = 16, kMostBlocks = 4096;
/// Events that nobody took by then are lost; the controller stops well before.
constexpr size_t kMostWaiting = 8192;

struct SegmentTableEntry {
  uint64_t base = 0;
  uint32_t blocks = 0;
  uint32_t reserved = 0;
};

}  // namespace

uint32_t Interrupter::read(uint32_t offset) const {
  switch (offset) {
    case kIman:
      return iman_;
    case kImod:
      return moderation_;
    case kErstSz:
      return segments_;
    case kErstBa:
      return static_cast<uint32_t>(table_);
    case kErstBaHigh:
      return static_cast<uint32_t>(table_ >> 32);
    case kErdp:
      return static_cast<uint32_t>(dequeue_) | (busy_ ? kHandlerBusy : 0);
    case kErdpHigh:
      return static_cast<uint32_t>(dequeue_ >> 32);
    default:
      return 0;
  }
}

bool Interrupter::write(uint32_t offset, uint32_t value) {
  const auto high = [&](uint64_t old) { return (old & 0xFFFF'FFFF) | uint64_t{value} << 32; };
  const auto low = [&](uint64_t old, uint32_t mask) {
    return (old & ~uint64_t{0xFFFF'FFFF}) | (value & mask);
  };
  switch (offset) {
    case kIman:
      if ((value & iman::kPending) != 0) iman_ &= ~iman::kPending;
      iman_ = (iman_ & iman::kPending) | (value & iman::kEnabled);
      return true;
    case kImod:
      moderation_ = value;
      return false;
    case kErstSz:
      segments_ = value & 0xFFFF;
      return false;
    case kErstBa:
      table_ = low(table_, ~0x3Fu);
      loaded_ = false;
      return false;
    case kErstBaHigh:
      table_ = high(table_);
      loaded_ = false;
      return false;
    case kErdp: {
      dequeue_ = low(dequeue_, ~0xFu);
      if ((value & kHandlerBusy) != 0) busy_ = false;
      bool more = false;
      while (!waiting_.empty() && put()) more = true;
      // What the driver has not taken yet interrupts again (§4.17.2).
      const bool left = loaded_ && dequeue_ != segment_ + sizeof(Trb) * enqueue_;
      return (more || (left && !busy_)) && raise();
    }
    case kErdpHigh:
      dequeue_ = high(dequeue_);
      return false;
    default:
      return false;
  }
}

bool Interrupter::load() {
  if (loaded_) return true;
  SegmentTableEntry entry;
  if (segments_ == 0 || !memory_->read({table_}, std::as_writable_bytes(std::span(&entry, 1))) ||
      (entry.blocks & 0xFFFF) < kFewestBlocks || (entry.blocks & 0xFFFF) > kMostBlocks)
    return false;
  segment_ = entry.base & ~uint64_t{0x3F};
  blocks_ = entry.blocks & 0xFFFF;
  enqueue_ = 0;
  cycle_ = true;
  waiting_.clear();
  loaded_ = true;
  return true;
}

/// The first event that waits goes on the ring; false: it is full, but for one place, which keeps
/// full and empty apart.
bool Interrupter::put() {
  const uint32_t next = enqueue_ + 1 == blocks_ ? 0 : enqueue_ + 1;
  if (segment_ + sizeof(Trb) * next == dequeue_) return false;
  Trb event = waiting_.front();
  waiting_.pop_front();
  event.control = (event.control & ~1u) | (cycle_ ? 1 : 0);
  const uint64_t at = segment_ + sizeof(Trb) * enqueue_;
  // The cycle bit last: the driver looks for it.
  const auto bytes = std::as_bytes(std::span(&event, 1));
  if (memory_->write({at}, bytes.first(12))) [[maybe_unused]]
    const auto written = memory_->write({at + 12}, bytes.subspan(12));
  enqueue_ = next;
  if (next == 0) cycle_ = !cycle_;
  return true;
}

bool Interrupter::raise() {
  iman_ |= iman::kPending;
  const bool quiet = busy_;
  busy_ = true;
  return !quiet;
}

bool Interrupter::post(Trb event, bool interrupt) {
  if (!load() || waiting_.size() >= kMostWaiting) return false;
  waiting_.push_back(event);
  if (waiting_.size() > 1 || !put()) return false;
  return interrupt && raise();
}

}  // namespace limen::usb::xhci
