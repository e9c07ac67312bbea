// virtio-blk: a disk (virtio 1.2 §5.2).
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "base/result.h"
#include "block/block_device.h"
#include "virtio/virtio_device.h"

namespace limen::virtio {

/// Properties of -device virtio-blk-pci, with QEMU's meaning and defaults.
struct BlockProperties {
  std::string serial;         ///< At most 20 bytes are seen by the guest.
  unsigned num_queues = 1;    ///< 1 to 64.
  uint16_t queue_size = 256;  ///< Power of two, 2 to 1024.
  bool write_cache = true;    ///< Initial state of the guest's write-back setting.
  bool discard = true;        ///< Offer DISCARD if the disk has it.
  bool write_zeroes = true;   ///< Offer WRITE_ZEROES if the disk can be written.
};

class Block final : public VirtioDevice {
 public:
  static constexpr size_t kSerialBytes = 20;

  /// `disk` outlives the device. Fails for a property out of range.
  static Result<std::unique_ptr<Block>> create(const BlockProperties& properties,
                                               block::BlockDevice& disk);
  ~Block() override;

  DeviceType type() const override { return DeviceType::kBlock; }
  uint32_t pci_class() const override { return 0x010000; }
  uint64_t features() const override;
  unsigned queue_count() const override { return properties_.num_queues; }
  uint16_t queue_size(unsigned) const override { return properties_.queue_size; }
  size_t configuration_size() const override;
  void read_configuration(size_t offset, std::span<std::byte> into) override;
  void write_configuration(size_t offset, std::span<const std::byte> from) override;
  void connect(Transport& transport) override { transport_ = &transport; }
  void started() override;
  void queue_notified(unsigned index) override;
  void reset() override;

 private:
  struct Pending;

  Block(const BlockProperties& properties, block::BlockDevice& disk);
  void start(std::shared_ptr<Pending> pending);
  void submit_data(const std::shared_ptr<Pending>& pending, bool write, uint64_t sector);
  void submit_ranges(const std::shared_ptr<Pending>& pending, bool write_zeroes);
  void submit_flush(const std::shared_ptr<Pending>& pending);
  void get_id(const std::shared_ptr<Pending>& pending);
  void complete(const Pending& pending, uint8_t status, uint64_t data_written);
  [[nodiscard]] bool range_ok(uint64_t sector, uint64_t bytes) const;
  void enter();
  void leave();

  BlockProperties properties_;
  block::BlockDevice& disk_;
  Transport* transport_ = nullptr;
  std::atomic<bool> write_back_;

  std::mutex mutex_;
  std::condition_variable idle_;
  uint64_t under_way_ = 0;  // guarded by mutex_: notifications and requests not yet finished
};

}  // namespace limen::virtio
