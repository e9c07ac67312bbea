// What the soft TLB keeps and drops (SDM Vol. 3A 4.10).
#include "soft/mmu/mmu_fixture.h"

namespace limen::soft {
namespace {

using namespace x86;  // NOLINT(google-build-using-namespace)

constexpr uint64_t kRw = kPresent | kWritable;
constexpr uint64_t kPage = 0x1000;
constexpr uint64_t kFirst = 0x40'0000, kSecond = 0x50'0000;

class MmuTlb : public MmuTest {
 protected:
  void SetUp() override {
    poke<uint8_t>(kFirst, 1);
    poke<uint8_t>(kSecond, 2);
  }
};

TEST_F(MmuTlb, KeepsATranslationUntilItIsInvalidated) {
  const uint64_t leaf = map(kPage, kFirst, kRw);
  long_mode();
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 1);
  EXPECT_EQ(mmu_->fetch(kPage).page, GuestPhysicalAddress{kFirst});
  poke<uint64_t>(leaf, kSecond | kRw);
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 1);
  mmu_->invalidate_page(kPage + 0x123);
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 2);
  EXPECT_EQ(mmu_->fetch(kPage).page, GuestPhysicalAddress{kSecond});
}

TEST_F(MmuTlb, Cr3WriteDropsAllButGlobalPages) {
  const uint64_t leaf = map(kPage, kFirst, kRw);
  const uint64_t global = map(0x5000, kFirst, kRw | kGlobal);
  long_mode(cr4::kPge);
  mmu_->read<uint8_t>(kPage);
  mmu_->read<uint8_t>(0x5000);
  poke<uint64_t>(leaf, kSecond | kRw);
  poke<uint64_t>(global, kSecond | kRw | kGlobal);
  ASSERT_TRUE(mmu_->load_cr3(kRoot, false));
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 2);
  EXPECT_EQ(mmu_->read<uint8_t>(0x5000), 1);
  mode_.cr4 &= ~cr4::kPge;  // clearing CR4.PGE flushes everything
  set_mode();
  EXPECT_EQ(mmu_->read<uint8_t>(0x5000), 2);
}

TEST_F(MmuTlb, GlobalBitMeansNothingWithoutPge) {
  const uint64_t leaf = map(kPage, kFirst, kRw | kGlobal);
  long_mode();
  mmu_->read<uint8_t>(kPage);
  poke<uint64_t>(leaf, kSecond | kRw);
  ASSERT_TRUE(mmu_->load_cr3(kRoot, false));
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 2);
}

TEST_F(MmuTlb, PcidKeepsTranslationsAcrossCr3Writes) {
  const uint64_t leaf = map(kPage, kFirst, kRw);
  constexpr uint64_t kOther = 0x2000;
  map(kPage, kSecond, kRw, 12, kOther);
  long_mode(cr4::kPcide);
  ASSERT_TRUE(mmu_->load_cr3(kRoot | 1, false));
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 1);
  ASSERT_TRUE(mmu_->load_cr3(kOther | 2, false));
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 2);
  poke<uint64_t>(leaf, 0);
  ASSERT_TRUE(mmu_->load_cr3(kRoot | 1, true));
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 1);  // kept
  ASSERT_TRUE(mmu_->load_cr3(kRoot | 1, false));
  EXPECT_EQ(read_fault(kPage), 0);  // flushed
  ASSERT_TRUE(mmu_->load_cr3(kOther | 2, true));
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 2);
}

TEST_F(MmuTlb, MorePcidsThanBanksNeverMixAddressSpaces) {
  std::vector<uint64_t> roots;
  for (unsigned i = 0; i < 20; ++i) {
    roots.push_back(i == 0 ? kRoot : new_table());
    map(kPage, 0x60'0000 + i * 0x1000, kRw, 12, roots[i]);
    poke<uint8_t>(0x60'0000 + i * 0x1000, static_cast<uint8_t>(100 + i));
  }
  long_mode(cr4::kPcide);
  for (unsigned round = 0; round < 3; ++round)
    for (unsigned i = 0; i < 20; ++i) {
      ASSERT_TRUE(mmu_->load_cr3(roots[i] | (i + 1), true));
      EXPECT_EQ(mmu_->read<uint8_t>(kPage), 100 + i);
    }
}

TEST_F(MmuTlb, InvlpgOfAnyAddressDropsAWholeLargePage) {
  for (const unsigned shift : {21u, 30u}) {
    const uint64_t base = uint64_t{1} << (shift + 9);
    const uint64_t leaf = map(base, 0, kRw, shift);
    long_mode();
    poke<uint8_t>(0x3000, 3);
    EXPECT_EQ(mmu_->read<uint8_t>(base + 0x3000), 3);
    EXPECT_EQ(mmu_->fetch(base + 0x3000).page, GuestPhysicalAddress{0x3000});
    poke<uint64_t>(leaf, 0);
    mmu_->invalidate_page(base + 0x1F'E000);
    EXPECT_EQ(read_fault(base + 0x3000), 0) << shift;
    EXPECT_EQ(fetch_fault(base + 0x3000), 0) << shift;
  }
}

TEST_F(MmuTlb, InvlpgOfALarge32BitPage) {
  poke<uint32_t>(kRoot + 4, 0x40'0000 | kRw | kLarge);
  legacy_mode(cr4::kPse);
  EXPECT_EQ(mmu_->read<uint8_t>(0x40'0000), 1);
  poke<uint32_t>(kRoot + 4, 0);
  mmu_->invalidate_page(0x7F'F000);
  EXPECT_EQ(read_fault(0x40'0000), 0);
}

TEST_F(MmuTlb, InvlpgDropsGlobalPagesOfOtherAddressSpaces) {
  const uint64_t leaf = map(kPage, kFirst, kRw | kGlobal);
  const uint64_t large = map(0x40'0000'0000, 0x40'0000, kRw | kGlobal, 21);
  long_mode(cr4::kPcide | cr4::kPge);
  ASSERT_TRUE(mmu_->load_cr3(kRoot | 1, false));
  mmu_->read<uint8_t>(kPage);
  mmu_->read<uint8_t>(0x40'0000'0000);
  ASSERT_TRUE(mmu_->load_cr3(kRoot | 2, false));
  poke<uint64_t>(leaf, kSecond | kRw | kGlobal);
  poke<uint64_t>(large, 0);
  mmu_->invalidate_page(kPage);
  mmu_->invalidate_page(0x40'001F'0000);
  ASSERT_TRUE(mmu_->load_cr3(kRoot | 1, true));
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 2);
  EXPECT_EQ(read_fault(0x40'0000'0000), 0);
}

TEST_F(MmuTlb, InvpcidTypes) {
  const uint64_t leaf = map(kPage, kFirst, kRw);
  const uint64_t global = map(0x5000, kFirst, kRw | kGlobal);
  long_mode(cr4::kPcide | cr4::kPge);
  // For each type: whether the page of PCID 1, seen from PCID 2, and the global page survive.
  struct Case {
    uint64_t type, pcid, linear;
    bool keeps_page, keeps_global;
  };
  for (const Case& test :
       {Case{0, 1, kPage, false, true}, Case{0, 1, 0x9000, true, true}, Case{1, 1, 0, false, true},
        Case{1, 2, 0, true, true}, Case{2, 0, 0, false, false}, Case{3, 0, 0, false, true}}) {
    SCOPED_TRACE(::testing::Message() << test.type << " " << test.pcid);
    poke<uint64_t>(leaf, kFirst | kRw);
    poke<uint64_t>(global, kFirst | kRw | kGlobal);
    mmu_->flush_all();
    ASSERT_TRUE(mmu_->load_cr3(kRoot | 1, false));
    mmu_->read<uint8_t>(kPage);
    mmu_->read<uint8_t>(0x5000);
    ASSERT_TRUE(mmu_->load_cr3(kRoot | 2, true));
    poke<uint64_t>(leaf, kSecond | kRw);
    poke<uint64_t>(global, kSecond | kRw | kGlobal);
    EXPECT_TRUE(mmu_->invalidate_pcid(test.type, test.pcid, test.linear));
    ASSERT_TRUE(mmu_->load_cr3(kRoot | 1, true));
    EXPECT_EQ(mmu_->read<uint8_t>(kPage), test.keeps_page ? 1 : 2);
    EXPECT_EQ(mmu_->read<uint8_t>(0x5000), test.keeps_global ? 1 : 2);
  }
}

TEST_F(MmuTlb, InvpcidRefusesBadDescriptors) {
  long_mode(cr4::kPcide);
  EXPECT_FALSE(mmu_->invalidate_pcid(4, 0, 0));
  EXPECT_FALSE(mmu_->invalidate_pcid(1, 0x1000, 0));
  EXPECT_FALSE(mmu_->invalidate_pcid(0, 1, 0x8000'0000'0000));
  EXPECT_TRUE(mmu_->invalidate_pcid(1, 0xFFF, 0));
  mode_.cr4 &= ~cr4::kPcide;
  set_mode();
  EXPECT_FALSE(mmu_->invalidate_pcid(0, 1, 0));
  EXPECT_FALSE(mmu_->invalidate_pcid(1, 1, 0));
  EXPECT_TRUE(mmu_->invalidate_pcid(1, 0, 0));
}

TEST_F(MmuTlb, PrivilegeChangesNeedNoFlush) {
  map(kPage, kFirst, kRw);
  long_mode();
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 1);
  user();
  EXPECT_EQ(read_fault(kPage), 5);
  user(false);
  EXPECT_EQ(mmu_->read<uint8_t>(kPage), 1);
}

TEST_F(MmuTlb, PagesWithTheSameIndexReplaceEachOther) {
  map(kPage, kFirst, kRw);
  map(kPage + (1024 << 12), kSecond, kRw);
  long_mode();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(mmu_->read<uint8_t>(kPage), 1);
    EXPECT_EQ(mmu_->read<uint8_t>(kPage + (1024 << 12)), 2);
  }
}

// An empty entry's tag is a page's address, too.
TEST_F(MmuTlb, EmptyEntriesAreHitByNoAddress) {
  constexpr uint64_t kBank = 8192 * kPage, kLast = ~uint64_t{0} << 12;
  for (const uint64_t mapped : {kBank - kPage, kBank + kPage}) map(mapped, kFirst, kRw);
  long_mode();
  for (const uint64_t page : {uint64_t{0}, 2 * kPage, 3 * kPage, kBank - 2 * kPage, kBank, kLast}) {
    EXPECT_EQ(read_fault(page), 0) << page;
    EXPECT_EQ(write_fault(page), 2) << page;
    EXPECT_EQ(fetch_fault(page), 0) << page;
    EXPECT_EQ(mmu_->quick_access(page, 8, Access::kRead).host, nullptr) << page;
  }
  const auto read_across = [&](uint64_t page) {
    return code_of(caught([&] { mmu_->read<uint64_t>(page - 4); }), page);
  };
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(read_across(kBank), 0);  // from a page that is there, in the last entry
    EXPECT_EQ(mmu_->read<uint8_t>(kBank - 1), 0);
  }
  map(kLast, kSecond, kRw);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(read_across(0), 0);
    EXPECT_EQ(mmu_->read<uint8_t>(kLast), 2);
  }
}

TEST_F(MmuTlb, ForgetsPagesBeyond32BitsFor32BitCode) {
  const uint64_t wide = map(0x7FFF'1234'5000, 0x40'0000, kRw);
  const uint64_t narrow = map(0x1234'5000, 0x40'1000, kRw);
  long_mode();
  for (const uint64_t linear : {uint64_t{0x7FFF'1234'5000}, uint64_t{0x1234'5000}})
    (void)mmu_->read<uint8_t>(linear);
  mmu_->forget_wide_pages();
  poke<uint64_t>(wide, 0);
  poke<uint64_t>(narrow, 0);
  EXPECT_EQ(read_fault(0x7FFF'1234'5000), 0);
  EXPECT_EQ(read_fault(0x1234'5000), -1);  // still known
}

TEST_F(MmuTlb, WriteProtectChangeTakesEffect) {
  map(kPage, kFirst, kPresent);
  long_mode();
  mode_.cr0 &= ~cr0::kWriteProtect;
  set_mode();
  EXPECT_EQ(write_fault(kPage), kNoFault);
  mode_.cr0 |= cr0::kWriteProtect;
  set_mode();
  EXPECT_EQ(write_fault(kPage), 3);
}

}  // namespace
}  // namespace limen::soft
