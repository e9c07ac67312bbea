#include "irq/apic_bus.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "irq/io_apic.h"
#include "irq/local_apic.h"

namespace limen::irq {
namespace {

thread_local LocalApic* current_apic = nullptr;

}  // namespace

/// A page of physical memory at which some processor's local APIC stands.
class ApicBus::Page final : public memory::IoHandler {
 public:
  Page(ApicBus& bus, uint64_t base) : bus_(bus), base_(base) {}

  [[nodiscard]] uint64_t base() const { return base_; }
  uint64_t io_read(uint64_t offset, unsigned size) override {
    LocalApic* apic = bus_.current();
    return apic != nullptr ? apic->page_read(base_, offset, size) : ~uint64_t{0};
  }
  void io_write(uint64_t offset, unsigned size, uint64_t value) override {
    if (LocalApic* apic = bus_.current()) apic->page_write(base_, offset, size, value);
  }

 private:
  ApicBus& bus_;
  const uint64_t base_;
};

ApicBus::ApicBus(memory::IoSpace& mmio) : mmio_(mmio) { move_page(kDefaultBase); }

ApicBus::~ApicBus() {
  for (const auto& page : pages_) mmio_.release(page->base(), *page);
}

void ApicBus::add(LocalApic& apic) { local_.push_back(&apic); }
void ApicBus::remove(LocalApic& apic) {
  std::erase(local_, &apic);
  if (current_apic == &apic) current_apic = nullptr;
}
void ApicBus::add(IoApic& io_apic) { io_.push_back(&io_apic); }
void ApicBus::remove(IoApic& io_apic) { std::erase(io_, &io_apic); }

void ApicBus::set_current(LocalApic* apic) { current_apic = apic; }

LocalApic* ApicBus::current() const {
  if (std::ranges::find(local_, current_apic) != local_.end()) return current_apic;
  return local_.empty() ? nullptr : local_.front();
}

void ApicBus::move_page(uint64_t base) {
  const std::lock_guard lock(pages_mutex_);
  for (const auto& page : pages_)
    if (page->base() == base) return;
  // A processor that moved on leaves its page behind: another may still stand there, and an access
  // may be under way. A guest that moves its APIC without end gets no new page.
  constexpr size_t kMostPages = 64;
  if (pages_.size() >= kMostPages) return;
  pages_.push_back(std::make_unique<Page>(*this, base));
  mmio_.claim(base, kPageSize, *pages_.back(), "local APIC");
}

void ApicBus::send_msi(const MsiMessage& message) {
  // SDM Vol. 3A 11.11: address bits 19-12 destination, 3 redirection hint, 2 destination mode; data
  // bits 7-0 vector, 10-8 delivery mode, 14 assert, 15 level-triggered.
  if ((message.address & ~uint64_t{0xFFFFF}) != kDefaultBase) return;
  const ApicDestination destination{.id = static_cast<uint32_t>(message.address >> 12) & 0xFF,
                                    .logical = (message.address & 4) != 0,
                                    .wide = false};
  auto mode = static_cast<DeliveryMode>((message.data >> 8) & 7);
  const bool redirect = (message.address & 8) != 0;
  if (mode == DeliveryMode::kFixed && redirect && destination.logical)
    mode = DeliveryMode::kLowestPriority;
  const bool level = (message.data & 0x8000) != 0;
  if (level && (message.data & 0x4000) == 0) return;  // a level goes away: nothing to deliver
  deliver(destination, {.mode = mode,
                        .vector = static_cast<uint8_t>(message.data & 0xFF),
                        .level_triggered = level});
}

bool ApicBus::deliver(const ApicDestination& destination, const ApicMessage& message) {
  if (message.mode != DeliveryMode::kLowestPriority) {
    bool taken = false;
    for (LocalApic* apic : local_)
      if (apic->is_named_by(destination)) taken |= apic->accept(message);
    return taken;
  }
  // SDM Vol. 3A 11.6.2.4: the lowest processor priority wins; equals take turns.
  const size_t count = local_.size();
  const size_t first = count > 1 ? turn_.fetch_add(1, std::memory_order_relaxed) % count : 0;
  LocalApic* best = nullptr;
  uint8_t best_priority = 0;
  for (size_t i = 0; i < count; ++i) {
    LocalApic* apic = local_[(first + i) % count];
    uint8_t priority = 0;
    if (!apic->is_named_by(destination) || !apic->arbitration_priority(priority)) continue;
    if (best == nullptr || priority < best_priority) {
      best = apic;
      best_priority = priority;
    }
  }
  return best != nullptr && best->accept(message);
}

void ApicBus::deliver_to_all(const ApicMessage& message, const LocalApic* except) {
  for (LocalApic* apic : local_)
    if (apic != except) apic->accept(message);
}

void ApicBus::let_start() {
  constexpr std::chrono::microseconds kStep{50};
  constexpr unsigned kMostSteps = 1000;
  for (unsigned i = 0; i < kMostSteps; ++i) {
    const bool pending = std::ranges::any_of(local_, &LocalApic::startup_pending);
    // Once more after the last has taken it: for its first instructions.
    std::this_thread::sleep_for(kStep);
    if (!pending) return;
  }
}

void ApicBus::announce_taken(uint8_t vector) {
  for (IoApic* io_apic : io_) io_apic->vector_taken(vector);
}

void ApicBus::broadcast_eoi(uint8_t vector) {
  for (IoApic* io_apic : io_) io_apic->end_of_interrupt(vector);
}

}  // namespace limen::irq
