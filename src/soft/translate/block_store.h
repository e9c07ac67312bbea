// All blocks of one vCPU: which there are, where their code stands, how they are linked.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "soft/translate/block.h"
#include "soft/translate/code_cache.h"
#include "soft/translate/jump_tables.h"

namespace limen::soft::translate {

/// Fills the code cache segment by segment, and begins anew with the oldest when all are full: only
/// what that holds is evicted, a small part of the whole.
class BlockStore {
 public:
  /// Blocks stand behind `first_free` of the cache. When a block goes, so does its entry in
  /// `jump_tables`.
  BlockStore(const CodeCache& cache, CodeOffset first_free, JumpTables& jump_tables);
  /// Bytes of data that go with so much code.
  [[nodiscard]] static size_t data_size(size_t code_size);

  /// Where the next block's code goes: what runs often, and what seldom.
  struct Room {
    CodeOffset often = 0;
    CodeOffset seldom = 0;
  };
  /// Room for `size` bytes of either kind, and for another home; evicts for it if need be.
  Room make_room(size_t size);
  /// Counts up whenever blocks are evicted: numbers of blocks and links mean others then.
  [[nodiscard]] uint64_t evictions() const { return evictions_; }

  [[nodiscard]] BlockId next_id() const;
  /// Adds the block that was made in the room that make_room() gave, up to `end`, and leads its
  /// links to blocks of its home that are there. It becomes next_id(). The caller has a
  /// CodeCache::Edit.
  void add(const Block& block, Room end);
  /// Notes that the block's entries were made in the room that make_room() gave, up to `end`.
  void add_entries(BlockId id, Room end);
  [[nodiscard]] Block& operator[](BlockId id) { return blocks_[id]; }
  [[nodiscard]] const Block& operator[](BlockId id) const { return blocks_[id]; }
  /// The block whose code, as far as it runs often, has the offset; 0: none.
  [[nodiscard]] BlockId containing(CodeOffset offset) const;
  /// The first block, of a chain by Block::next, that may begin at `offset` of a page of RAM.
  [[nodiscard]] BlockId first_at(uint64_t ram_page, uint64_t offset) const {
    return buckets_[bucket_of(ram_page, offset)];
  }

  /// The block of a home, with windows, that begins at an offset; 0: none.
  [[nodiscard]] BlockId at(HomeId home, uint64_t offset) const;

  /// To change it takes a CodeCache::Edit.
  [[nodiscard]] Link& link(LinkId id) const { return *reinterpret_cast<Link*>(&cache_.code()[id]); }
  /// Leads the link to `to`, if it is not led anywhere yet and that can be done.
  void connect(LinkId id, BlockId to);

  [[nodiscard]] Home& home(HomeId id) { return homes_[id]; }
  [[nodiscard]] const Home& home(HomeId id) const { return homes_[id]; }
  /// The home that is as `wanted`, at `base` if it is a fixed one. Made if there is none; without
  /// its blocks if they are of other generations.
  HomeId home_for(const Home& wanted, uint64_t base);
  /// In the code cache's data: leaves vector registers alone.
  [[nodiscard]] HomeData& data(HomeId id) const {
    return reinterpret_cast<HomeData*>(cache_.data())[id];
  }
  [[nodiscard]] CodeOffset data_offset(HomeId id) const {
    return cache_.data_offset() + id * static_cast<uint32_t>(sizeof(HomeData));
  }
  [[nodiscard]] size_t home_count() const { return homes_.size(); }

  /// What no block may count on any more: the home's code changed. It may be bound again, when code
  /// of it is translated anew.
  void invalidate_blocks(Home& home);
  /// Invalidates the blocks of all homes of which a page's generation, as `generation` tells it by
  /// the page's address, is not what it was.
  template <typename Generation>
  void invalidate_changed(Generation generation) {
    for (auto& [ram_page, page] : pages_) {
      const uint32_t now = generation(ram_page);
      if (now == page.generation) continue;
      page.generation = now;
      for (const HomeId id : page.homes) {
        Home& home = homes_[id];
        for (unsigned i = 0; i < home.page_count; ++i)
          if (home.generations[i] != generation(home.ram_pages[i])) {
            invalidate_blocks(home);
            break;
          }
      }
    }
  }
  [[nodiscard]] uint64_t invalidated() const { return invalidated_; }

 private:
  static constexpr unsigned kBucketBits = 16;

  struct Page {
    std::vector<HomeId> homes;
    uint32_t generation = 0;
  };
  struct Segment {
    Room start, used, end;
    Room populated;                // up to where there is memory for it
    std::vector<BlockId> blocks;   // in the order of their code
    std::vector<BlockId> entries;  // blocks elsewhere whose entries are here
  };

  [[nodiscard]] static size_t bucket_of(uint64_t ram_page, uint64_t offset) {
    return ((ram_page << 12 | offset) * 0x9E3779B97F4A7C15u) >> (64 - kBucketBits);
  }
  void populate(CodeOffset& populated, CodeOffset used, size_t size);
  void set_way(const Link& link, CodeOffset way);
  void lead(LinkId id, BlockId to, CodeOffset way);
  CodeOffset checked_way(const Link& link, const Block& to);
  void take_out(BlockId id);
  void remove(BlockId id);
  void evict(Segment& segment);
  void remove_links(Segment& segment);
  void remove_empty_homes();

  const CodeCache& cache_;
  JumpTables& jump_tables_;
  size_t max_homes_;
  std::vector<Segment> segments_;
  size_t current_ = 0;
  std::vector<Block> blocks_ = std::vector<Block>(1);  // 0 is nobody
  std::vector<BlockId> free_blocks_;
  std::vector<Home> homes_;
  std::vector<HomeId> free_homes_;
  std::vector<BlockId> buckets_;
  std::unordered_map<uint64_t, Page> pages_;
  uint64_t evictions_ = 0;
  uint64_t invalidated_ = 0;
};

}  // namespace limen::soft::translate
