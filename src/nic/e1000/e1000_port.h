// The plug of an e1000.
#pragma once

#include <string>

#include "net/options.h"
#include "net/port.h"
#include "nic/e1000/e1000.h"

namespace limen::nic {

class E1000::Port final : public net::Port {
 public:
  explicit Port(E1000& card) : card_(card) {}

  [[nodiscard]] std::string describe() const override {
    return "model=e1000,macaddr=" + net::format_mac(card_.mac_);
  }

  // For the card.
  net::Delivery transmit(const net::Frame& frame) { return send(frame); }
  void transmitted() { end_burst(); }
  void room_again() { ready(); }

 protected:
  net::Delivery receive(const net::Frame& frame, unsigned) override { return card_.receive(frame); }
  /// The card tells the driver that a checksum is right; whether it stands there is another matter.
  [[nodiscard]] net::Offloads offloads() const override { return {.checksum = true}; }
  void peer_ready() override { card_.transmit(); }
  void peer_changed() override { card_.link_changed(); }

 private:
  E1000& card_;
};

}  // namespace limen::nic
