// virtio-rng: random bytes from the host (virtio 1.2 §5.4).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "base/event_loop.h"
#include "base/result.h"
#include "virtio/virtio_device.h"

namespace limen::virtio {

/// Properties of -device virtio-rng-pci, with QEMU's meaning and defaults: at most `max_bytes` in
/// each `period_milliseconds`.
struct EntropyProperties {
  uint64_t max_bytes = INT64_MAX;
  uint32_t period_milliseconds = 65536;
};

class Entropy final : public VirtioDevice {
 public:
  /// `loop` runs the timer of the rate limit and outlives the device. Fails for a zero property.
  static Result<std::unique_ptr<Entropy>> create(const EntropyProperties& properties,
                                                 EventLoop& loop);

  DeviceType type() const override { return DeviceType::kEntropy; }
  uint32_t pci_class() const override { return 0x00FF00; }
  uint64_t features() const override { return 0; }
  unsigned queue_count() const override { return 1; }
  uint16_t queue_size(unsigned) const override { return 8; }
  size_t configuration_size() const override { return 0; }
  void read_configuration(size_t, std::span<std::byte>) override {}
  void write_configuration(size_t, std::span<const std::byte>) override {}
  void connect(Transport& transport) override { transport_ = &transport; }
  void queue_notified(unsigned index) override;
  void reset() override;

 private:
  Entropy(const EntropyProperties& properties, EventLoop& loop);
  void serve();

  EntropyProperties properties_;
  Transport* transport_ = nullptr;
  std::mutex mutex_;             // held while requests are answered, so that reset() waits for them
  uint64_t quota_left_;          // guarded by mutex_
  bool period_running_ = false;  // guarded by mutex_
  Timer period_;
};

}  // namespace limen::virtio
