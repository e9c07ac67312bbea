// -netdev tap: an interface of the host's kernel. Frames pass with their virtio-net header
// (IFF_VNET_HDR), so that segments of 64 KiB go from guest to kernel and back in one piece.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "net/options.h"
#include "net/port.h"

namespace limen::net {

class TapBackend final : public Port {
 public:
  /// `loop` is the network's. Call on its thread.
  static Result<std::unique_ptr<Port>> create(const TapOptions& options, const std::string& id,
                                              EventLoop& loop);
  ~TapBackend() override;

  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] unsigned queues() const override { return static_cast<unsigned>(queues_.size()); }

 protected:
  Delivery receive(const Frame& frame, unsigned queue) override;
  [[nodiscard]] Offloads offloads() const override { return accepted_; }
  void set_queues(unsigned pairs) override;
  void peer_ready() override;
  void peer_changed() override;

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
  Result<> adopt(const TapOptions& options);
  Result<> set_up(UniqueFd fd);
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
};

}  // namespace limen::net
