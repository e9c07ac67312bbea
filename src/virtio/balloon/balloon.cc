#include "virtio/balloon/balloon.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>

namespace limen::virtio {
namespace {

// Feature bits (virtio 1.2 §5.5.3).
constexpr uint64_t kStatisticsQueue = uint64_t{1} << 1;
constexpr uint64_t kDeflateOnOom = uint64_t{1} << 2;
constexpr uint64_t kPageReporting = uint64_t{1} << 5;

/// A page as the device counts, whatever the guest's are.
constexpr uint64_t kBalloonPage = 4096;

/// Bytes of one request that are looked at: what Linux sends is a page of numbers at most.
constexpr uint64_t kMostNumbers = 64 * 1024;
constexpr size_t kStatisticSize = 10;  // le16 tag, le64 value
constexpr size_t kMostStatistics = 64;

}  // namespace

Balloon::Balloon(const BalloonProperties& properties, memory::GuestMemory& memory, EventLoop& loop)
    : properties_(properties), memory_(memory), poll_(loop, [this] { ask_for_statistics(); }) {}

uint64_t Balloon::features() const {
  return kStatisticsQueue | (properties_.deflate_on_oom ? kDeflateOnOom : 0) |
         (properties_.free_page_reporting ? kPageReporting : 0);
}

Result<> Balloon::set_target(uint64_t bytes) {
  if (bytes == 0 || bytes > memory_.size())
    return fail("a target of {} bytes: the guest's RAM has {}", bytes, memory_.size());
  wanted_pages_ = static_cast<uint32_t>((memory_.size() - bytes) / kBalloonPage);
  transport_->configuration_changed();
  return {};
}

uint64_t Balloon::actual() const {
  const std::lock_guard lock(mutex_);
  return memory_.size() - std::min(memory_.size(), uint64_t{lent_pages_} * kBalloonPage);
}

void Balloon::set_listener(std::function<void(uint64_t)> changed) {
  const std::lock_guard lock(mutex_);
  changed_ = std::move(changed);
}

Balloon::Statistics Balloon::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

std::chrono::seconds Balloon::polling_interval() const {
  const std::lock_guard lock(mutex_);
  return interval_;
}

void Balloon::set_polling_interval(std::chrono::seconds interval) {
  {
    const std::lock_guard lock(mutex_);
    interval_ = interval;
  }
  if (interval.count() == 0)
    poll_.disarm();
  else
    poll_.arm(Clock::now() + interval);
}

void Balloon::ask_for_statistics() {
  bool interrupt = false;
  {
    const std::lock_guard lock(mutex_);
    if (interval_.count() == 0) return;
    // Without a buffer the driver is about to send one, or there is none.
    if (statistics_buffer_) {
      interrupt = transport_->queue(kStatistics).push(*statistics_buffer_, 0);
      statistics_buffer_.reset();
    }
    poll_.arm(Clock::now() + interval_);
  }
  if (interrupt) transport_->interrupt_queue(kStatistics);
}

void Balloon::read_configuration(size_t offset, std::span<std::byte> into) {
  std::array<std::byte, 8> bytes{};
  const uint32_t wanted = wanted_pages_;
  std::memcpy(bytes.data(), &wanted, sizeof wanted);
  {
    const std::lock_guard lock(mutex_);
    std::memcpy(bytes.data() + 4, &lent_pages_, sizeof lent_pages_);
  }
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
}

void Balloon::write_configuration(size_t offset, std::span<const std::byte> from) {
  std::function<void(uint64_t)> changed;
  {
    const std::lock_guard lock(mutex_);
    std::array<std::byte, 8> bytes{};
    std::memcpy(bytes.data() + 4, &lent_pages_, sizeof lent_pages_);
    std::ranges::copy(from, bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    uint32_t lent = 0;
    std::memcpy(&lent, bytes.data() + 4, sizeof lent);  // num_pages is the device's
    if (std::exchange(lent_pages_, lent) != lent) changed = changed_;
  }
  if (changed) changed(actual());
}

void Balloon::queue_notified(unsigned index) {
  bool interrupt = false;
  {
    const std::lock_guard lock(mutex_);
    switch (index) {
      case kInflate:
        interrupt = serve_inflate_locked();
        break;
      case kDeflate:
        interrupt = serve_deflate_locked();
        break;
      case kStatistics:
        interrupt = serve_statistics_locked();
        break;
      case kReporting:
        interrupt = serve_reporting_locked();
        break;
      default:
        break;
    }
  }
  if (interrupt) transport_->interrupt_queue(index);
}

/// The driver names pages, and the host takes their memory away.
bool Balloon::serve_inflate_locked() {
  bool interrupt = false;
  Virtqueue& queue = transport_->queue(kInflate);
  while (const auto chain = queue.pop()) {
    std::vector<uint32_t> pages(std::min(chain->readable_bytes, kMostNumbers) / sizeof(uint32_t));
    chain->read(0, std::as_writable_bytes(std::span(pages)));
    // Runs of pages go at once; drivers name them downwards as often as upwards.
    std::ranges::sort(pages);
    for (size_t at = 0; at < pages.size();) {
      size_t end = at + 1;
      while (end < pages.size() && pages[end] - pages[end - 1] <= 1) ++end;
      const uint64_t count = uint64_t{pages[end - 1]} - pages[at] + 1;
      memory_.discard({uint64_t{pages[at]} * kBalloonPage}, count * kBalloonPage);
      at = end;
    }
    interrupt |= queue.push(*chain, 0);
  }
  return interrupt;
}

/// Pages that the driver takes back come to life when they are first touched.
bool Balloon::serve_deflate_locked() {
  bool interrupt = false;
  Virtqueue& queue = transport_->queue(kDeflate);
  while (const auto chain = queue.pop()) interrupt |= queue.push(*chain, 0);
  return interrupt;
}

bool Balloon::serve_reporting_locked() {
  bool interrupt = false;
  Virtqueue& queue = transport_->queue(kReporting);
  while (const auto chain = queue.pop()) {
    for (const Buffer& buffer : chain->writable)
      memory_.discard(buffer.address, buffer.bytes.size());
    interrupt |= queue.push(*chain, 0);
  }
  return interrupt;
}

bool Balloon::serve_statistics_locked() {
  bool interrupt = false;
  Virtqueue& queue = transport_->queue(kStatistics);
  while (auto chain = queue.pop()) {
    // The driver has one buffer at a time; should it send more, the last one counts.
    if (statistics_buffer_) interrupt |= queue.push(*statistics_buffer_, 0);
    statistics_.values.clear();
    const size_t count =
        std::min<uint64_t>(chain->readable_bytes / kStatisticSize, kMostStatistics);
    for (size_t i = 0; i < count; ++i) {
      uint16_t tag = 0;
      uint64_t value = 0;
      chain->read(i * kStatisticSize, std::as_writable_bytes(std::span(&tag, 1)));
      chain->read(i * kStatisticSize + sizeof tag, std::as_writable_bytes(std::span(&value, 1)));
      if (tag <= static_cast<uint16_t>(BalloonStatistic::kHugePageFailures))
        statistics_.values[static_cast<BalloonStatistic>(tag)] = value;
    }
    statistics_.last_update = std::time(nullptr);
    statistics_buffer_ = std::move(chain);
  }
  return interrupt;
}

void Balloon::reset() {
  // The driver takes everything back; what is wanted of it stays.
  const std::lock_guard lock(mutex_);
  lent_pages_ = 0;
  statistics_buffer_.reset();
}

}  // namespace limen::virtio
