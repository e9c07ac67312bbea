#include "virtio/entropy/entropy.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>

namespace limen::virtio {

namespace {

/// Most bytes for one request, whatever room it has: a request must not hold up the vCPU for long
/// (virtio 1.2 §5.4.6 asks for at least one byte).
constexpr uint64_t kMaximumRequest = 64 * 1024;

/// Fills `bytes` from the host's generator; returns how many.
size_t fill(std::span<std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::getrandom(bytes.data() + done, bytes.size() - done, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

}  // namespace

Result<std::unique_ptr<Entropy>> Entropy::create(const EntropyProperties& properties,
                                                 EventLoop& loop) {
  if (properties.max_bytes == 0)
    return fail("max-bytes=0: a virtio-rng device must be allowed at least 1 byte");
  if (properties.period_milliseconds == 0)
    return fail("period=0: the period of a virtio-rng device is at least 1 millisecond");
  return std::unique_ptr<Entropy>(new Entropy(properties, loop));
}

Entropy::Entropy(const EntropyProperties& properties, EventLoop& loop)
    : properties_(properties), quota_left_(properties.max_bytes), period_(loop, [this] {
        {
          const std::lock_guard lock(mutex_);
          period_running_ = false;
          quota_left_ = properties_.max_bytes;
        }
        if (!transport_->running()) return;
        serve();
        stop_if_broken(*transport_, 0);
      }) {}

void Entropy::queue_notified(unsigned) { serve(); }

void Entropy::serve() {
  bool interrupt = false;
  {
    const std::lock_guard lock(mutex_);
    Virtqueue& queue = transport_->queue(0);
    while (quota_left_ > 0) {
      const auto chain = queue.pop();
      if (!chain) break;
      uint64_t room = std::min({chain->writable_bytes, quota_left_, kMaximumRequest});
      uint64_t written = 0;
      for (const Buffer& buffer : chain->writable) {
        const size_t part = std::min<uint64_t>(buffer.bytes.size(), room);
        written += fill(buffer.bytes.first(part));
        room -= part;
      }
      quota_left_ -= written;
      interrupt |= queue.push(*chain, static_cast<uint32_t>(written));
      if (written != 0 && !period_running_) {
        period_running_ = true;
        period_.arm(Clock::now() + std::chrono::milliseconds(properties_.period_milliseconds));
      }
    }
  }
  if (interrupt) transport_->interrupt_queue(0);
}

void Entropy::reset() {
  // The quota stays: a guest does not get round the limit by resetting the device.
  const std::lock_guard lock(mutex_);
}

}  // namespace limen::virtio
