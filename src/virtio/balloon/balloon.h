// virtio-balloon: memory that a guest lends to its host (virtio 1.2 §5.5).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "memory/guest_memory.h"
#include "virtio/virtio_device.h"

namespace limen::virtio {

/// Properties of -device virtio-balloon-pci, with QEMU's meaning and defaults.
struct BalloonProperties {
  bool deflate_on_oom = false;       ///< The guest may take memory back when it runs out.
  bool free_page_reporting = false;  ///< The guest tells of pages that it does not use.
};

/// Tags of the statistics that a driver sends (virtio 1.2 §5.5.6.4); sizes in bytes.
enum class BalloonStatistic : uint16_t {
  kSwapIn = 0,
  kSwapOut = 1,
  kMajorFaults = 2,
  kMinorFaults = 3,
  kFreeMemory = 4,
  kTotalMemory = 5,
  kAvailableMemory = 6,
  kDiskCaches = 7,
  kHugePageAllocations = 8,
  kHugePageFailures = 9,
};

class Balloon final : public VirtioDevice {
 public:
  /// `memory` and `loop` outlive the device.
  Balloon(const BalloonProperties& properties, memory::GuestMemory& memory, EventLoop& loop);

  // For a monitor. Thread-safe.

  /// Asks the guest to keep `bytes` of its RAM: QMP's `balloon`. Fails for more than it has, or
  /// while no driver is there.
  Result<> set_target(uint64_t bytes);
  /// What the guest keeps at the moment: QMP's `query-balloon`.
  [[nodiscard]] uint64_t actual() const;
  /// `changed(actual())` is called, on any thread, when the guest changed that.
  void set_listener(std::function<void(uint64_t actual)> changed);

  struct Statistics {
    std::map<BalloonStatistic, uint64_t> values = {};
    /// Seconds since the Epoch of the last that came; 0: none did.
    int64_t last_update = 0;
  };
  [[nodiscard]] Statistics statistics() const;
  /// Asks for statistics so often; 0: no more. They come while a driver is there.
  void set_polling_interval(std::chrono::seconds interval);
  [[nodiscard]] std::chrono::seconds polling_interval() const;

  DeviceType type() const override { return DeviceType::kBalloon; }
  uint32_t pci_class() const override { return 0x00FF00; }
  uint64_t features() const override;
  unsigned queue_count() const override { return properties_.free_page_reporting ? 4 : 3; }
  uint16_t queue_size(unsigned index) const override { return index == kReporting ? 32 : 128; }
  size_t configuration_size() const override { return 8; }
  void read_configuration(size_t offset, std::span<std::byte> into) override;
  void write_configuration(size_t offset, std::span<const std::byte> from) override;
  void connect(Transport& transport) override { transport_ = &transport; }
  void queue_notified(unsigned index) override;
  void reset() override;

 private:
  // Queues; those that a driver has are numbered without gaps.
  static constexpr unsigned kInflate = 0, kDeflate = 1, kStatistics = 2, kReporting = 3;

  bool serve_inflate_locked();
  bool serve_deflate_locked();
  bool serve_reporting_locked();
  bool serve_statistics_locked();
  /// Gives the driver's buffer back, which makes it send fresh ones.
  void ask_for_statistics();

  const BalloonProperties properties_;
  memory::GuestMemory& memory_;
  Transport* transport_ = nullptr;
  std::atomic<uint32_t> wanted_pages_ = 0;  // num_pages: to be lent

  mutable std::mutex mutex_;  // held while a queue is served, so that reset() waits for that
  uint32_t lent_pages_ = 0;   // guarded by mutex_, as is all below; guest-controlled: "actual"
  std::optional<DescriptorChain> statistics_buffer_;
  Statistics statistics_;
  std::chrono::seconds interval_{0};
  std::function<void(uint64_t)> changed_;
  Timer poll_;
};

}  // namespace limen::virtio
