// The MSI-X table and pending-bit array of a function (PCI Local Bus 3.0 §6.8.2).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "irq/msi.h"
#include "memory/io_space.h"

namespace limen::pci {

/// Answers the BAR that holds table and pending bits, and turns notify() into messages. An
/// interrupt that is masked (its vector's mask bit, the function mask, or bus mastering off) is
/// remembered in the pending bits and sent when it is unmasked.
class MsixTable final : public memory::IoHandler {
 public:
  static constexpr unsigned kMaximumVectors = 2048;

  /// `vectors` 1 to kMaximumVectors.
  explicit MsixTable(unsigned vectors);

  /// Where the messages go; nothing is sent before. Before the machine runs.
  void connect(irq::MsiSink& sink) { sink_ = &sink; }

  [[nodiscard]] unsigned vectors() const { return static_cast<unsigned>(entries_.size()); }
  [[nodiscard]] uint32_t pending_offset() const { return pending_offset_; }
  [[nodiscard]] uint64_t bar_size() const { return bar_size_; }

  /// Sends or remembers the message of `vector`; a vector that does not exist is ignored.
  /// Thread-safe; call without a lock that a MsiSink could need.
  void notify(unsigned vector);

  /// Until disconnect_event(), has signals of the eventfd(2) `event` send the message of `vector`
  /// without this process's part while it is not masked and the sink can. `changed` says when that
  /// begins and ends: else, the caller watches the event and notifies. It is called on any thread,
  /// with a lock held that these two calls take. Thread-safe.
  void connect_event(int event, unsigned vector, std::function<void(bool connected)> changed);
  void disconnect_event(int event);

  /// MSI-X enable and function mask of the capability, bus master of the command register.
  void set_state(bool enabled, bool function_masked, bool bus_master);
  [[nodiscard]] bool enabled() const;

  void reset();

  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  struct Entry {
    uint32_t words[4] = {0, 0, 0, 1};  // address low and high, data, vector control (bit 0: masked)
    bool pending = false;
  };
  struct Event {
    int event = -1;
    unsigned vector = 0;
    std::function<void(bool)> changed;
    std::optional<irq::MsiMessage> message = {};  ///< That it was connected for.
    std::unique_ptr<vcpu::EventInterrupt> connection = {};
  };
  [[nodiscard]] static irq::MsiMessage message_of(const Entry& entry);
  bool masked_locked(const Entry& entry) const;
  /// What notify() would send now; nothing: it would be remembered, or ignored.
  [[nodiscard]] std::optional<irq::MsiMessage> message_now(unsigned vector) const;
  void update_events();
  void update_event_locked(Event& event) const;
  void collect_locked(std::vector<irq::MsiMessage>& messages);
  void send(const std::vector<irq::MsiMessage>& messages) const;
  uint32_t read_word_locked(uint64_t offset) const;

  uint32_t pending_offset_ = 0;
  uint64_t bar_size_ = 0;
  irq::MsiSink* sink_ = nullptr;
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;    // guarded by mutex_; the vector itself never changes size
  bool enabled_ = false;          // guarded by mutex_
  bool function_masked_ = false;  // guarded by mutex_
  bool bus_master_ = false;       // guarded by mutex_
  std::mutex events_mutex_;       // taken before mutex_
  std::vector<Event> events_;     // guarded by events_mutex_
};

}  // namespace limen::pci
