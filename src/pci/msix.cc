#include "pci/msix.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace limen::pci {

namespace {
constexpr unsigned kEntryBytes = 16;
constexpr unsigned kAddressLow = 0, kAddressHigh = 1, kData = 2, kControl = 3;
constexpr uint32_t kMaskBit = 1;
}  // namespace

MsixTable::MsixTable(unsigned vectors) : entries_(std::clamp(vectors, 1u, kMaximumVectors)) {
  // A page of its own for up to 128 vectors, the pending bits in its second half; else the pending
  // bits follow the table, which takes the first half of the BAR.
  const uint32_t table_bytes = std::bit_ceil(this->vectors() * kEntryBytes);
  pending_offset_ = std::max<uint32_t>(table_bytes, 2048);
  bar_size_ = 2 * uint64_t{pending_offset_};
}

bool MsixTable::masked_locked(const Entry& entry) const {
  return function_masked_ || !bus_master_ || (entry.words[kControl] & kMaskBit) != 0;
}

irq::MsiMessage MsixTable::message_of(const Entry& entry) {
  return {uint64_t{entry.words[kAddressHigh]} << 32 | entry.words[kAddressLow], entry.words[kData]};
}

void MsixTable::notify(unsigned vector) {
  irq::MsiMessage message;
  {
    const std::lock_guard lock(mutex_);
    if (vector >= entries_.size() || !enabled_ || sink_ == nullptr) return;
    Entry& entry = entries_[vector];
    if (masked_locked(entry)) {
      entry.pending = true;
      return;
    }
    message = message_of(entry);
  }
  sink_->send_msi(message);
}

void MsixTable::collect_locked(std::vector<irq::MsiMessage>& messages) {
  if (!enabled_) return;
  for (Entry& entry : entries_) {
    if (!entry.pending || masked_locked(entry)) continue;
    entry.pending = false;
    messages.push_back(message_of(entry));
  }
}

void MsixTable::send(const std::vector<irq::MsiMessage>& messages) const {
  if (sink_ == nullptr) return;
  for (const auto& message : messages) sink_->send_msi(message);
}

void MsixTable::set_state(bool enabled, bool function_masked, bool bus_master) {
  std::vector<irq::MsiMessage> messages;
  {
    const std::lock_guard lock(mutex_);
    enabled_ = enabled;
    function_masked_ = function_masked;
    bus_master_ = bus_master;
    collect_locked(messages);
  }
  send(messages);
  update_events();
}

bool MsixTable::enabled() const {
  const std::lock_guard lock(mutex_);
  return enabled_;
}

void MsixTable::reset() {
  {
    const std::lock_guard lock(mutex_);
    std::ranges::fill(entries_, Entry{});
    enabled_ = function_masked_ = bus_master_ = false;
  }
  update_events();
}

uint32_t MsixTable::read_word_locked(uint64_t offset) const {
  if (offset < entries_.size() * kEntryBytes)
    return entries_[offset / kEntryBytes].words[offset % kEntryBytes / 4];
  if (offset < pending_offset_) return 0;
  uint32_t bits = 0;
  const uint64_t first = (offset - pending_offset_) * 8;
  for (uint64_t i = 0; i < 32 && first + i < entries_.size(); ++i)
    bits |= uint32_t{entries_[first + i].pending} << i;
  return bits;
}

uint64_t MsixTable::io_read(uint64_t offset, unsigned size) {
  const std::lock_guard lock(mutex_);
  const uint64_t aligned = offset & ~uint64_t{3};
  const uint64_t both = read_word_locked(aligned) | uint64_t{read_word_locked(aligned + 4)} << 32;
  const uint64_t value = both >> (8 * (offset - aligned));
  return size >= 8 ? value : value & ((uint64_t{1} << (8 * size)) - 1);
}

void MsixTable::io_write(uint64_t offset, unsigned size, uint64_t value) {
  // Only aligned accesses of 4 or 8 bytes are defined (PCI Local Bus 3.0 §6.8.2); the pending bits
  // are read-only.
  if ((size != 4 && size != 8) || offset % size != 0) return;
  std::vector<irq::MsiMessage> messages;
  {
    const std::lock_guard lock(mutex_);
    for (unsigned i = 0; i < size / 4; ++i) {
      const uint64_t at = offset + 4 * i;
      if (at >= entries_.size() * kEntryBytes) return;
      const unsigned word = static_cast<unsigned>(at % kEntryBytes / 4);
      auto stored = static_cast<uint32_t>(value >> (32 * i));
      if (word == kControl) stored &= kMaskBit;
      if (word == kAddressLow) stored &= ~uint32_t{3};
      entries_[at / kEntryBytes].words[word] = stored;
    }
    collect_locked(messages);
  }
  send(messages);
  update_events();
}

// --- Messages that an event sends ----------------------------------------------------------------

std::optional<irq::MsiMessage> MsixTable::message_now(unsigned vector) const {
  const std::lock_guard lock(mutex_);
  if (vector >= entries_.size() || !enabled_ || masked_locked(entries_[vector])) return {};
  return message_of(entries_[vector]);
}

void MsixTable::update_event_locked(Event& event) const {
  const auto message = message_now(event.vector);
  if (message == event.message) return;
  event.message = message;
  event.connection.reset();
  if (message && sink_ != nullptr) event.connection = sink_->connect(event.event, *message);
  event.changed(event.connection != nullptr);
}

void MsixTable::update_events() {
  const std::lock_guard lock(events_mutex_);
  for (Event& event : events_) update_event_locked(event);
}

void MsixTable::connect_event(int event, unsigned vector, std::function<void(bool)> changed) {
  const std::lock_guard lock(events_mutex_);
  events_.push_back({.event = event, .vector = vector, .changed = std::move(changed)});
  update_event_locked(events_.back());
}

void MsixTable::disconnect_event(int event) {
  const std::lock_guard lock(events_mutex_);
  std::erase_if(events_, [event](const Event& each) { return each.event == event; });
}

}  // namespace limen::pci
