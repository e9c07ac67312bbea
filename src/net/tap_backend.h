// -netdev tap: an interface of the host's kernel. Frames pass with their virtio-net header
// (IFF_VNET_HDR), so that segments of 64 KiB go from guest to kernel and back in one piece. With
// vhost=on they need not come by here at all.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "memory/guest_memory.h"
#include "net/kernel_rings.h"
#include "net/options.h"
#include "net/port.h"
#include "net/vhost_net.h"

namespace limen::net {

class TapBackend final : public Port, private KernelRings {
 public:
  /// `loop` is the network's; `shared` as Network::create() has it. Call on the loop's thread.
  static Result<std::unique_ptr<Port>> create(const TapOptions& options, const std::string& id,
                                              EventLoop& loop, const memory::GuestMemory* shared);
  ~TapBackend() override;

  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] unsigned queues() const override { return static_cast<unsigned>(queues_.size()); }

 protected:
  Delivery receive(const Frame& frame, unsigned queue) override;
  [[nodiscard]] Offloads offloads() const override { return accepted_; }
  void set_queues(unsigned pairs) override;
  void peer_ready() override;
  void peer_changed() override;
  [[nodiscard]] KernelRings* kernel_rings() override {
    return vhosts_.empty() ? nullptr : static_cast<KernelRings*>(this);
  }

 private:
  struct Queue {
    UniqueFd fd;
    bool attached = true;  ///< The kernel gives it frames (IFF_ATTACH_QUEUE).
    bool write_blocked = false;
    bool read_blocked = false;  ///< The card has no room: the kernel keeps the frames.
    size_t waiting = 0;         ///< Bytes in `buffer` that the card had no room for.
    std::vector<std::byte> buffer;
  };
  TapBackend(EventLoop& loop, std::string id) : loop_(loop), id_(std::move(id)) {}
  Result<> open(const TapOptions& options);
  Result<> adopt(std::vector<UniqueFd> queues);
  Result<> set_up(UniqueFd fd);
  Result<> open_vhost(const TapOptions& options, std::vector<UniqueFd> devices,
                      const memory::GuestMemory* shared);
  void set_header_bytes(size_t bytes);

  // KernelRings:
  [[nodiscard]] bool leaves_unfinished() const override { return header_; }
  Result<> start(uint64_t features, std::span<const KernelRingPair> pairs) override;
  std::vector<Next> stop() override;
  void release() override;

  void set_offloads();
  void watch(unsigned index);
  void update_watch(unsigned index);
  void read_frames(unsigned index);
  bool deliver(unsigned index);

  EventLoop& loop_;
  std::string id_;
  std::string interface_;
  std::string down_script_;
  bool header_ = false;
  Offloads accepted_;  ///< What the kernel finishes.
  Offloads set_;       ///< What the kernel was told that the card takes.
  bool set_known_ = false;
  std::vector<Queue> queues_;
  std::vector<VhostNet> vhosts_;  ///< One per queue, or none.
  unsigned poll_microseconds_ = 0;
  size_t kernel_serves_ = 0;  ///< Queues of which the kernel moves the frames.
  bool in_kernel_ = false;    ///< It does, or did until stop(): nobody reads frames here.
};

}  // namespace limen::net
