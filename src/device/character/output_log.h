// A copy in a file of what a front end writes, QEMU's logfile=.
#pragma once

#include <memory>
#include <utility>

#include "device/character/basic_backends.h"
#include "device/character_backend.h"

namespace limen::device {

class OutputLog final : public CharacterBackend {
 public:
  OutputLog(std::unique_ptr<CharacterBackend> backend, std::unique_ptr<FileBackend> log)
      : log_(std::move(log)), backend_(std::move(backend)) {}

  void write(std::span<const uint8_t> bytes) override {
    log_->write(bytes);
    backend_->write(bytes);
  }
  void accept_input() override { backend_->accept_input(); }
  [[nodiscard]] bool peer_present() const override { return backend_->peer_present(); }
  [[nodiscard]] std::string filename() const override { return backend_->filename(); }
  [[nodiscard]] size_t pending_output() const override { return backend_->pending_output(); }
  [[nodiscard]] bool tells_of_room() const override { return backend_->tells_of_room(); }
  void set_output_limit(size_t bytes) override { backend_->set_output_limit(bytes); }
  std::vector<UniqueFd> take_descriptors() override { return backend_->take_descriptors(); }

 private:
  void receiver_changed() override {
    backend_->set_receiver(can_receive_, receive_);
    if (has_event_handler())
      backend_->set_event_handler([this](CharacterEvent event) { tell(event); });
  }

  std::unique_ptr<FileBackend> log_;
  std::unique_ptr<CharacterBackend> backend_;
};

}  // namespace limen::device
