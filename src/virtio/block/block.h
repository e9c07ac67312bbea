// virtio-blk: a disk (virtio 1.2 §5.2).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "block/block_device.h"
#include "virtio/queue_service.h"
#include "virtio/virtio_device.h"

namespace limen::virtio {

/// Properties of -device virtio-blk-pci, with QEMU's meaning and defaults.
struct BlockProperties {
  std::string serial{};                ///< At most 20 bytes.
  unsigned num_queues = 1;             ///< 1 to 64.
  uint16_t queue_size = 256;           ///< Power of two, 4 to 1024.
  bool write_cache = true;             ///< Initial state of the guest's write-back setting.
  bool discard = true;                 ///< Offer DISCARD if the disk has it.
  bool write_zeroes = true;            ///< Offer WRITE_ZEROES if the disk can be written.
  bool config_wce = true;              ///< The driver may change its write-back setting.
  uint32_t logical_block_size = 512;   ///< Power of two, 512 to 32768.
  uint32_t physical_block_size = 512;  ///< Power of two, at least the logical one.
  LoopThread* thread = nullptr;        ///< -object iothread; it outlives the device.
};

class Block final : public VirtioDevice {
 public:
  static constexpr size_t kSerialBytes = 20;

  /// `disk` outlives the device. Fails for a property out of range.
  static Result<std::unique_ptr<Block>> create(const BlockProperties& properties,
                                               block::BlockDevice& disk);
  ~Block() override;

  /// The disk has another size: tells the driver.
  void resized() {
    if (transport_ != nullptr) transport_->configuration_changed();
  }

  [[nodiscard]] DeviceType type() const override { return DeviceType::kBlock; }
  [[nodiscard]] uint32_t pci_class() const override { return 0x010000; }
  [[nodiscard]] uint64_t features() const override;
  [[nodiscard]] unsigned queue_count() const override { return properties_.num_queues; }
  [[nodiscard]] uint16_t queue_size(unsigned) const override { return properties_.queue_size; }
  [[nodiscard]] size_t configuration_size() const override;
  void read_configuration(size_t offset, std::span<std::byte> into) override;
  void write_configuration(size_t offset, std::span<const std::byte> from) override;
  void connect(Transport& transport) override { transport_ = &transport; }
  void queue_notified(unsigned index) override;
  [[nodiscard]] EventLoop* doorbell_loop(EventLoop& main) override {
    return service_.loop_or(main);
  }
  void reset() override;

 private:
  struct Operation;
  struct Range;
  using OperationPointer = std::unique_ptr<Operation>;

  Block(const BlockProperties& properties, block::BlockDevice& disk);
  void start(OperationPointer operation);
  void start_transfer(OperationPointer operation, bool write, uint64_t sector);
  void start_ranges(OperationPointer operation, bool write_zeroes);
  void start_flush(OperationPointer operation);
  void give_serial(OperationPointer operation);
  /// Takes the operation back from the disk once all its parts are done.
  void part_done(Operation* operation, int error);
  void finish(OperationPointer operation, uint8_t status, uint64_t written = 0);
  [[nodiscard]] bool range_fits(uint64_t sector, uint64_t bytes) const;
  [[nodiscard]] bool write_through() const;
  [[nodiscard]] uint32_t block_size() const;
  void serve(unsigned index);

  BlockProperties properties_;
  block::BlockDevice& disk_;
  Transport* transport_ = nullptr;
  std::atomic<bool> write_back_;  // the driver's setting (CONFIG_WCE)
  QueueService service_;
};

}  // namespace limen::virtio
