// An end of a virtual network cable: a network card on one side, a back end on the other.
//
// Everything that moves frames runs on the thread of the machine's network (net/network.h), so a
// port needs no lock of its own.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "net/frame.h"

namespace limen::net {

enum class Delivery : uint8_t {
  kTaken,
  kFull,  ///< Not now: keep the frame; peer_ready() says when to try again.
};

class KernelRings;

class Port {
 public:
  Port() = default;
  virtual ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  static void connect(Port& one, Port& other);
  void disconnect();
  [[nodiscard]] Port* peer() const { return peer_; }

  /// A cable is up when both ends are, and there are two.
  void set_link(bool up);
  [[nodiscard]] bool link_up() const { return link_; }
  [[nodiscard]] bool cable_up() const { return link_ && peer_ != nullptr && peer_->link_; }

  /// As a card: the machine stands still (`false`), or goes on. Until then frames wait on both
  /// sides, as nobody changes the memory of a machine that stands still.
  void set_running(bool runs);
  [[nodiscard]] bool machine_runs() const { return machine_runs_; }

  /// What came from the peer and went to it. On the network's thread.
  struct Traffic {
    uint64_t received_frames = 0, received_bytes = 0;
    uint64_t sent_frames = 0, sent_bytes = 0;
  };
  [[nodiscard]] const Traffic& traffic() const { return traffic_; }

  /// One line for people: "user: net=10.0.2.0,restrict=off".
  [[nodiscard]] virtual std::string describe() const = 0;
  /// Pairs of queues that a back end can serve.
  [[nodiscard]] virtual unsigned queues() const { return 1; }

 protected:
  // As a receiver: what the peer calls.

  /// A frame, of the peer's queue `queue`; its offloads are among offloads().
  virtual Delivery receive(const Frame& frame, unsigned queue) = 0;
  /// No more frames follow at once.
  virtual void burst_ended() {}
  /// What this end takes unfinished; offloads_changed() says when that changes.
  [[nodiscard]] virtual Offloads offloads() const { return {}; }
  /// Queues that the card uses, for a back end with as many.
  virtual void set_queues(unsigned /*pairs*/) {}
  /// Whether the kernel can serve the card's rings; nullptr: frames go through receive() and
  /// send().
  [[nodiscard]] virtual KernelRings* kernel_rings() { return nullptr; }

  // As a card.

  /// What set_running() was told is new.
  virtual void running_changed() {}

  // As a sender.

  /// Gives a frame to the peer, finished in software where the peer wants that. A frame to nowhere
  /// is taken.
  Delivery send(const Frame& frame, unsigned queue = 0);
  /// The same for a sender that cannot wait: what the peer has no room for is kept up to a bound,
  /// and dropped beyond it.
  void send_or_keep(const Frame& frame);
  void end_burst();
  /// The peer, which said kFull, takes frames again.
  virtual void peer_ready() {}
  /// The cable went up or down, or the peer's offloads changed.
  virtual void peer_changed() {}

  /// As a receiver that said kFull: there is room again.
  void ready();
  void offloads_changed();
  void peer_set_queues(unsigned pairs);
  [[nodiscard]] Offloads peer_offloads() const;
  [[nodiscard]] unsigned peer_queues() const { return peer_ != nullptr ? peer_->queues() : 1; }
  [[nodiscard]] KernelRings* peer_kernel_rings() const {
    return peer_ != nullptr ? peer_->kernel_rings() : nullptr;
  }

 private:
  friend class Network;
  struct Kept {
    std::vector<std::byte> bytes;
    OffloadHeader offload;
    unsigned queue;
  };
  /// Gives it to the peer as it is, and counts it once it is taken.
  Delivery pass(const Frame& frame, unsigned queue);
  /// What a peer that takes only finished frames gets in the place of this one: itself, its
  /// segments, or nothing.
  void finish(const Frame& frame, const std::function<void(const Frame&)>& each);
  Delivery finish_and_send(const Frame& frame, unsigned queue);
  void keep(const Frame& frame, unsigned queue);
  bool send_kept();

  Port* peer_ = nullptr;
  bool link_ = true;
  bool machine_runs_ = true;
  Traffic traffic_;
  std::deque<Kept> kept_;           ///< Already finished for the peer.
  std::vector<std::byte> scratch_;  ///< A frame while it is finished in software.
};

}  // namespace limen::net
