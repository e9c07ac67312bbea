#include "device/character/multiplexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

namespace limen::device {

class Multiplexer::Port final : public CharacterBackend {
 public:
  explicit Port(Multiplexer& mux) : mux_(mux) {}

  void write(std::span<const uint8_t> bytes) override { mux_.write(bytes); }
  void accept_input() override {
    if (posted_.exchange(true)) return;
    mux_.loop_.post([this, alive = std::weak_ptr<bool>(mux_.alive_)] {
      if (alive.expired()) return;
      posted_ = false;
      mux_.deliver(*this);
    });
  }
  [[nodiscard]] bool peer_present() const override { return mux_.backend_->peer_present(); }
  [[nodiscard]] std::string filename() const override { return "mux"; }
  [[nodiscard]] bool is_only_front_end() const override { return mux_.ports_.size() == 1; }
  [[nodiscard]] size_t pending_output() const override { return mux_.backend_->pending_output(); }
  void set_output_limit(size_t bytes) override { mux_.backend_->set_output_limit(bytes); }
  std::vector<UniqueFd> take_descriptors() override { return mux_.backend_->take_descriptors(); }

 private:
  friend class Multiplexer;
  void receiver_changed() override { accept_input(); }

  Multiplexer& mux_;
  std::vector<uint8_t> input_;  // typed, not yet taken; loop thread
  std::atomic<bool> posted_ = false;
};

Multiplexer::Multiplexer(EventLoop& loop, std::unique_ptr<CharacterBackend> backend,
                         Callbacks callbacks)
    : loop_(loop),
      backend_(std::move(backend)),
      escapes_({.quit = std::move(callbacks.quit),
                .print =
                    [this](std::string_view text) {
                      backend_->write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
                    },
                .next = [this] { focus_next(); },
                .send_break =
                    [this] {
                      if (!ports_.empty()) ports_[focus_]->tell(CharacterEvent::kBreak);
                    },
                .save = std::move(callbacks.save),
                .timestamps =
                    [this] {
                      const std::lock_guard lock(mutex_);
                      timestamps_ = !timestamps_;
                      timestamps_begin_ = Clock::now();
                      line_start_ = false;
                    }}) {
  backend_->set_receiver([] { return kInputLimit; },
                         [this](std::span<const uint8_t> bytes) { receive(bytes); });
  backend_->set_event_handler([this](CharacterEvent event) {
    if (event == CharacterEvent::kBreak) {
      if (!ports_.empty()) ports_[focus_]->tell(event);
      return;
    }
    for (auto& port : ports_) port->tell(event);
  });
}

void Multiplexer::send_break() {
  if (!ports_.empty()) ports_[focus_]->tell(CharacterEvent::kBreak);
}

Multiplexer::~Multiplexer() {
  backend_->set_receiver({}, {});
  backend_->set_event_handler({});
}

CharacterBackend* Multiplexer::add_front_end() {
  if (ports_.size() == kMostFrontEnds) return nullptr;
  ports_.push_back(std::make_unique<Port>(*this));
  return ports_.back().get();
}

void Multiplexer::receive(std::span<const uint8_t> bytes) {
  // Byte by byte: an escape command may give the keyboard to another front end.
  for (const uint8_t byte : bytes) {
    const auto rest = escapes_.filter({&byte, 1});
    if (ports_.empty()) continue;
    auto& input = ports_[focus_]->input_;
    if (input.size() < kInputLimit) input.insert(input.end(), rest.begin(), rest.end());
  }
  // An index: a front end may do anything with what it gets.
  for (size_t i = 0; i < ports_.size(); ++i) deliver(*ports_[i]);
}

void Multiplexer::deliver(Port& port) {
  size_t taken = 0;
  while (taken < port.input_.size() && port.can_receive_ && port.receive_) {
    const size_t count = std::min(port.can_receive_(), port.input_.size() - taken);
    if (count == 0) break;
    port.receive_(std::span<const uint8_t>(port.input_).subspan(taken, count));
    taken += count;
  }
  port.input_.erase(port.input_.begin(), port.input_.begin() + static_cast<ptrdiff_t>(taken));
}

void Multiplexer::focus_next() {
  if (ports_.size() < 2) return;
  // What was typed before belongs to whom it was typed for.
  deliver(*ports_[focus_]);
  ports_[focus_]->tell(CharacterEvent::kMuxOut);
  focus_ = (focus_ + 1) % ports_.size();
  ports_[focus_]->tell(CharacterEvent::kMuxIn);
}

std::string Multiplexer::timestamp() const {
  const auto passed =
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - timestamps_begin_)
          .count();
  return fmt::format("[{:02}:{:02}:{:02}.{:03}] ", passed / 3'600'000, passed / 60'000 % 60,
                     passed / 1000 % 60, passed % 1000);
}

void Multiplexer::write(std::span<const uint8_t> bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (timestamps_) {
      std::vector<uint8_t> marked;
      for (const uint8_t byte : bytes) {
        if (line_start_) {
          const auto mark = timestamp();
          marked.insert(marked.end(), mark.begin(), mark.end());
        }
        marked.push_back(byte);
        line_start_ = byte == '\n';
      }
      backend_->write(marked);
      return;
    }
  }
  backend_->write(bytes);
}

}  // namespace limen::device
