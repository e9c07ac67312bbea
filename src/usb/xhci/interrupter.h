// An interrupter: the event ring, and when it interrupts (xHCI 1.2 §4.9.4, §4.17).
#pragma once

#include <cstdint>
#include <deque>

#include "memory/guest_memory.h"
#include "usb/xhci/registers.h"

namespace limen::usb::xhci {

/// Without a lock: its controller has one.
class Interrupter {
 public:
  explicit Interrupter(memory::GuestMemory& memory) : memory_(&memory) {}

  [[nodiscard]] uint32_t read(uint32_t offset) const;
  /// True: the line or the message may be due again.
  bool write(uint32_t offset, uint32_t value);
  void reset() { *this = Interrupter(*memory_); }

  /// Puts an event on the ring, or keeps it until there is room. True: an interrupt is wanted,
  /// which IMAN.IE and the rest may still forbid.
  bool post(Trb event, bool interrupt);
  /// Events wait for room: nothing should happen that makes more.
  [[nodiscard]] bool full() const { return !waiting_.empty(); }
  [[nodiscard]] bool enabled() const { return (iman_ & iman::kEnabled) != 0; }
  [[nodiscard]] bool pending() const { return (iman_ & iman::kPending) != 0; }
  /// A message was sent, which clears IMAN.IP (§4.17.5).
  void acknowledged() { iman_ &= ~iman::kPending; }

 private:
  bool load();
  bool put();
  bool raise();

  memory::GuestMemory* memory_;
  uint32_t iman_ = 0, moderation_ = 4000, segments_ = 0;
  uint64_t table_ = 0, dequeue_ = 0;
  bool busy_ = false;    ///< ERDP.EHB.
  bool loaded_ = false;  ///< What follows is from the segment table.
  uint64_t segment_ = 0;
  uint32_t blocks_ = 0;
  uint32_t enqueue_ = 0;
  bool cycle_ = true;
  std::deque<Trb> waiting_;
};

}  // namespace limen::usb::xhci
