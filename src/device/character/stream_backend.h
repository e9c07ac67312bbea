// What the back ends share whose peer comes and goes: sockets, pseudo-terminals, named pipes.
#pragma once

#include <atomic>
#include <csignal>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "device/character/telnet.h"
#include "device/character_backend.h"

namespace limen::device {

/// A pair of non-blocking descriptors while a peer is there. What is written without a peer is
/// dropped; what the peer does not take is kept, up to a limit. Bytes are read only as the front
/// end has room for them.
///
/// Made, connected and destroyed on the loop's thread (or while the loop does not run).
class StreamBackend : public CharacterBackend {
 public:
  static constexpr size_t kOutputLimit = size_t{1} << 20;

  /// Sends what is kept, for at most a fraction of a second.
  ~StreamBackend() override;

  void write(std::span<const uint8_t> bytes) override;
  void accept_input() override;
  [[nodiscard]] bool peer_present() const override { return input_.valid(); }
  [[nodiscard]] size_t pending_output() const override;
  [[nodiscard]] bool tells_of_room() const override { return true; }
  void set_output_limit(size_t bytes) override { output_limit_ = bytes; }
  std::vector<UniqueFd> take_descriptors() override { return std::move(descriptors_); }

 protected:
  /// SIGPIPE is ignored in the whole process from here on: a peer that went away is no reason to
  /// end.
  explicit StreamBackend(EventLoop& loop) : loop_(loop) { std::signal(SIGPIPE, SIG_IGN); }

  /// A peer is there; both descriptors are non-blocking and differ.
  Result<> connect_peer(UniqueFd input, UniqueFd output, bool telnet = false);
  /// Lets the peer go; peer_gone() is not called.
  void disconnect_peer();
  /// The peer went away by itself, and disconnect_peer() was called.
  virtual void peer_gone() = 0;

  void receiver_changed() override { accept_input(); }

  EventLoop& loop_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

 private:
  enum class Watch : uint8_t { kNothing, kHangUp, kInput };

  void input_ready(uint32_t events);
  void deliver();
  void watch_input(Watch wanted);
  /// Bytes read, 0 at the end of the stream, -1 when there is nothing now.
  ssize_t read_some(std::span<uint8_t> into);
  void drop_peer();
  void output_ready();

  // mutex_ held.
  void flush();
  void watch_output();
  void close_output();

  // On the loop's thread.
  UniqueFd input_;
  Watch input_watch_ = Watch::kNothing;
  std::vector<UniqueFd> descriptors_;
  std::unique_ptr<TelnetFilter> telnet_;
  std::atomic<bool> deliver_posted_ = false;

  std::atomic<size_t> output_limit_ = kOutputLimit;

  mutable std::mutex mutex_;
  UniqueFd output_;  // guarded by mutex_, as the rest
  bool output_is_telnet_ = false;
  bool output_watched_ = false;
  std::vector<uint8_t> pending_;
  size_t sent_ = 0;  // of pending_
};

}  // namespace limen::device
