// Where a serial port, a debug console or a virtio console sends its bytes and gets them from:
// QEMU's "chardev".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace limen::device {

class CharacterBackend {
 public:
  virtual ~CharacterBackend() = default;
  /// Takes bytes from the guest. Thread-safe. Never blocks for long: what the peer does not take is
  /// buffered or dropped.
  virtual void write(std::span<const uint8_t> bytes) = 0;

  /// Sets who gets bytes for the guest: `receive` is called on the event loop's thread with at most
  /// `can_receive()` bytes. Set once, before the machine runs.
  void set_receiver(std::function<size_t()> can_receive,
                    std::function<void(std::span<const uint8_t>)> receive) {
    can_receive_ = std::move(can_receive);
    receive_ = std::move(receive);
    receiver_changed();
  }
  /// The front end has room again after can_receive() was 0. Thread-safe.
  virtual void accept_input() {}

 protected:
  virtual void receiver_changed() {}
  std::function<size_t()> can_receive_;
  std::function<void(std::span<const uint8_t>)> receive_;
};

}  // namespace limen::device
