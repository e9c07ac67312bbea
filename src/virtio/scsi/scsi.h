// virtio-scsi: a host bus adapter (virtio 1.2 §5.6). The units behind it are block/scsi/'s.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "base/result.h"
#include "block/scsi/logical_unit.h"
#include "virtio/queue_service.h"
#include "virtio/virtio_device.h"

namespace limen::virtio {

/// Properties of -device virtio-scsi-pci, with QEMU's meaning and defaults.
struct ScsiProperties {
  unsigned num_queues = 1;           ///< Request queues, 1 to 64.
  uint16_t queue_size = 256;         ///< Power of two, 8 to 1024.
  uint32_t max_sectors = 0xFFFF;     ///< Longest transfer in blocks of 512 bytes.
  uint32_t commands_per_unit = 128;  ///< cmd_per_lun.
  bool hotplug = true;               ///< Events for units that come and go.
  bool parameter_change = true;      ///< Events for units that changed.
  LoopThread* thread = nullptr;      ///< -object iothread; it outlives the device.
};

class Scsi final : public VirtioDevice {
 public:
  static constexpr unsigned kMostTargets = 256;
  static constexpr unsigned kMostUnits = 16384;  ///< Of a target.

  static Result<std::unique_ptr<Scsi>> create(const ScsiProperties& properties);
  ~Scsi() override;

  /// Plugs a unit in; the guest hears of it if it runs. Fails for an address that is taken or out
  /// of range.
  Result<> add_unit(unsigned target, unsigned number,
                    std::unique_ptr<block::scsi::LogicalUnit> unit);
  /// Takes a unit out once its commands are done. Fails if there is none.
  Result<> remove_unit(unsigned target, unsigned number);
  /// The lowest target without units; kMostTargets: there is none.
  [[nodiscard]] unsigned free_target();
  /// Tells the guest that a unit's medium or size changed.
  void unit_changed(unsigned target, unsigned number, const block::scsi::Sense& why);

  [[nodiscard]] DeviceType type() const override { return DeviceType::kScsi; }
  [[nodiscard]] uint32_t pci_class() const override { return 0x010000; }
  [[nodiscard]] uint64_t features() const override;
  [[nodiscard]] unsigned queue_count() const override { return kFirstRequestQueue + num_queues_; }
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
  static constexpr unsigned kControlQueue = 0, kEventQueue = 1, kFirstRequestQueue = 2;

  struct Address {
    unsigned target = 0;
    unsigned unit = 0;
    friend auto operator<=>(const Address&, const Address&) = default;
  };
  struct Operation;
  struct Management;
  struct Event {
    uint32_t event = 0;
    Address address = {};
    uint32_t reason = 0;
  };

  explicit Scsi(const ScsiProperties& properties);
  void serve(unsigned index);
  void serve_control();
  void serve_events();
  void start_command(unsigned queue, DescriptorChain chain);
  void finish_command(Operation* operation, uint8_t response, const block::scsi::Outcome& outcome);
  void start_management(DescriptorChain chain, std::span<const std::byte> request);
  void answer_control(const DescriptorChain& chain, std::span<const std::byte> answer);
  void send_event(const Event& event);
  block::scsi::Target* find_target(unsigned target);
  static bool parse_address(const uint8_t lun[8], Address& address);
  static void put_address(uint8_t lun[8], const Address& address);

  const ScsiProperties properties_;
  const unsigned num_queues_;
  Transport* transport_ = nullptr;
  QueueService service_;

  std::mutex mutex_;
  std::map<unsigned, std::unique_ptr<block::scsi::Target>> targets_;    // guarded by mutex_; grows
  std::map<Address, std::unique_ptr<block::scsi::LogicalUnit>> units_;  // guarded by mutex_
  std::set<Operation*> operations_;                                     // guarded by mutex_
  uint32_t sense_size_;                                                 // guarded by mutex_
  uint32_t cdb_size_;                                                   // guarded by mutex_

  std::mutex event_mutex_;
  std::deque<Event> events_;  // guarded by event_mutex_
  bool events_lost_ = false;  // guarded by event_mutex_
};

}  // namespace limen::virtio
