// -netdev user: a network of its own for the guest, by libslirp: DHCP, DNS and TFTP servers and a
// gateway that makes the guest's connections with this process's own sockets. Needs no privilege.
//
// Segments of up to 64 KiB pass between a card that takes them and libslirp in one piece: a guest's
// as they come, with their checksum made up for; libslirp's because the guest's maximum segment
// size is raised in its SYN on the way.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "net/options.h"
#include "net/port.h"

struct Slirp;

namespace limen::net {

class UserBackend final : public Port {
 public:
  /// `loop` is the network's. Call on its thread.
  static Result<std::unique_ptr<Port>> create(const UserOptions& options, EventLoop& loop);
  ~UserBackend() override;

  [[nodiscard]] std::string describe() const override { return description_; }
  /// What `info usernet` shows.
  [[nodiscard]] std::string connections() const;
  /// hostfwd=: "tcp::2222-:22". Fails for one that is malformed or that the host refuses.
  Result<> add_host_forward(const std::string& rule);
  /// "tcp::2222". False: nothing is forwarded there.
  Result<bool> remove_host_forward(const std::string& rule);

 protected:
  Delivery receive(const Frame& frame, unsigned queue) override;
  void burst_ended() override { serve(); }
  [[nodiscard]] Offloads offloads() const override;

 private:
  struct Callbacks;
  explicit UserBackend(EventLoop& loop);
  Result<> start(const UserOptions& options);
  Result<> add_guest_forward(const std::string& rule);

  /// Lets libslirp look at the descriptors that are ready, and at the time.
  void serve();
  void watch_descriptors();
  void watch_descriptor(int fd, uint32_t events);
  void forget_descriptor(int fd);
  void frame_from_slirp(std::span<std::byte> frame);
  void raise_segment_size(std::span<std::byte> frame, const OffloadHeader& offload);

  EventLoop& loop_;
  std::string description_;
  Slirp* slirp_ = nullptr;
  UniqueFd epoll_;  ///< Of libslirp's descriptors; itself watched by the loop.
  struct Watched {
    uint32_t events = 0;
    uint32_t ready = 0;
    uint64_t wanted_in = 0;  ///< The round in which libslirp last named it.
  };
  std::map<int, Watched> descriptors_;
  uint64_t round_ = 0;
  Timer timer_;
  size_t segment_bytes_;  ///< The least that the guest's SYNs asked for.
  std::vector<std::byte> scratch_;
};

}  // namespace limen::net
