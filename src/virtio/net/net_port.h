// The plug of a virtio network card.
#pragma once

#include <string>

#include "net/options.h"
#include "net/port.h"
#include "virtio/net/net.h"

namespace limen::virtio {

class Net::Port final : public net::Port {
 public:
  explicit Port(Net& card) : card_(card) {}

  [[nodiscard]] std::string describe() const override {
    return "model=virtio-net-pci,macaddr=" + net::format_mac(card_.properties_.mac);
  }

  // For the card.
  net::Delivery transmit(const net::Frame& frame, unsigned pair) { return send(frame, pair); }
  void transmitted() { end_burst(); }
  void room_again() { ready(); }
  void tell_offloads() { offloads_changed(); }
  void use_queues(unsigned pairs) { peer_set_queues(pairs); }
  [[nodiscard]] unsigned back_end_queues() const { return peer_queues(); }
  [[nodiscard]] net::KernelRings* back_end_rings() const { return peer_kernel_rings(); }

 protected:
  net::Delivery receive(const net::Frame& frame, unsigned queue) override {
    return card_.receive(frame, queue);
  }
  [[nodiscard]] net::Offloads offloads() const override { return card_.offloads_; }
  void peer_ready() override { card_.peer_ready(); }
  void peer_changed() override { card_.link_changed(); }
  void running_changed() override { card_.running_changed(); }

 private:
  Net& card_;
};

}  // namespace limen::virtio
