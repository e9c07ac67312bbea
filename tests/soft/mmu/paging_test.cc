// Paging modes, rights, reserved bits, accessed and dirty bits (SDM Vol. 3A 4).
#include "soft/mmu/mmu_fixture.h"

namespace limen::soft {
namespace {

using namespace x86;  // NOLINT(google-build-using-namespace)

constexpr uint64_t kRw = kPresent | kWritable;
constexpr uint64_t kRwu = kPresent | kWritable | kUserPage;

class MmuPaging : public MmuTest {};

TEST_F(MmuPaging, WithoutPagingLinearIsPhysical) {
  poke<uint32_t>(0x5000, 0x1234'5678);
  EXPECT_EQ(mmu_->read<uint32_t>(0x5000), 0x1234'5678u);
  mmu_->write<uint16_t>(0x10'FFEE, 0xBEEF);  // above 1 MiB: A20 is on
  EXPECT_EQ(peek<uint16_t>(0x10'FFEE), 0xBEEF);
}

TEST_F(MmuPaging, MapsThroughFourLevelsWithEveryPageSize) {
  map(0x7FFF'1234'5000, 0x40'0000, kRwu);
  map(0xFFFF'8000'0020'0000, 0x60'0000, kRw, 21);
  map(0xFFFF'9000'0000'0000, 0, kRw, 30);
  long_mode();
  poke<uint64_t>(0x40'0010, 1);
  poke<uint64_t>(0x6F'F008, 2);
  poke<uint64_t>(0x81'2340, 3);
  EXPECT_EQ(mmu_->read<uint64_t>(0x7FFF'1234'5010), 1u);
  EXPECT_EQ(mmu_->read<uint64_t>(0xFFFF'8000'002F'F008), 2u);
  EXPECT_EQ(mmu_->read<uint64_t>(0xFFFF'9000'0081'2340), 3u);
  EXPECT_EQ(mmu_->translate(0xFFFF'8000'002F'F008), GuestPhysicalAddress{0x6F'F008});
  EXPECT_EQ(mmu_->translate(0x1000), std::nullopt);
}

TEST_F(MmuPaging, MapsThroughPae) {
  map_pae(0xC012'3000, 0x40'0000, kRw);
  map_pae(0x8020'0000, 0x60'0000, kRw, 21);
  pae_mode();
  poke<uint32_t>(0x40'0FFC, 11);
  poke<uint32_t>(0x61'0000, 22);
  EXPECT_EQ(mmu_->read<uint32_t>(0xC012'3FFC), 11u);
  EXPECT_EQ(mmu_->read<uint32_t>(0x8021'0000), 22u);
  EXPECT_EQ(read_fault(0x4000'0000), 0);  // PDPTE not present
}

TEST_F(MmuPaging, PdptesAreRegistersLoadedByCr3) {
  const uint64_t leaf = map_pae(0, 0x40'0000, kRw);
  pae_mode();
  poke<uint64_t>(kRoot, 0);
  poke<uint8_t>(0x40'0000, 7);
  EXPECT_EQ(mmu_->read<uint8_t>(0), 7);  // the register still holds the entry
  mmu_->flush_all();
  EXPECT_EQ(mmu_->read<uint8_t>(0), 7);
  EXPECT_TRUE(mmu_->load_cr3(kRoot, false));
  EXPECT_EQ(read_fault(0), 0);
  (void)leaf;
}

TEST_F(MmuPaging, PdpteWithReservedBitIsRefused) {
  map_pae(0, 0x40'0000, kRw);
  pae_mode();
  const uint64_t good = peek<uint64_t>(kRoot);
  for (const uint64_t bad : {uint64_t{2}, uint64_t{4}, uint64_t{0x20}, uint64_t{0x100},
                             uint64_t{1} << 40, uint64_t{1} << 63}) {
    poke<uint64_t>(kRoot, good | bad);
    EXPECT_FALSE(mmu_->load_cr3(kRoot, false)) << std::hex << bad;
    EXPECT_FALSE(mmu_->load_pdptes(kRoot)) << std::hex << bad;
  }
  poke<uint64_t>(kRoot, 0xFFFF'FFFF'FFFF'FFFE);  // not present: not checked
  EXPECT_TRUE(mmu_->load_cr3(kRoot, false));
}

TEST_F(MmuPaging, MapsThroughTwoLevels) {
  map_32(0xFFBF'F000, 0x40'0000, kRw);
  poke<uint32_t>(kRoot + 4 * 3, 0x80'0000 | kRw | kLarge);
  legacy_mode(cr4::kPse);
  poke<uint32_t>(0x40'0004, 5);
  poke<uint32_t>(0x8F'0000, 6);
  EXPECT_EQ(mmu_->read<uint32_t>(0xFFBF'F004), 5u);
  EXPECT_EQ(mmu_->read<uint32_t>(0x00CF'0000), 6u);
  // Without CR4.PSE the bit is ignored and the entry points to a table.
  mode_.cr4 = 0;
  set_mode();
  poke<uint32_t>(0x80'0000 + (0x0F'0000 >> 12) * 4, 0x40'0000 | kRw);
  poke<uint32_t>(0x40'0000, 9);
  EXPECT_EQ(mmu_->read<uint32_t>(0x00CF'0000), 9u);
}

TEST_F(MmuPaging, QuickAccessesFindWhatOthersDo) {
  map_32(0xC012'3000, 0x40'0000, kRw);
  map_32(0xC012'4000, 0x40'1000, kPresent);
  poke<uint32_t>(kRoot + 4 * 3, 0x80'0000 | kRw | kLarge);
  legacy_mode(cr4::kPse);
  const auto host = [&](uint64_t linear, Access access) {
    return mmu_->quick_access(linear, 4, access).host;
  };
  EXPECT_EQ(host(0xC012'3004, Access::kWrite), ram_->span({0x40'0004}, 4).data());
  EXPECT_EQ(host(0x00CF'0000, Access::kRead), ram_->span({0x8F'0000}, 4).data());
  const auto refused = mmu_->quick_access(0xC012'4000, 4, Access::kWrite);
  EXPECT_TRUE(refused.faults);
  EXPECT_EQ(refused.error_code, 3u);
  EXPECT_EQ(mmu_->quick_access(0x4000'0000, 4, Access::kRead).error_code, 0u);
  EXPECT_NE(mmu_->quick_fetch(0xC012'3000), nullptr);
}

TEST_F(MmuPaging, QuickAccessesSetAccessedAndDirtyInLegacyEntries) {
  const uint64_t leaf = map_32(0xC012'3000, 0x40'0000, kRw);
  poke<uint32_t>(leaf + 4, 0x1234'5678);  // the next entry
  legacy_mode();
  (void)mmu_->quick_access(0xC012'3000, 4, Access::kRead);
  EXPECT_EQ(peek<uint32_t>(leaf), 0x40'0000 | kRw | kAccessed);
  (void)mmu_->quick_access(0xC012'3000, 4, Access::kWrite);
  EXPECT_EQ(peek<uint32_t>(leaf), 0x40'0000 | kRw | kAccessed | kDirty);
  EXPECT_EQ(peek<uint32_t>(leaf + 4), 0x1234'5678u);
}

TEST_F(MmuPaging, QuickAccessesFindPagesOfPaeAndWithoutPaging) {
  EXPECT_EQ(mmu_->quick_access(0x5000, 4, Access::kWrite).host, ram_->span({0x5000}, 4).data());
  map_pae(0xC012'3000, 0x40'0000, kRw);
  pae_mode();
  EXPECT_EQ(mmu_->quick_access(0xC012'3008, 4, Access::kWrite).host,
            ram_->span({0x40'0008}, 4).data());
  EXPECT_TRUE(mmu_->quick_access(0x4000'0000, 4, Access::kRead).faults);
}

TEST_F(MmuPaging, Pse36ReachesAbove4GiBAndChecksReservedBits) {
  mmu_->configure(36, true);
  // Bits 16:13 are address bits 35:32.
  poke<uint32_t>(kRoot, 0x0040'0000 | 1u << 13 | kRw | kLarge);
  legacy_mode(cr4::kPse);
  EXPECT_EQ(mmu_->translate(0x1234), GuestPhysicalAddress{0x1'0040'1234});
  for (const uint32_t bit : {17u, 20u, 21u}) {
    poke<uint32_t>(kRoot, 1u << bit | kRw | kLarge);
    EXPECT_EQ(read_fault(0), 9) << bit;
  }
}

TEST_F(MmuPaging, LinearAddressesWrapAt4GiBOutsideLongMode) {
  map_32(0, 0x40'0000, kRw);
  map_32(0xFFFF'F000, 0x41'0000, kRw);
  legacy_mode();
  mmu_->write<uint32_t>(0xFFFF'FFFE, 0xAABB'CCDD);
  EXPECT_EQ(peek<uint16_t>(0x41'0FFE), 0xCCDD);
  EXPECT_EQ(peek<uint16_t>(0x40'0000), 0xAABB);
}

TEST_F(MmuPaging, NonCanonicalAddressRaisesGeneralProtection) {
  map(0x7FFF'FFFF'F000, 0x40'0000, kRwu);
  long_mode();
  for (const uint64_t address : {uint64_t{0x8000'0000'0000}, uint64_t{0xFFFF'7FFF'FFFF'FFF8},
                                 uint64_t{0x7FFF'FFFF'FFFF}}) {  // the last crosses the border
    const auto exception = caught([&] { mmu_->read<uint64_t>(address); });
    ASSERT_TRUE(exception) << std::hex << address;
    EXPECT_EQ(exception->vector, Vector::kGeneralProtection);
    EXPECT_EQ(exception->error_code, 0u);
  }
  const auto fetch = caught([&] { mmu_->fetch(0x8000'0000'0000); });
  ASSERT_TRUE(fetch);
  EXPECT_EQ(fetch->vector, Vector::kGeneralProtection);
}

TEST_F(MmuPaging, NotPresentAtEveryLevelGivesCodeWithoutP) {
  map(0x1000, 0x40'0000, 0);
  long_mode(0, efer::kNxe);
  for (const uint64_t address :
       {uint64_t{0x1000}, uint64_t{0x20'0000}, uint64_t{0x4000'0000}, uint64_t{0x80'0000'0000}}) {
    EXPECT_EQ(read_fault(address), 0);
    EXPECT_EQ(write_fault(address), 2);
    EXPECT_EQ(fetch_fault(address), 0x10);
  }
  user();
  EXPECT_EQ(read_fault(0x1000), 4);
  EXPECT_EQ(write_fault(0x1000), 6);
  EXPECT_EQ(fetch_fault(0x1000), 0x14);
}

TEST_F(MmuPaging, FetchBitNeedsNxOrSmep) {
  long_mode();
  EXPECT_EQ(fetch_fault(0x1000), 0);
  mode_.cr4 |= cr4::kSmep;
  set_mode();
  EXPECT_EQ(fetch_fault(0x1000), 0x10);
}

// Every combination of the page's rights and the processor's state, against the rules of SDM 4.6.1
// written out once more.
TEST_F(MmuPaging, RightsMatrix) {
  constexpr uint64_t kPage = 0x40'0000'0000;
  const uint64_t leaf = map(kPage, 0x40'0000, 0);
  long_mode();
  for (unsigned page = 0; page < 8; ++page)
    for (unsigned state = 0; state < 64; ++state) {
      const bool w = page & 1, u = page & 2, nx = page & 4;
      const bool cpl3 = state & 1, wp = state & 2, smep = state & 4, smap = state & 8;
      const bool ac = state & 16, nxe = state & 32;
      if (nx && !nxe) continue;  // reserved
      poke<uint64_t>(leaf, 0x40'0000 | kPresent | (w ? kWritable : 0) | (u ? kUserPage : 0) |
                               (nx ? kNoExecute : 0));
      mode_.cr0 = cr0::kProtection | cr0::kPaging | (wp ? cr0::kWriteProtect : 0);
      mode_.cr4 = cr4::kPae | (smep ? cr4::kSmep : 0) | (smap ? cr4::kSmap : 0);
      mode_.efer = efer::kLme | efer::kLma | (nxe ? efer::kNxe : 0);
      mode_.user = cpl3;
      mode_.alignment_check = ac;
      set_mode();
      const int us = cpl3 ? 5 : 1;
      const bool smap_bars = smap && !ac && u;
      const bool read_ok = cpl3 ? u : !smap_bars;
      const bool write_ok = cpl3 ? u && w : !smap_bars && (w || !wp);
      const bool fetch_ok = !nx && (cpl3 ? u : !(smep && u));
      SCOPED_TRACE(::testing::Message() << "page " << page << " state " << state);
      mmu_->flush_all();
      EXPECT_EQ(write_fault(kPage), write_ok ? kNoFault : us | 2);
      EXPECT_EQ(read_fault(kPage), read_ok ? kNoFault : us);
      EXPECT_EQ(fetch_fault(kPage), fetch_ok ? kNoFault : us | (smep || nxe ? 0x10 : 0));
      // Again with what the TLB now holds.
      EXPECT_EQ(write_fault(kPage), write_ok ? kNoFault : us | 2);
      EXPECT_EQ(read_fault(kPage), read_ok ? kNoFault : us);
      const bool implicit_ok = !(smap && u);
      const auto implicit = caught([&] { mmu_->read_supervisor<uint16_t>(kPage); });
      EXPECT_EQ(code_of(implicit, kPage), implicit_ok ? kNoFault : 1);
    }
}

TEST_F(MmuPaging, SupervisorKeysBarSupervisorAccessesFromSupervisorPages) {
  constexpr int kKeyFault = 1 | 0x20;
  constexpr unsigned kKey = 5;
  constexpr uint32_t kNoAccess = 1u << (2 * kKey), kNoWrite = 2u << (2 * kKey);
  constexpr uint64_t kPage = 0x40'0000'0000;
  const uint64_t leaf = map(kPage, 0x40'0000, kRw);
  long_mode();
  poke<uint64_t>(leaf, 0x40'0000 | kPresent | kWritable | uint64_t{kKey} << 59);
  mode_.cr0 = cr0::kProtection | cr0::kPaging | cr0::kWriteProtect;
  mode_.cr4 = cr4::kPae | cr4::kPks;
  set_mode();
  EXPECT_EQ(write_fault(kPage), kNoFault);
  // The rights hold at once, whatever the TLB has.
  mmu_->set_supervisor_keys(kNoWrite);
  EXPECT_EQ(read_fault(kPage), kNoFault);
  EXPECT_EQ(write_fault(kPage), kKeyFault | 2);
  mmu_->set_supervisor_keys(kNoAccess);
  EXPECT_EQ(read_fault(kPage), kKeyFault);
  EXPECT_EQ(fetch_fault(kPage), kNoFault);
  mmu_->set_supervisor_keys(0x3);  // another key's
  EXPECT_EQ(write_fault(kPage), kNoFault);
  mmu_->set_supervisor_keys(kNoWrite);
  mode_.cr0 &= ~cr0::kWriteProtect;
  set_mode();
  EXPECT_EQ(write_fault(kPage), kNoFault) << "CR0.WP is clear";
  mmu_->set_supervisor_keys(kNoAccess);
  mode_.cr4 = cr4::kPae;
  set_mode();
  EXPECT_EQ(write_fault(kPage), kNoFault) << "CR4.PKS is clear";
}

TEST_F(MmuPaging, RightsAreThoseOfAllLevelsTogether) {
  map(0x1000, 0x40'0000, kRwu, 12, kRoot, kPresent | kUserPage);
  map(0x80'0000'1000, 0x40'0000, kRwu, 12, kRoot, kPresent | kWritable);
  map(0x100'0000'1000, 0x40'0000, kRwu, 12, kRoot, kRwu | kNoExecute);
  long_mode(0, efer::kNxe);
  user();
  EXPECT_EQ(read_fault(0x1000), kNoFault);
  EXPECT_EQ(write_fault(0x1000), 7);
  EXPECT_EQ(read_fault(0x80'0000'1000), 5);
  EXPECT_EQ(fetch_fault(0x100'0000'1000), 0x15);
}

TEST_F(MmuPaging, ReservedBitsFaultWithRsvd) {
  const uint64_t leaf = map(0x1000, 0x40'0000, kRw);
  const uint64_t large = map(0x20'0000, 0x20'0000, kRw, 21);
  const uint64_t huge = map(0x4000'0000, 0, kRw, 30);
  long_mode();
  poke<uint64_t>(leaf, peek<uint64_t>(leaf) | kNoExecute);  // reserved while NXE is clear
  EXPECT_EQ(read_fault(0x1000), 9);
  EXPECT_EQ(write_fault(0x1000), 11);
  poke<uint64_t>(leaf, 0x40'0000 | kRw | uint64_t{1} << 40);  // MAXPHYADDR is 40
  EXPECT_EQ(read_fault(0x1000), 9);
  poke<uint64_t>(leaf, 0x40'0000 | kRw | uint64_t{0x7FF} << 52);  // ignored
  EXPECT_EQ(read_fault(0x1000), kNoFault);
  poke<uint64_t>(large, peek<uint64_t>(large) | 1 << 13);
  EXPECT_EQ(read_fault(0x20'0000), 9);
  poke<uint64_t>(huge, peek<uint64_t>(huge) | 1 << 29);
  EXPECT_EQ(read_fault(0x4000'0000), 9);
  poke<uint64_t>(huge, kRw | kLarge);
  EXPECT_EQ(read_fault(0x4000'0000), kNoFault);
  mmu_->configure(40, false);  // without 1 GiB pages the bit is reserved
  EXPECT_EQ(read_fault(0x4000'0000), 9);
  poke<uint64_t>(kRoot, peek<uint64_t>(kRoot) | kLarge);
  EXPECT_EQ(read_fault(0x1000), 9);
}

TEST_F(MmuPaging, PaeReservesTheBitsAboveThePhysicalAddress) {
  const uint64_t leaf = map_pae(0x1000, 0x40'0000, kRw);
  pae_mode();
  EXPECT_EQ(read_fault(0x1000), kNoFault);
  mmu_->flush_all();
  poke<uint64_t>(leaf, 0x40'0000 | kRw | uint64_t{1} << 62);
  EXPECT_EQ(read_fault(0x1000), 9);
}

TEST_F(MmuPaging, PhysicalAddressWidthComesFromConfiguration) {
  const uint64_t leaf = map(0x1000, 0, kRw);
  long_mode();
  mmu_->configure(46, true);
  poke<uint64_t>(leaf, kRw | uint64_t{1} << 45);
  EXPECT_EQ(read_fault(0x1000), kNoFault);
  poke<uint64_t>(leaf, kRw | uint64_t{1} << 46);
  EXPECT_EQ(read_fault(0x1000), 9);
  EXPECT_FALSE(mmu_->load_cr3(uint64_t{1} << 46, false));
  EXPECT_FALSE(mmu_->load_cr3(kRoot | uint64_t{1} << 63, false));
  EXPECT_TRUE(mmu_->load_cr3(kRoot, false));
}

TEST_F(MmuPaging, SetsAccessedOnUseAndDirtyOnWrite) {
  const uint64_t leaf = map(0x1000, 0x40'0000, kRw);
  long_mode();
  const uint64_t upper = peek<uint64_t>(kRoot);
  EXPECT_EQ(upper & kAccessed, 0u);
  mmu_->read<uint8_t>(0x1000);
  EXPECT_EQ(peek<uint64_t>(kRoot), upper | kAccessed);
  EXPECT_EQ(peek<uint64_t>(leaf), 0x40'0000 | kRw | kAccessed);
  mmu_->write<uint8_t>(0x1000, 1);  // the read left no write tag
  EXPECT_EQ(peek<uint64_t>(leaf), 0x40'0000 | kRw | kAccessed | kDirty);
  EXPECT_EQ(peek<uint64_t>(kRoot), upper | kAccessed);
}

TEST_F(MmuPaging, SetsAccessedAndDirtyInLegacyEntries) {
  const uint64_t leaf = map_32(0x1000, 0x40'0000, kRw);
  const uint32_t neighbour = peek<uint32_t>(leaf + 4);
  legacy_mode();
  mmu_->write<uint8_t>(0x1000, 1);
  EXPECT_EQ(peek<uint32_t>(leaf), 0x40'0000 | kRw | kAccessed | kDirty);
  EXPECT_EQ(peek<uint32_t>(leaf + 4), neighbour);
  EXPECT_EQ(peek<uint32_t>(kRoot) & (kAccessed | kDirty), kAccessed);
}

TEST_F(MmuPaging, FaultAndDebugWalkLeaveEntriesAlone) {
  const uint64_t leaf = map(0x1000, 0x40'0000, kPresent);
  long_mode();
  EXPECT_EQ(write_fault(0x1000), 3);
  EXPECT_TRUE(mmu_->translate(0x1000));
  EXPECT_EQ(peek<uint64_t>(leaf), 0x40'0000 | kPresent);
}

TEST_F(MmuPaging, ProbeWriteSetsDirtyButWritesNothing) {
  const uint64_t leaf = map(0x1000, 0x40'0000, kRw);
  long_mode();
  poke<uint8_t>(0x40'0000, 0x55);
  mmu_->probe_write(0x1000, 8);
  EXPECT_NE(peek<uint64_t>(leaf) & kDirty, 0u);
  EXPECT_EQ(peek<uint8_t>(0x40'0000), 0x55);
  EXPECT_EQ(code_of(caught([&] { mmu_->probe_write(0x1FFC, 8); }), 0x2000), 2);
  EXPECT_EQ(code_of(caught([&] { mmu_->probe_read(0x1FFC, 8); }), 0x2000), 0);
}

}  // namespace
}  // namespace limen::soft
