// The device's side of a split virtqueue (virtio 1.2 §2.7). Everything in the rings and descriptors
// is guest-controlled and checked here; a driver that breaks the rules breaks its device only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "memory/guest_memory.h"

namespace limen::virtio {

/// One buffer of a request: guest memory that is known to be RAM.
struct Buffer {
  GuestPhysicalAddress address;
  std::span<std::byte> bytes;
};

/// The buffers of one request, in the order in which the driver chained them.
struct DescriptorChain {
  uint16_t head = 0;             ///< For Virtqueue::push().
  std::vector<Buffer> readable;  ///< What the driver wrote for the device.
  std::vector<Buffer> writable;  ///< What the device may write.
  uint64_t readable_bytes = 0;
  uint64_t writable_bytes = 0;

  /// Copies from the readable bytes, starting `offset` bytes in; returns how many there were.
  size_t read(uint64_t offset, std::span<std::byte> into) const;
  /// Copies into the writable bytes, starting `offset` bytes in; returns how many had room.
  size_t write(uint64_t offset, std::span<const std::byte> from) const;
};

/// What the driver told the transport about a queue.
struct QueueSetup {
  uint16_t size = 0;  ///< Entries: a power of two, at most Virtqueue::kMaximumSize.
  GuestPhysicalAddress descriptors;
  GuestPhysicalAddress driver_area;  ///< The available ring.
  GuestPhysicalAddress device_area;  ///< The used ring.
  bool event_index = false;          ///< VIRTIO_F_EVENT_IDX was negotiated.
  bool indirect = false;             ///< VIRTIO_F_INDIRECT_DESC was negotiated.
};

/// One queue. Thread-safe: a vCPU thread pops while others push.
class Virtqueue {
 public:
  static constexpr uint16_t kMaximumSize = 1024;
  /// Most buffers in one chain, whatever table they are in.
  static constexpr unsigned kMaximumChain = 1024;

  explicit Virtqueue(memory::GuestMemory& memory) : memory_(memory) {}

  /// Starts with the rings at `setup`. False: the driver's setup is wrong (the queue is broken).
  bool enable(const QueueSetup& setup);
  /// Stops: pop() gives nothing and push() does nothing until enable().
  void disable();
  [[nodiscard]] bool enabled() const {
    return state_.load(std::memory_order_acquire) == State::kOn;
  }
  /// The driver broke a rule of the rings; only a reset of the device helps.
  [[nodiscard]] bool broken() const {
    return state_.load(std::memory_order_acquire) == State::kBroken;
  }
  /// Why it is broken; lower case, for the log.
  [[nodiscard]] std::string broken_reason() const;

  /// The next request; nothing if there is none (and then the driver will notify of the next), or
  /// if the queue is off or broken.
  std::optional<DescriptorChain> pop();
  /// The same into a chain that is used again and again, which keeps its vectors' memory. False:
  /// there is none, and `chain` is of no use.
  [[nodiscard]] bool pop_into(DescriptorChain& chain);

  /// Gives a request back: `written` bytes of its writable buffers, from the first on, were
  /// written. True: the driver wants an interrupt.
  [[nodiscard]] bool push(const DescriptorChain& chain, uint32_t written);
  /// The same for requests that the driver must see at once (a packet in several buffers,
  /// virtio 1.2 §5.1.6.4): `written` has as many numbers as `chains`.
  [[nodiscard]] bool push_all(std::span<const DescriptorChain> chains,
                              std::span<const uint32_t> written);

  /// Whether the driver has given a request that was not popped.
  [[nodiscard]] bool has_available();

  /// The rings, for somebody who serves them in this object's place.
  struct Rings {
    uint16_t size = 0;            ///< Entries.
    uint16_t next_available = 0;  ///< Index of the entry of the available ring to go on with.
    std::byte *descriptors = nullptr, *available = nullptr, *used = nullptr;
  };
  /// Gives them away: until take_back() there is nothing to pop(), and push() does nothing. All
  /// chains that were popped were pushed, but for the last `unused`, which the other will find
  /// again. Nothing: the queue is off or broken.
  std::optional<Rings> lend(size_t unused);
  /// `next_available`: where the other has stopped. Nothing happens where the queue was switched
  /// off meanwhile.
  void take_back(uint16_t next_available);

 private:
  enum class State : uint8_t { kOff, kOn, kBroken };
  struct Descriptor;

  bool break_locked(std::string reason);  ///< Returns false.
  bool read_chain_locked(uint16_t head, DescriptorChain& chain);
  bool add_buffer_locked(DescriptorChain& chain, const Descriptor& descriptor);
  bool available_locked();

  memory::GuestMemory& memory_;
  std::atomic<State> state_ = State::kOff;
  mutable std::mutex mutex_;
  std::string broken_reason_;  // guarded by mutex_, as is all below
  bool lent_ = false;
  QueueSetup setup_;
  std::span<std::byte> descriptors_;
  std::span<std::byte> available_;
  std::span<std::byte> used_;
  uint16_t next_available_ = 0;  ///< Index of the next entry of the available ring to take.
  uint16_t next_used_ = 0;       ///< Index of the next entry of the used ring to fill.
};

}  // namespace limen::virtio
