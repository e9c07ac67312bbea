#include "soft/translate/block_store.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

namespace limen::soft::translate {
namespace {

constexpr size_t kCodeSize = size_t{1} << 20;
constexpr CodeOffset kFirstFree = 4096;
constexpr CodeOffset kMiss = 64;
constexpr CodeOffset kBlockSize = 512;
constexpr uint64_t kPages = 64;

/// Blocks that are but a jump and its stub.
class BlockStoreTest : public ::testing::Test {
 protected:
  struct Made {
    BlockId id;
    LinkId link;
    Block block;
  };

  BlockStoreTest() { jump_tables_->clear(cache_.executable(0), kMiss); }

  static Home home_of(uint64_t ram_page) {
    Home home;
    home.ram_pages[0] = ram_page;
    home.kind = 1;
    return home;
  }

  static constexpr int32_t kFar = 4096;
  static constexpr CodeOffset kCheck = 11;  ///< Of a link, from its exit.

  /// A block at `offset` of a page, whose one way out leads to `target`, from the page's base.
  Made make(uint64_t ram_page, uint16_t offset, bool split = false, int32_t target = kFar) {
    const BlockStore::Room room = store_.make_room(kBlockSize);
    Made made;
    made.id = store_.next_id();
    made.block.home = store_.home_for(home_of(ram_page), ram_page << 12);
    made.block.offset = offset;
    made.block.split = split;
    made.block.indirect = made.block.body = room.often;
    const CodeCache::Edit edit(cache_);
    Assembler out(cache_.code(), room.often);
    const CodeOffset place = out.jump();
    made.block.end = room.often + kBlockSize;
    out.patch(place, room.seldom);
    const Link link{.from = made.id,
                    .place = place,
                    .target = target,
                    .exit = room.seldom,
                    .check = room.seldom + kCheck};
    made.link = room.seldom + kBlockSize / 4;
    made.block.link_count = 1;
    made.block.sites = made.link + static_cast<CodeOffset>(sizeof link);
    store_.link(made.link) = link;
    store_.add(made.block, {.often = made.block.end, .seldom = room.seldom + kBlockSize / 2});
    jump_tables_->enter(1, offset, made.block.indirect, made.block.body);
    return made;
  }

  /// Where the jump of the link leads.
  CodeOffset target_of(LinkId id) { return target_at(store_.link(id).place); }
  /// Where a jump leads whose displacement is there.
  CodeOffset target_at(CodeOffset place) {
    int32_t displacement;
    std::memcpy(&displacement, &cache_.code()[place], sizeof displacement);
    return place + 4 + static_cast<CodeOffset>(displacement);
  }

  bool is_found(const Made& made, uint64_t ram_page) {
    for (BlockId id = store_.first_at(ram_page, made.block.offset); id != 0; id = store_[id].next)
      if (id == made.id && store_[id].body == made.block.body) return true;
    return false;
  }

  std::unique_ptr<JumpTables> jump_tables_ = std::make_unique<JumpTables>();
  CodeCache cache_{kCodeSize, BlockStore::data_size(kCodeSize), jump_tables_.get()};
  BlockStore store_{cache_, kFirstFree, *jump_tables_};
};

TEST_F(BlockStoreTest, EvictsTheOldestAndKeepsTheRest) {
  const Made first = make(0, 0);
  std::vector<Made> made;
  while (store_.evictions() == 0)
    made.push_back(make(1 + made.size() % kPages, static_cast<uint16_t>(1 + made.size() / kPages)));
  EXPECT_GT(made.size(), kCodeSize / kBlockSize / 4);
  EXPECT_FALSE(is_found(first, 0));
  EXPECT_EQ(jump_tables_->tables[1][0], cache_.executable(kMiss));
  EXPECT_EQ(jump_tables_->others[1][JumpTables::other_index(0)].entry, kMiss);
  // A quarter is gone, and what was made before and after it is there.
  size_t found = 0;
  for (size_t i = 0; i < made.size(); ++i) found += is_found(made[i], 1 + i % kPages) ? 1 : 0;
  EXPECT_GT(found, made.size() * 2 / 3);
  EXPECT_LT(found, made.size() * 4 / 5);
  EXPECT_TRUE(is_found(made.back(), 1 + (made.size() - 1) % kPages));
  EXPECT_EQ(store_.containing(made.back().block.body), made.back().id);
  EXPECT_EQ(store_.containing(made.back().block.end), 0u);
}

TEST_F(BlockStoreTest, TakesLinksToEvictedBlocksBack) {
  const Made first = make(0, 0);
  std::vector<Made> made;
  for (unsigned i = 0;; ++i) {
    made.push_back(make(1 + i % kPages, static_cast<uint16_t>(1 + i / kPages)));
    if (store_.evictions() != 0) break;
    store_.connect(made.back().link, first.id);
    const Link& link = store_.link(made.back().link);
    ASSERT_EQ(target_of(made.back().link), link.check);
    ASSERT_EQ(target_at(link.check + Link::kBody), first.block.body);
  }
  ASSERT_EQ(store_.evictions(), 1u);
  unsigned unlinked = 0;
  for (size_t i = 0; i < made.size(); ++i) {
    if (!is_found(made[i], 1 + i % kPages)) continue;
    EXPECT_EQ(store_.link(made[i].link).to, 0u);
    EXPECT_EQ(target_of(made[i].link), store_.link(made[i].link).exit);
    ++unlinked;
  }
  EXPECT_GT(unlinked, 100u);
}

TEST_F(BlockStoreTest, ForgetsLinksFromEvictedBlocks) {
  make(0, 0);
  const Made source = make(1, 0);
  // A target that outlives the source.
  std::vector<Made> targets;
  while (store_.evictions() == 0) {
    targets.push_back(make(2 + targets.size() % kPages, static_cast<uint16_t>(targets.size())));
    if (targets.size() != kCodeSize / kBlockSize / 3) continue;
    store_.connect(source.link, targets.back().id);
  }
  const Made& target = targets[kCodeSize / kBlockSize / 3 - 1];
  ASSERT_TRUE(is_found(target, 2 + (kCodeSize / kBlockSize / 3 - 1) % kPages));
  EXPECT_EQ(store_[target.id].incoming, 0u);
}

TEST_F(BlockStoreTest, EvictsWhatLeadsToABlockWithoutWindows) {
  make(0, 0, true);
  // The same home, in a segment that stays.
  std::vector<Made> made;
  while (store_.evictions() == 0)
    made.push_back(make(made.size() % kPages, static_cast<uint16_t>(1 + made.size())));
  for (size_t i = 0; i + 1 < made.size(); i += kPages) EXPECT_FALSE(is_found(made[i], 0));
  EXPECT_TRUE(is_found(made[made.size() / 2 / kPages * kPages + 1], 1));
}

TEST_F(BlockStoreTest, GivesNumbersAgain) {
  BlockId most = 0;
  for (unsigned i = 0; store_.evictions() < 20; ++i)
    most = std::max(most, make(i % 1000, static_cast<uint16_t>(i % 4000)).id);
  EXPECT_LT(most, kCodeSize / kBlockSize);
  EXPECT_LT(store_.home_count(), 1001u);
}

TEST_F(BlockStoreTest, LeadsNewLinksToBlocksOfTheirHome) {
  const Made known = make(1, 16);
  EXPECT_EQ(target_of(make(1, 32, false, 16).link), known.block.body);
  const Made stranger = make(2, 32, false, 16);
  EXPECT_EQ(target_of(stranger.link), store_.link(stranger.link).exit);
}

TEST_F(BlockStoreTest, InvalidatesTheBlocksOfAChangedPage) {
  const Made one = make(1, 0);
  const Made other = make(2, 0);
  const auto changed = [](uint64_t ram_page) { return ram_page == 1 ? 1u : 0u; };
  store_.invalidate_changed(changed);
  EXPECT_FALSE(is_found(one, 1));
  EXPECT_TRUE(is_found(other, 2));
  EXPECT_EQ(store_.invalidated(), 1u);
}

}  // namespace
}  // namespace limen::soft::translate
