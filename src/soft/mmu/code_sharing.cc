#include "soft/mmu/code_sharing.h"

#include <fmt/format.h>
#include <sched.h>
#include <x86intrin.h>

namespace limen::soft {
namespace {

/// Rounds of waiting for another processor before the thread lets others run in its place.
constexpr unsigned kSpins = 200;

}  // namespace

void CodeSharing::join(unsigned index, Tlb& tlb) {
  if (members_[index] == nullptr) {
    members_[index] = std::make_unique<Member>();
    if (++member_count_ == 2) writers_ = std::make_unique<std::atomic<uint64_t>[]>(ram_pages_);
  }
  members_[index]->tlb = &tlb;
}

void CodeSharing::begin_decoding(unsigned index, uint32_t ram_page, uint32_t offset) {
  const bool first = map_.mark(ram_page, offset, 1);
  if (!is_shared()) {
    if (first) members_[index]->tlb->protect(ram_page);
    return;
  }
  const uint64_t own = uint64_t{1} << index;
  uint64_t writers = writers_[ram_page].load();
  if (writers == 0) [[likely]]
    return;
  if ((writers & own) != 0) {
    give_up(index, ram_page);
    writers &= ~own;
  }
  if (writers == 0) return;

  const uint64_t start = __rdtsc();
  for (unsigned other = 0; writers != 0; ++other, writers >>= 1)
    if ((writers & 1) != 0) ask(other, ram_page);
  // A store into the page's code takes the mark away, and others may then write there again: what
  // is decoded now is stale by that store's generation, and need not be waited for.
  for (unsigned round = 0;
       (writers_[ram_page].load() & ~own) != 0 && map_.holds_code(ram_page, offset, 1); ++round) {
    if (is_asked(index)) serve(index);  // two may wait for each other
    if (round < kSpins)
      _mm_pause();
    else
      sched_yield();
  }
  waited_tsc_.fetch_add(__rdtsc() - start, std::memory_order_relaxed);
}

void CodeSharing::ask(unsigned index, uint32_t ram_page) {
  Member& member = *members_[index];
  const std::lock_guard lock(member.mutex);
  if (member.outside) {
    served_for_others_.fetch_add(1, std::memory_order_relaxed);
    give_up(index, ram_page);
    return;
  }
  asked_count_.fetch_add(1, std::memory_order_relaxed);
  member.requests.push_back(ram_page);
  member.asked.store(true, std::memory_order_release);
  if (member.attention != nullptr) member.attention->call();
}

void CodeSharing::announce_change(unsigned index) {
  if (!is_shared()) return;
  changes_.fetch_add(1, std::memory_order_relaxed);
  for (unsigned other = 0; other < kMaxMembers; ++other)
    if (other != index && members_[other] != nullptr && members_[other]->attention != nullptr)
      members_[other]->attention->call();
}

void CodeSharing::serve_locked(unsigned index) {
  Member& member = *members_[index];
  for (const uint32_t page : member.requests) give_up(index, page);
  member.requests.clear();
  member.asked.store(false, std::memory_order_relaxed);
}

void CodeSharing::serve(unsigned index) {
  const std::lock_guard lock(members_[index]->mutex);
  serve_locked(index);
}

void CodeSharing::enter(unsigned index) {
  if (!is_shared()) return;
  const std::lock_guard lock(members_[index]->mutex);
  members_[index]->outside = false;
}

void CodeSharing::leave(unsigned index) {
  if (!is_shared()) return;
  const std::lock_guard lock(members_[index]->mutex);
  serve_locked(index);
  members_[index]->outside = true;
}

std::string CodeSharing::report() const {
  if (!is_shared()) return {};
  return fmt::format(
      "code shared by processors: {} requests to drop write tags, {} done for a processor that "
      "stood still, {} million cycles waited, {} changes announced\n",
      asked_count_.load(), served_for_others_.load(), waited_tsc_.load() / 1'000'000,
      changes_.load());
}

}  // namespace limen::soft
