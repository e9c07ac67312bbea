// virtio-net: a network card (virtio 1.2 §5.1).
//
// A notification only wakes the network's thread, which empties and fills the rings; the processor
// goes on. What stands behind the card gets frames as they lie in the guest's memory. Where the
// host's kernel can take the rings from there (vhost-net), this process has the control queue left.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/network.h"
#include "net/port.h"
#include "virtio/net/lent_rings.h"
#include "virtio/net/receive_filter.h"
#include "virtio/virtio_device.h"

namespace limen::virtio {

/// Properties of -device virtio-net-pci, with QEMU's meaning and defaults.
struct NetProperties {
  std::string id{};  ///< Name for the monitor; empty: one is made up.
  std::array<uint8_t, net::kMacBytes> mac{};
  std::string netdev{};     ///< Back end; empty: no cable.
  bool multiqueue = false;  ///< mq=on: as many pairs of queues as the back end has.
  uint16_t receive_queue_size = 256, transmit_queue_size = 256;  ///< 64 to 1024.
  uint16_t mtu = 0;                                              ///< host_mtu=; 0: not told.
  uint32_t speed = UINT32_MAX;                                   ///< Mbit/s; UINT32_MAX: not told.
  uint8_t duplex = 0xFF;
  uint64_t features_off = 0;  ///< Bits that are not offered.
};

class Net final : public VirtioDevice {
 public:
  static constexpr unsigned kMostPairs = 64;

  /// `network` outlives the device. Fails for a property out of range, and for a back end that is
  /// not there or taken.
  static Result<std::unique_ptr<Net>> create(const NetProperties& properties,
                                             net::Network& network);
  ~Net() override;

  /// The feature bit that a property such as "guest_tso4" switches; 0: there is none.
  [[nodiscard]] static uint64_t feature_of(std::string_view property);
  /// Properties for which feature_of() has a bit.
  [[nodiscard]] static std::vector<std::string_view> feature_properties();

  [[nodiscard]] DeviceType type() const override { return DeviceType::kNet; }
  [[nodiscard]] uint32_t pci_class() const override { return 0x020000; }
  [[nodiscard]] uint64_t features() const override;
  [[nodiscard]] unsigned queue_count() const override { return 2 * pairs_ + 1; }
  [[nodiscard]] uint16_t queue_size(unsigned index) const override;
  [[nodiscard]] size_t configuration_size() const override;
  void read_configuration(size_t offset, std::span<std::byte> into) override;
  void write_configuration(size_t, std::span<const std::byte>) override {}
  void connect(Transport& transport) override;
  void started() override;
  void queue_notified(unsigned index) override;
  [[nodiscard]] EventLoop* doorbell_loop(EventLoop& main) override;
  void stopped() override;
  void reset() override;

 private:
  struct Receiver;
  struct Sender;
  class Port;

  Net(const NetProperties& properties, net::Network& network);
  Result<> plug();
  [[nodiscard]] bool negotiated(uint64_t bit) const;
  [[nodiscard]] unsigned control_queue() const;

  // On the network's thread.
  void serve(unsigned queue);
  void transmit(unsigned pair);
  net::Delivery receive(const net::Frame& frame, unsigned pair);
  [[nodiscard]] bool collect_buffers(Receiver& receiver, unsigned queue, size_t bytes);
  void fill(Receiver& receiver, const net::Frame& frame, size_t buffers);
  void peer_ready();
  void link_changed();
  void set_offloads(uint64_t features);
  void serve_control();
  [[nodiscard]] bool control(std::span<const std::byte> command);
  [[nodiscard]] bool set_pairs(unsigned pairs);
  void reset_state();
  void running_changed();
  /// Lends the rings to the kernel, or takes them back, as all stands now.
  void update_loan();
  void borrow(net::KernelRings& kernel);
  [[nodiscard]] bool rings_on() const;
  [[nodiscard]] size_t put_back(unsigned queue);

  const NetProperties properties_;
  net::Network& network_;
  std::unique_ptr<Port> port_;
  unsigned pairs_ = 1;
  Transport* transport_ = nullptr;
  std::vector<std::atomic<bool>> notified_;  ///< Per queue: work is on its way to the thread.
  std::atomic<bool> link_up_ = true;
  std::atomic<bool> announce_ = false;
  std::atomic<uint64_t> mac_;                   ///< As the guest reads it, first byte lowest.
  std::atomic<bool> leaves_unfinished_ = true;  ///< The back end takes frames that are unfinished.
  std::unique_ptr<LentRings> lent_;

  // The network's thread alone.
  std::vector<Receiver> receivers_;
  std::vector<Sender> senders_;
  unsigned pairs_used_ = 1;
  net::Offloads offloads_;
  ReceiveFilter filter_;
  bool loan_refused_ = false;  ///< By the kernel; until a reset.
  bool warned_ = false;        ///< That it was.
};

}  // namespace limen::virtio
