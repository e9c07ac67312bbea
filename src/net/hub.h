// A hub: what comes in at one port goes out at all others. What -net joins, and -netdev hubport.
#pragma once

#include <string>
#include <vector>

#include "net/port.h"

namespace limen::net {

class Hub;

/// The hub's end of a cable.
class HubPort final : public Port {
 public:
  /// `hub` outlives the port.
  explicit HubPort(Hub& hub);
  ~HubPort() override;
  [[nodiscard]] std::string describe() const override;

 protected:
  Delivery receive(const Frame& frame, unsigned queue) override;
  void burst_ended() override;
  [[nodiscard]] Offloads offloads() const override;

 private:
  friend class Hub;
  void forward(const Frame& frame) { send_or_keep(frame); }
  void forward_end() { end_burst(); }

  Hub& hub_;
};

class Hub {
 public:
  explicit Hub(int number) : number_(number) {}
  [[nodiscard]] int number() const { return number_; }

 private:
  friend class HubPort;
  int number_;
  std::vector<HubPort*> ports_;
};

}  // namespace limen::net
