#include "soft/translate/block_store.h"

#include <algorithm>

#include "soft/translate/item.h"

namespace limen::soft::translate {
namespace {

/// How much code there is, about, for a home: how much data there may be beside the code.
constexpr size_t kCodePerHome = 1024;

constexpr size_t kMostSegments = 32;
constexpr size_t kLeastSegments = 4;
constexpr size_t kSegmentSize = size_t{1} << 20;

/// What seldom runs takes about as much room as what often does.
constexpr size_t often_of(size_t code) { return code / 2; }

}  // namespace

size_t BlockStore::data_size(size_t code_size) {
  constexpr size_t kPage = 4096;
  return (code_size / kCodePerHome * sizeof(HomeData) + kPage - 1) & ~(kPage - 1);
}

BlockStore::BlockStore(const CodeCache& cache, CodeOffset first_free, JumpTables& jump_tables)
    : cache_(cache),
      jump_tables_(jump_tables),
      max_homes_(cache.code().size() / kCodePerHome),
      buckets_(size_t{1} << kBucketBits) {
  const size_t size = cache.code().size();
  const size_t count = std::clamp(size / kSegmentSize, kLeastSegments, kMostSegments);
  const size_t middle = often_of(size);
  const auto part = [count](size_t from, size_t to, size_t i) {
    return static_cast<CodeOffset>(from + (to - from) / count * i);
  };
  for (size_t i = 0; i < count; ++i) {
    Segment segment;
    segment.start = {.often = part(first_free, middle, i), .seldom = part(middle, size, i)};
    segment.end = {.often = part(first_free, middle, i + 1), .seldom = part(middle, size, i + 1)};
    segment.used = segment.populated = segment.start;
    segments_.push_back(std::move(segment));
  }
}

BlockStore::Room BlockStore::make_room(size_t size) {
  const auto has_room = [&] {
    const Segment& segment = segments_[current_];
    return segment.end.often - segment.used.often >= size &&
           segment.end.seldom - segment.used.seldom >= size;
  };
  while (!has_room() || (free_homes_.empty() && homes_.size() >= max_homes_)) {
    current_ = (current_ + 1) % segments_.size();
    evict(segments_[current_]);
  }
  Segment& segment = segments_[current_];
  populate(segment.populated.often, segment.used.often, size);
  populate(segment.populated.seldom, segment.used.seldom, size);
  return segment.used;
}

/// Up to `populated` there is memory; sees to it that this is so for `size` bytes behind `used`.
void BlockStore::populate(CodeOffset& populated, CodeOffset used, size_t size) {
  if (populated < used + size) populated = cache_.populate(populated, used + size - populated);
}

BlockId BlockStore::next_id() const {
  return free_blocks_.empty() ? static_cast<BlockId>(blocks_.size()) : free_blocks_.back();
}

void BlockStore::add(const Block& block, Room end) {
  const BlockId id = next_id();
  if (free_blocks_.empty()) {
    blocks_.push_back(block);
  } else {
    free_blocks_.pop_back();
    blocks_[id] = block;
  }
  Segment& segment = segments_[current_];
  segment.used = end;
  segment.blocks.push_back(id);
  Home& home = homes_[block.home];
  home.blocks.push_back(id);
  BlockId& bucket = buckets_[bucket_of(home.ram_pages[0], block.offset)];
  blocks_[id].next = std::exchange(bucket, id);
  home.note_start(block.offset);
  for (unsigned i = 0; i < block.link_count; ++i) {
    const Link& way = link(link_id(block, i));
    if (!way.stays_home()) continue;
    if (const BlockId to = at(block.home, static_cast<uint64_t>(way.target)); to != 0)
      lead(link_id(block, i), to, blocks_[to].body);
  }
}

BlockId BlockStore::at(HomeId home_id, uint64_t offset) const {
  const Home& home = homes_[home_id];
  if (!home.may_start(offset)) return 0;
  for (BlockId id = first_at(home.ram_pages[0], offset); id != 0; id = blocks_[id].next) {
    const Block& block = blocks_[id];
    if (block.home == home_id && block.offset == offset && !block.split) return id;
  }
  return 0;
}

void BlockStore::add_entries(BlockId id, Room end) {
  Segment& segment = segments_[current_];
  segment.used = end;
  segment.entries.push_back(id);
}

BlockId BlockStore::containing(CodeOffset offset) const {
  for (const Segment& segment : segments_) {
    if (offset < segment.start.often || offset >= segment.used.often) continue;
    auto block = std::ranges::upper_bound(segment.blocks, offset, std::ranges::less(),
                                          [this](BlockId id) { return blocks_[id].body; });
    if (block == segment.blocks.begin()) return 0;
    --block;
    return offset < blocks_[*block].end ? *block : 0;
  }
  return 0;
}

void BlockStore::connect(LinkId id, BlockId to_id) {
  const Link& way = link(id);
  const Block& to = blocks_[to_id];
  if (way.to != 0 || !blocks_[way.from].valid) return;
  const CodeCache::Edit edit(cache_);
  if (to.home == blocks_[way.from].home)
    lead(id, to_id, to.body);  // right whenever the code that leads to it is
  else if (!way.stays_home())
    lead(id, to_id, checked_way(way, to));
}

/// Makes the code behind the link's exit ready for a target of another home.
CodeOffset BlockStore::checked_way(const Link& link, const Block& to) {
  const HomeId from = blocks_[link.from].home;
  const auto distance = static_cast<int64_t>(data(to.home).base - data(from).base);
  // Epochs of global pages and of others have nothing to do with each other.
  if (homes_[from].global != homes_[to.home].global || distance != static_cast<int32_t>(distance))
    return link.exit + Link::kDispatch;
  Assembler out(cache_.code(), 0);
  out.patch(link.check + Link::kKey,
            data_offset(to.home) + static_cast<CodeOffset>(offsetof(HomeData, key)));
  out.patch_value(link.check + Link::kDistance, static_cast<uint32_t>(distance));
  out.patch(link.check + Link::kBody, to.body);
  return link.check;
}

void BlockStore::set_way(const Link& link, CodeOffset way) {
  Assembler out(cache_.code(), link.place - 1);
  if (!link.has_check_behind())
    out.patch(link.place, way);
  else if (way == link.check)
    out.nop5();
  else
    out.jump(way);
}

void BlockStore::lead(LinkId id, BlockId to, CodeOffset way) {
  Link& changed = link(id);
  set_way(changed, way);
  changed.to = to;
  changed.next = std::exchange(blocks_[to].incoming, id);
}

HomeId BlockStore::home_for(const Home& wanted, uint64_t base) {
  Page& page = pages_[wanted.ram_pages[0]];
  if (page.homes.empty()) page.generation = wanted.generations[0];
  for (const HomeId id : page.homes) {
    Home& home = homes_[id];
    if (home.kind != wanted.kind || home.global != wanted.global ||
        home.page_count != wanted.page_count || home.ram_pages != wanted.ram_pages ||
        (home.fixed && data(id).base != base))
      continue;
    if (home.generations != wanted.generations) {
      invalidate_blocks(home);
      home.generations = wanted.generations;
    }
    return id;
  }
  HomeId id;
  if (free_homes_.empty()) {
    id = static_cast<HomeId>(homes_.size());
    homes_.push_back(wanted);
  } else {
    id = free_homes_.back();
    free_homes_.pop_back();
    homes_[id] = wanted;
  }
  data(id) = {.base = base};
  page.homes.push_back(id);
  if (wanted.page_count == 2) {
    Page& second = pages_[wanted.ram_pages[1]];
    if (second.homes.empty()) second.generation = wanted.generations[1];
    second.homes.push_back(id);
  }
  return id;
}

/// Nobody finds the block any more, and nothing leads to it.
void BlockStore::take_out(BlockId id) {
  Block& block = blocks_[id];
  if (!block.valid) return;
  block.valid = false;
  {
    const CodeCache::Edit edit(cache_);
    for (LinkId incoming = std::exchange(block.incoming, 0); incoming != 0;) {
      Link& changed = link(incoming);
      set_way(changed, changed.exit);
      changed.to = 0;
      incoming = std::exchange(changed.next, 0);
    }
  }
  const Home& home = homes_[block.home];
  BlockId* at = &buckets_[bucket_of(home.ram_pages[0], block.offset)];
  while (*at != id) at = &blocks_[*at].next;
  *at = block.next;
  if (block.indirect != 0)
    jump_tables_.forget(CodeKind::table_of(home.kind), block.offset, block.indirect);
}

void BlockStore::invalidate_blocks(Home& home) {
  invalidated_ += home.blocks.size();
  for (const BlockId id : home.blocks) take_out(id);
  jump_tables_.forget_others();
  home.blocks.clear();
}

void BlockStore::remove(BlockId id) {
  const Block& block = blocks_[id];
  if (!block.valid) return;
  Home& home = homes_[block.home];
  if (!block.split) {
    take_out(id);
    std::erase(home.blocks, id);
    return;
  }
  // Call sites of other blocks of its home lead to a block without windows.
  for (const BlockId other : home.blocks) take_out(other);
  home.blocks.clear();
}

void BlockStore::evict(Segment& segment) {
  segment.used = segment.start;
  if (segment.blocks.empty() && segment.entries.empty()) return;
  ++evictions_;
  for (const BlockId id : segment.blocks) remove(id);
  for (const BlockId id : segment.entries) {
    const CodeOffset entry = blocks_[id].indirect;  // of another block, if that one has gone
    if (entry >= segment.start.often && entry < segment.end.often) remove(id);
  }
  segment.entries.clear();
  jump_tables_.forget_others();
  remove_links(segment);
  free_blocks_.insert(free_blocks_.end(), segment.blocks.begin(), segment.blocks.end());
  segment.blocks.clear();
  remove_empty_homes();
}

/// The links from the segment's blocks.
void BlockStore::remove_links(Segment& segment) {
  std::vector<BlockId> targets;
  const CodeCache::Edit edit(cache_);
  for (const BlockId id : segment.blocks)
    for (unsigned i = 0; i < blocks_[id].link_count; ++i) {
      Link& way = link(link_id(blocks_[id], i));
      way.from = 0;
      if (way.to != 0) targets.push_back(way.to);
    }
  std::ranges::sort(targets);
  targets.erase(std::ranges::unique(targets).begin(), targets.end());
  for (const BlockId target : targets)
    for (LinkId* at = &blocks_[target].incoming; *at != 0;) {
      Link& way = link(*at);
      if (way.from == 0)
        *at = way.next;
      else
        at = &way.next;
    }
}

void BlockStore::remove_empty_homes() {
  for (HomeId id = 0; id < homes_.size(); ++id) {
    Home& home = homes_[id];
    if (home.page_count == 0 || !home.blocks.empty()) continue;
    for (unsigned i = 0; i < home.page_count; ++i) {
      const auto page = pages_.find(home.ram_pages[i]);
      if (page == pages_.end()) continue;
      std::erase(page->second.homes, id);
      if (page->second.homes.empty()) pages_.erase(page);
    }
    home = {};
    home.page_count = 0;
    free_homes_.push_back(id);
  }
}

}  // namespace limen::soft::translate
