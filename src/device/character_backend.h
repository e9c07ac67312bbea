// Where a serial port, a debug console, a virtio console or a monitor sends its bytes and gets them
// from: QEMU's "chardev".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace limen::device {

/// What a front end is told, on the event loop's thread, besides bytes.
enum class CharacterEvent : uint8_t {
  kOpened,  ///< Someone is at the other end now.
  kClosed,  ///< Nobody is any more.
  kBreak,   ///< A break condition on the line.
  kMuxIn,   ///< What is typed goes to this front end from here on,
  kMuxOut,  ///< to another one from here on.
};

class CharacterBackend {
 public:
  virtual ~CharacterBackend() = default;
  /// Takes bytes from the front end. Thread-safe. Never blocks for long: what the peer does not
  /// take is buffered or dropped.
  virtual void write(std::span<const uint8_t> bytes) = 0;

  /// Sets who gets bytes for the guest: `receive` is called on the event loop's thread with at most
  /// `can_receive()` bytes. Before the machine runs, or on the loop's thread.
  void set_receiver(std::function<size_t()> can_receive,
                    std::function<void(std::span<const uint8_t>)> receive) {
    can_receive_ = std::move(can_receive);
    receive_ = std::move(receive);
    receiver_changed();
  }
  /// Set under the same conditions. What happened before is not told: see peer_present().
  void set_event_handler(std::function<void(CharacterEvent)> handler) {
    event_handler_ = std::move(handler);
    receiver_changed();
  }
  /// The front end has room again after can_receive() was 0. Thread-safe.
  virtual void accept_input() {}

  /// Whether someone is at the other end, as far as that can be told. On the loop's thread.
  [[nodiscard]] virtual bool peer_present() const { return true; }
  /// What query-chardev calls "filename": the kind and where it leads.
  [[nodiscard]] virtual std::string filename() const { return "unknown"; }
  /// Bytes that were written and not yet taken by the peer. Thread-safe.
  [[nodiscard]] virtual size_t pending_output() const { return 0; }
  /// Whether can_receive() is asked again once all that was written is taken, so that a front end
  /// may wait for it.
  [[nodiscard]] virtual bool tells_of_room() const { return false; }
  /// How much of it is kept at most; a back end may know no limit of that kind.
  virtual void set_output_limit(size_t) {}
  /// File descriptors that came with the bytes last received (SCM_RIGHTS).
  virtual std::vector<UniqueFd> take_descriptors() { return {}; }
  /// False if what is typed may go to another front end, too.
  [[nodiscard]] virtual bool is_only_front_end() const { return true; }
  /// A break condition for the front end. On the loop's thread.
  void send_break() { tell(CharacterEvent::kBreak); }
  /// Whether a front end gets what arrives here.
  [[nodiscard]] bool has_front_end() const { return static_cast<bool>(receive_); }

 protected:
  virtual void receiver_changed() {}
  void tell(CharacterEvent event) {
    if (event_handler_) event_handler_(event);
  }
  [[nodiscard]] bool has_event_handler() const { return static_cast<bool>(event_handler_); }
  std::function<size_t()> can_receive_;
  std::function<void(std::span<const uint8_t>)> receive_;

 private:
  std::function<void(CharacterEvent)> event_handler_;
};

}  // namespace limen::device
