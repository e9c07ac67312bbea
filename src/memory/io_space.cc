#include "memory/io_space.h"

#include <algorithm>

namespace limen::memory {

struct IoSpace::Range {
  uint64_t first = 0;
  uint64_t last = 0;   // inclusive, so that a claim can reach the top of the space
  uint64_t start = 0;  // where the claim began: offsets count from here
  uint64_t end = 0;    // its last address, though a later claim may have taken part of it
  IoHandler* handler = nullptr;
  std::string owner;
};

namespace {
uint64_t all_ones(unsigned size) {
  return size >= 8 ? ~uint64_t{0} : (uint64_t{1} << size * 8) - 1;
}
}  // namespace

IoSpace::IoSpace(std::string name) : name_(std::move(name)) { publish({}); }
IoSpace::~IoSpace() = default;

void IoSpace::claim(uint64_t start, uint64_t size, IoHandler& handler, std::string owner) {
  const std::lock_guard lock(mutex_);
  claims_.push_back({start, start + size - 1, start, start + size - 1, &handler, std::move(owner)});
  publish(claims_);
  if (auto* taker = doorbell_taker_; taker != nullptr)
    for (const auto& bell : handler.doorbells()) {
      const uint64_t address = start + bell.offset;
      taker->take(address, bell);
      taken_.push_back({start, &handler, [=] { taker->give_back(address, bell); }});
    }
  if (auto* taker = late_write_taker_; taker != nullptr)
    for (const auto& late : handler.late_writes()) {
      const uint64_t address = start + late.offset;
      taker->take(address, late.size);
      taken_.push_back({start, &handler, [=] { taker->give_back(address, late.size); }});
    }
}

void IoSpace::release(uint64_t start, IoHandler& handler) {
  const std::lock_guard lock(mutex_);
  std::erase_if(claims_, [&](const Range& range) {
    return range.start == start && range.handler == &handler;
  });
  publish(claims_);
  std::erase_if(taken_, [&](const Taken& taken) {
    if (taken.start != start || taken.handler != &handler) return false;
    taken.give_back();
    return true;
  });
}

std::vector<IoSpace::Claim> IoSpace::claims() const {
  const std::lock_guard lock(mutex_);
  std::vector<Claim> all;
  all.reserve(claims_.size());
  for (const auto& claim : claims_)
    all.push_back({claim.start, claim.end - claim.start + 1, claim.owner});
  return all;
}

void IoSpace::publish(const std::vector<Range>& claims) {
  auto table = std::make_unique<Table>();
  for (const auto& claim : claims) {
    Table next;
    for (auto& old : *table) {  // cut the new claim out of what stood there before
      if (old.last < claim.first || old.first > claim.last) {
        next.push_back(old);
        continue;
      }
      if (old.first < claim.first) {
        next.push_back(old);
        next.back().last = claim.first - 1;
      }
      if (old.last > claim.last) {
        next.push_back(old);
        next.back().first = claim.last + 1;
      }
    }
    next.push_back(claim);
    *table = std::move(next);
  }
  std::ranges::sort(*table, {}, &Range::first);
  table_.store(table.get());
  tables_.push_back(std::move(table));
  if (tables_.size() > 1) retired_ = true;
}

/// Keeps every table alive while it lives. Whoever is last to look frees those that were replaced,
/// so that a guest that moves a BAR in a loop does not fill the host's memory.
class IoSpace::Reader {
 public:
  explicit Reader(const IoSpace& space) : space_(space) { space_.readers_.fetch_add(1); }
  ~Reader() {
    if (space_.readers_.fetch_sub(1) == 1 && space_.retired_.load(std::memory_order_relaxed))
      space_.free_retired();
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

 private:
  const IoSpace& space_;
};

void IoSpace::free_retired() const {
  const std::lock_guard lock(mutex_);
  // A reader that is not counted yet will load the newest table: it counts itself first.
  if (readers_ != 0) return;
  tables_.erase(tables_.begin(), tables_.end() - 1);
  retired_ = false;
}

const IoSpace::Range* IoSpace::find(const Table& table, uint64_t address) const {
  auto after = std::ranges::upper_bound(table, address, {}, &Range::first);
  if (after == table.begin()) return nullptr;
  const Range& range = *--after;
  return address <= range.last ? &range : nullptr;
}

uint64_t IoSpace::read(uint64_t address, unsigned size) const {
  const Reader reader(*this);
  const Table& table = *table_.load();
  const Range* range = find(table, address);
  if (range != nullptr && size - 1 <= range->end - address)
    return range->handler->io_read(address - range->start, size) & all_ones(size);
  if (size == 1) return 0xFF;
  uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i) value |= read(address + i, 1) << (8 * i);
  return value;
}

void IoSpace::write(uint64_t address, unsigned size, uint64_t value) const {
  const Reader reader(*this);
  const Table& table = *table_.load();
  const Range* range = find(table, address);
  if (range != nullptr && size - 1 <= range->end - address) {
    range->handler->io_write(address - range->start, size, value & all_ones(size));
    return;
  }
  if (size == 1) return;
  for (unsigned i = 0; i < size; ++i) write(address + i, 1, (value >> (8 * i)) & 0xFF);
}

}  // namespace limen::memory
