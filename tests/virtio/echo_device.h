// A virtio device for tests of transport and rings: copies what it reads to what it may write.
#pragma once

#include <algorithm>
#include <vector>

#include "virtio/virtio_device.h"

namespace limen::virtio {

class EchoDevice final : public VirtioDevice {
 public:
  static constexpr uint64_t kFeature = 1 << 5;

  DeviceType type() const override { return DeviceType::kBlock; }
  uint32_t pci_class() const override { return 0x010000; }
  uint64_t features() const override { return kFeature; }
  unsigned queue_count() const override { return 2; }
  uint16_t queue_size(unsigned) const override { return 64; }
  size_t configuration_size() const override { return sizeof config; }
  void read_configuration(size_t offset, std::span<std::byte> into) override {
    std::copy_n(config + offset, into.size(), into.begin());
  }
  void write_configuration(size_t offset, std::span<const std::byte> from) override {
    std::ranges::copy(from, config + offset);
  }
  void connect(Transport& new_transport) override { transport = &new_transport; }
  void started() override { ++starts; }
  void queue_notified(unsigned index) override {
    ++notifications;
    while (auto chain = transport->queue(index).pop()) {
      if (hold) {
        held.push_back(*std::move(chain));
        continue;
      }
      finish(index, *chain);
    }
  }
  void finish(unsigned index, const DescriptorChain& chain) {
    std::vector<std::byte> bytes(chain.readable_bytes);
    chain.read(0, bytes);
    const auto written = static_cast<uint32_t>(chain.write(0, bytes));
    if (transport->queue(index).push(chain, written)) transport->interrupt_queue(index);
  }
  void stopped() override { ++stops; }
  void reset() override {
    ++resets;
    held.clear();
  }

  Transport* transport = nullptr;
  std::byte config[8] = {};
  unsigned starts = 0, notifications = 0, stops = 0, resets = 0;
  bool hold = false;
  std::vector<DescriptorChain> held;
};

}  // namespace limen::virtio
