#include "net/port.h"

#include <utility>

#include "net/checksum.h"
#include "net/segmentation.h"

namespace limen::net {
namespace {

constexpr size_t kMostKept = 4096;

}  // namespace

Port::~Port() { disconnect(); }

void Port::connect(Port& one, Port& other) {
  one.disconnect();
  other.disconnect();
  one.peer_ = &other;
  other.peer_ = &one;
  one.peer_changed();
  other.peer_changed();
}

void Port::disconnect() {
  kept_.clear();
  if (peer_ == nullptr) return;
  Port* old = std::exchange(peer_, nullptr);
  old->kept_.clear();
  old->peer_ = nullptr;
  old->peer_changed();
  old->peer_ready();  // what waits for this end goes to nowhere now
}

void Port::set_link(bool up) {
  if (link_ == up) return;
  link_ = up;
  peer_changed();
  if (peer_ == nullptr) return;
  peer_->peer_changed();
  if (up) return;
  kept_.clear();
  peer_->kept_.clear();
  peer_ready();
  peer_->peer_ready();
}

void Port::set_running(bool runs) {
  if (std::exchange(machine_runs_, runs) == runs) return;
  running_changed();
  if (!runs) return;
  ready();
  peer_ready();
}

Delivery Port::send(const Frame& frame, unsigned queue) {
  if (!machine_runs_) return Delivery::kFull;
  if (!cable_up()) return Delivery::kTaken;
  if (!kept_.empty() && !send_kept()) return Delivery::kFull;
  if (accepts(peer_->offloads(), frame.offload)) return pass(frame, queue);
  return finish_and_send(frame, queue);
}

Delivery Port::pass(const Frame& frame, unsigned queue) {
  if (!peer_->machine_runs_) return Delivery::kFull;
  const auto delivery = peer_->receive(frame, queue);
  if (delivery != Delivery::kTaken) return delivery;
  ++traffic_.sent_frames;
  traffic_.sent_bytes += frame.bytes;
  if (peer_ == nullptr) return delivery;
  ++peer_->traffic_.received_frames;
  peer_->traffic_.received_bytes += frame.bytes;
  return delivery;
}

void Port::send_or_keep(const Frame& frame) {
  if (send(frame) != Delivery::kFull || peer_ == nullptr || kept_.size() >= kMostKept) return;
  if (accepts(peer_->offloads(), frame.offload)) return keep(frame, 0);
  finish(frame, [this](const Frame& finished) { keep(finished, 0); });
}

void Port::finish(const Frame& frame, const std::function<void(const Frame&)>& each) {
  const auto whole = flatten(frame, scratch_);
  if ((frame.offload.gso_type & ~kGsoEcn) != kGsoNone) {
    segment_frame(whole, frame.offload, each);
    return;
  }
  // One whose header lies is not worth a word: it is lost, as on a wire.
  if (!complete_checksum(whole, frame.offload)) return;
  const iovec part{whole.data(), whole.size()};
  each({.parts = {&part, 1}, .bytes = whole.size(), .offload = {}});
}

Delivery Port::finish_and_send(const Frame& frame, unsigned queue) {
  // Once the first segment is gone the rest must follow.
  bool first = true, refused = false;
  finish(frame, [&](const Frame& finished) {
    if (refused) return;
    if (kept_.empty() && pass(finished, queue) == Delivery::kTaken) {
      first = false;
      return;
    }
    if (first)
      refused = true;
    else
      keep(finished, queue);
  });
  return refused ? Delivery::kFull : Delivery::kTaken;
}

void Port::keep(const Frame& frame, unsigned queue) {
  Kept kept{.bytes = {}, .offload = frame.offload, .queue = queue};
  flatten(frame, kept.bytes);
  kept_.push_back(std::move(kept));
}

/// True: nothing is left.
bool Port::send_kept() {
  while (!kept_.empty()) {
    if (!cable_up()) {
      kept_.clear();
      break;
    }
    Kept& kept = kept_.front();
    const iovec part{kept.bytes.data(), kept.bytes.size()};
    const Frame frame{.parts = {&part, 1}, .bytes = kept.bytes.size(), .offload = kept.offload};
    const auto delivery = accepts(peer_->offloads(), kept.offload)
                              ? pass(frame, kept.queue)
                              : Delivery::kTaken;  // the card was reset meanwhile
    if (delivery == Delivery::kFull) return false;
    kept_.pop_front();
  }
  return true;
}

void Port::end_burst() {
  if (cable_up()) peer_->burst_ended();
}

void Port::ready() {
  if (peer_ == nullptr) return;
  if (peer_->send_kept()) peer_->peer_ready();
  burst_ended();
}

void Port::offloads_changed() {
  if (peer_ != nullptr) peer_->peer_changed();
}

void Port::peer_set_queues(unsigned pairs) {
  if (peer_ != nullptr) peer_->set_queues(pairs);
}

Offloads Port::peer_offloads() const { return peer_ != nullptr ? peer_->offloads() : Offloads{}; }

}  // namespace limen::net
