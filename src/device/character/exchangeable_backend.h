// A back end that can be exchanged under its front end: QMP's chardev-change.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "device/character_backend.h"

namespace limen::device {

class ExchangeableBackend final : public CharacterBackend {
 public:
  explicit ExchangeableBackend(std::unique_ptr<CharacterBackend> backend)
      : backend_(std::move(backend)) {}
  ~ExchangeableBackend() override {
    backend_->set_receiver({}, {});
    backend_->set_event_handler({});
  }

  /// On the loop's thread. The front end hears that the peer changed, as far as it did.
  void exchange(std::unique_ptr<CharacterBackend> backend) {
    const bool before = peer_present();
    backend_->set_receiver({}, {});
    backend_->set_event_handler({});
    std::shared_ptr<CharacterBackend> old;
    {
      const std::lock_guard lock(mutex_);
      old = std::exchange(backend_, std::move(backend));
    }
    backend_->set_output_limit(output_limit_);
    receiver_changed();
    if (before) tell(CharacterEvent::kClosed);
    if (peer_present()) tell(CharacterEvent::kOpened);
  }

  void write(std::span<const uint8_t> bytes) override { current()->write(bytes); }
  void accept_input() override { current()->accept_input(); }
  [[nodiscard]] bool peer_present() const override { return backend_->peer_present(); }
  [[nodiscard]] std::string filename() const override { return backend_->filename(); }
  [[nodiscard]] size_t pending_output() const override { return current()->pending_output(); }
  [[nodiscard]] bool tells_of_room() const override { return current()->tells_of_room(); }
  void set_output_limit(size_t bytes) override {
    output_limit_ = bytes;
    backend_->set_output_limit(bytes);
  }
  std::vector<UniqueFd> take_descriptors() override { return backend_->take_descriptors(); }

 private:
  [[nodiscard]] std::shared_ptr<CharacterBackend> current() const {
    const std::lock_guard lock(mutex_);
    return backend_;
  }
  void receiver_changed() override {
    if (has_event_handler())
      backend_->set_event_handler([this](CharacterEvent event) { tell(event); });
    else
      backend_->set_event_handler({});
    backend_->set_receiver(can_receive_, receive_);
  }

  mutable std::mutex mutex_;
  std::shared_ptr<CharacterBackend> backend_;  // written on the loop's thread, with the lock
  size_t output_limit_ = size_t{1} << 20;
};

}  // namespace limen::device
