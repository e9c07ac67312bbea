#include "soft/interpret/system/msr.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <optional>

#include "soft/interpret/system/cpuid.h"
#include "soft/supported_cpuid.h"
#include "x86/cpu_features.h"

namespace limen::soft::interpret {
namespace {

using namespace x86;  // NOLINT(google-build-using-namespace)

/// Keeps whatever is written to the registers of the local APIC.
class FakeInterruptController : public vcpu::LocalInterruptController {
 public:
  bool has_interrupt() override { return false; }
  std::optional<uint8_t> acknowledge() override { return std::nullopt; }
  EventRequest take_event() override { return {}; }
  uint8_t task_priority() override { return 0; }
  void set_task_priority(uint8_t) override {}
  bool read_msr(uint32_t index, uint64_t& value) override {
    if (!registers.contains(index)) return false;
    value = registers[index];
    return true;
  }
  bool write_msr(uint32_t index, uint64_t value) override {
    registers[index] = value;
    return true;
  }
  uint64_t next_timer_tsc() override { return ~uint64_t{0}; }
  void timer_due(uint64_t) override {}

  std::map<uint32_t, uint64_t> registers{{msr::kApicBase, 0xFEE0'0900}};
};

class Msr : public ::testing::Test {
 protected:
  Msr() { use("host"); }

  void use(std::string_view model) {
    cpu_.reset();
    table_ = *cpu_model(model, supported());
    const std::array<memory::GuestMemory::Layout, 1> layout{{{.start = {0}, .size = 1 << 20}}};
    ram_ = std::move(*memory::GuestMemory::create(layout));
    cpu_ = std::make_unique<Cpu>(*ram_, ports_, mmio_, table_, interrupts_);
  }
  // An Intel processor whatever the host is, so that the tests do not depend on it.
  static CpuidTable supported() {
    CpuidTable host;
    host.set(0, 0, false, {0x16, 0x756E'6547, 0x6C65'746E, 0x4965'6E69});
    host.set(1, 0, false, {0x000C'06F2, 0x0800, 0x1C18'3203, 0x0F8B'FBFF});
    host.set(7, 0, true, {1, 0x0001'0020, 0, 0});
    host.set(0xD, 0, true, {0xE7, 2688, 2688, 0});
    host.set(0xD, 1, true, {0xF, 0, 0, 0});
    host.set(0xD, 2, true, {256, 576, 0, 0});
    host.set(0xD, 5, true, {64, 1088, 0, 0});
    host.set(0xD, 6, true, {512, 1152, 2, 0});
    host.set(0xD, 7, true, {1024, 1664, 2, 0});
    host.set(0x8000'0000, 0, false, {.eax = 0x8000'0008});
    host.set(0x8000'0001, 0, false, {0, 0, 1, 0x2C10'0800});
    host.set(0x8000'0008, 0, false, {.eax = 0x302E});
    return soft::supported_cpuid(host, 2'000'000'000);
  }

  std::optional<uint64_t> read(uint32_t index) {
    uint64_t value = 0;
    if (!read_msr(*cpu_, index, value)) return std::nullopt;
    return value;
  }
  bool write(uint32_t index, uint64_t value) { return write_msr(*cpu_, index, value); }
  /// Writes and expects to read the same.
  void expect_kept(uint32_t index, uint64_t value) {
    EXPECT_TRUE(write(index, value)) << std::hex << index;
    EXPECT_EQ(read(index), value) << std::hex << index;
  }

  std::unique_ptr<memory::GuestMemory> ram_;
  memory::IoSpace ports_{"ports"};
  memory::IoSpace mmio_{"mmio"};
  FakeInterruptController interrupts_;
  CpuidTable table_;
  std::unique_ptr<Cpu> cpu_;
};

TEST_F(Msr, KeepsTheSystemCallRegisters) {
  expect_kept(msr::kStar, 0x0023'0010'0000'0000);
  expect_kept(msr::kLstar, 0xFFFF'FFFF'8100'0000);
  expect_kept(msr::kCstar, 0xFFFF'FFFF'8100'1000);
  expect_kept(msr::kFmask, 0x4'7700);
  expect_kept(msr::kSysenterCs, 0x10);
  expect_kept(msr::kSysenterEsp, 0xFFFF'8000'0000'0000);
  expect_kept(msr::kSysenterEip, 0x7FFF'FFFF'FFFF);
  expect_kept(msr::kTscAux, 5);
  EXPECT_EQ(cpu_->system.lstar, 0xFFFF'FFFF'8100'0000);
}

TEST_F(Msr, BaseRegistersAreTheHiddenPartsOfTheSegments) {
  expect_kept(msr::kFsBase, 0x7FFF'0000'1000);
  expect_kept(msr::kGsBase, 0xFFFF'8880'0000'0000);
  expect_kept(msr::kKernelGsBase, 0x1234);
  EXPECT_EQ(cpu_->system.segments[kFs].base, 0x7FFF'0000'1000u);
  EXPECT_EQ(cpu_->system.segments[kGs].base, 0xFFFF'8880'0000'0000u);
}

TEST_F(Msr, AddressesMustBeCanonical) {
  for (const uint32_t index : {msr::kLstar, msr::kCstar, msr::kSysenterEsp, msr::kSysenterEip,
                               msr::kFsBase, msr::kGsBase, msr::kKernelGsBase}) {
    EXPECT_FALSE(write(index, 0x8000'0000'0000)) << std::hex << index;
    EXPECT_EQ(read(index), 0u) << std::hex << index;
  }
}

TEST_F(Msr, EferRefusesReservedBitsAndLmeUnderPaging) {
  EXPECT_TRUE(write(msr::kEfer, efer::kSce | efer::kLme | efer::kNxe));
  EXPECT_EQ(read(msr::kEfer), efer::kSce | efer::kLme | efer::kNxe);
  for (const unsigned bit : {1u, 9u, 12u, 14u, 21u, 63u})
    EXPECT_FALSE(write(msr::kEfer, uint64_t{1} << bit)) << bit;
  cpu_->system.cr0 |= cr0::kPaging | cr0::kProtection;
  EXPECT_FALSE(write(msr::kEfer, efer::kSce | efer::kNxe));
  EXPECT_TRUE(write(msr::kEfer, efer::kLme));
}

TEST_F(Msr, LongModeActiveCannotBeWritten) {
  EXPECT_TRUE(write(msr::kEfer, efer::kLma | efer::kSce));
  EXPECT_EQ(read(msr::kEfer), efer::kSce);
  cpu_->system.efer = efer::kLme | efer::kLma;
  EXPECT_TRUE(write(msr::kEfer, efer::kLme));
  EXPECT_EQ(read(msr::kEfer), efer::kLme | efer::kLma);
}

TEST_F(Msr, FeaturesThatTheModelLacksHaveNoRegisters) {
  use("host,-nx,-rdtscp,-rdpid,-tsc-adjust,-mtrr,-arch-capabilities,-spec-ctrl,-stibp,-ssbd,-"
      "xsaves,"
      "-tsc-deadline");
  EXPECT_FALSE(write(msr::kEfer, efer::kNxe));
  for (const uint32_t index :
       {msr::kTscAux, msr::kTscAdjust, msr::kMtrrCap, msr::kMtrrDefType, msr::kMtrrPhysBase0,
        msr::kArchCapabilities, msr::kSpecCtrl, msr::kXss, msr::kTscDeadline}) {
    EXPECT_FALSE(read(index)) << std::hex << index;
    EXPECT_FALSE(write(index, 0)) << std::hex << index;
  }
  EXPECT_FALSE(write(msr::kPredCmd, 1));
}

TEST_F(Msr, PatTakesMemoryTypesOnly) {
  EXPECT_EQ(read(msr::kPat), 0x0007'0406'0007'0406u);
  expect_kept(msr::kPat, 0x0407'0500'0107'0600);
  EXPECT_FALSE(write(msr::kPat, 0x0200'0000'0000'0000));
  EXPECT_FALSE(write(msr::kPat, 0x0000'0000'0000'0003));
  EXPECT_FALSE(write(msr::kPat, 0x0000'0000'0000'0806));
  EXPECT_EQ(read(msr::kPat), 0x0407'0500'0107'0600u);
}

TEST_F(Msr, MtrrsAreKeptAndChecked) {
  EXPECT_EQ(read(msr::kMtrrCap), 0x508u);
  expect_kept(0x200, 0xC000'0006);
  expect_kept(0x201, 0xFF'C000'0800);
  expect_kept(0x20E, 0x1000);
  expect_kept(0x20F, 0);
  expect_kept(msr::kMtrrFix64k, 0x0606'0606'0606'0606);
  expect_kept(0x258, 0x0606'0606'0606'0606);
  expect_kept(0x259, 0);
  expect_kept(0x268, 0x0505'0505'0505'0505);
  expect_kept(0x26F, 0x0404'0404'0404'0404);
  expect_kept(msr::kMtrrDefType, 0xC06);
  EXPECT_EQ(read(0x258), 0x0606'0606'0606'0606u);  // each has its own place
  EXPECT_FALSE(write(0x200, 0x2));                 // no such type
  EXPECT_FALSE(write(0x200, 0x106));
  EXPECT_FALSE(write(0x200, uint64_t{1} << 40));  // MAXPHYADDR is 40
  EXPECT_FALSE(write(0x201, 0x1));
  EXPECT_FALSE(write(0x26F, 0x03));
  EXPECT_FALSE(write(msr::kMtrrDefType, 0x1006));
  EXPECT_FALSE(write(msr::kMtrrDefType, 0x3));
  EXPECT_FALSE(write(msr::kMtrrCap, 0x508));
  EXPECT_FALSE(read(0x210));
}

TEST_F(Msr, TscWriteMovesTheCounterAndShowsInAdjust) {
  EXPECT_TRUE(write(msr::kTimeStampCounter, 1000));
  const uint64_t now = *read(msr::kTimeStampCounter);
  EXPECT_GE(now, 1000u);
  EXPECT_LT(now, 10'000'000'000u);
  EXPECT_EQ(cpu_->system.tsc_offset, *read(msr::kTscAdjust));
  // Writing IA32_TSC_ADJUST moves the counter by the difference.
  const uint64_t adjust = *read(msr::kTscAdjust);
  EXPECT_TRUE(write(msr::kTscAdjust, adjust + (uint64_t{1} << 50)));
  EXPECT_GE(*read(msr::kTimeStampCounter), uint64_t{1} << 50);
  EXPECT_EQ(cpu_->system.tsc_offset, adjust + (uint64_t{1} << 50));
}

TEST_F(Msr, LocalApicRegistersGoToTheController) {
  EXPECT_EQ(read(msr::kApicBase), 0xFEE0'0900u);
  EXPECT_TRUE(write(msr::kTscDeadline, 77));
  EXPECT_TRUE(write(0x80B, 0));
  EXPECT_EQ(interrupts_.registers[msr::kTscDeadline], 77u);
  EXPECT_TRUE(interrupts_.registers.contains(0x80B));
  EXPECT_FALSE(read(0x8FF));
}

TEST_F(Msr, ArchCapabilitiesKeepMitigationsOff) {
  const uint64_t value = *read(msr::kArchCapabilities);
  for (const unsigned bit : {0u, 1u, 3u, 5u, 6u, 8u, 13u, 14u, 15u, 20u, 26u, 27u})
    EXPECT_NE(value >> bit & 1, 0u) << bit;
  EXPECT_EQ(value & (1u << 2 | 1u << 7 | 1u << 19), 0u);  // RSBA, TSX_CTRL, RRSBA
  EXPECT_FALSE(write(msr::kArchCapabilities, value));
}

TEST_F(Msr, SpeculationControlsAreAcceptedAndPredictionCommandsAreWriteOnly) {
  expect_kept(msr::kSpecCtrl, 7);
  EXPECT_FALSE(write(msr::kSpecCtrl, 8));
  EXPECT_TRUE(write(msr::kPredCmd, 1));
  EXPECT_FALSE(write(msr::kPredCmd, 2));
  EXPECT_FALSE(read(msr::kPredCmd));
  EXPECT_FALSE(write(msr::kFlushCmd, 1));  // not enumerated
}

TEST_F(Msr, XssTakesNoBits) {
  expect_kept(msr::kXss, 0);
  EXPECT_FALSE(write(msr::kXss, 0x100));
}

TEST_F(Msr, ReadOnlyFactsOfAnIntelProcessor) {
  EXPECT_EQ(read(msr::kFeatureControl), 1u);
  EXPECT_FALSE(write(msr::kFeatureControl, 5));
  EXPECT_EQ(*read(msr::kBiosSignature) & 0xFFFF'FFFF, 0u);
  EXPECT_TRUE(write(msr::kBiosSignature, 0));
  EXPECT_NE(*read(msr::kPlatformInfo), 0u);
  EXPECT_EQ(read(msr::kMcgCap), 0u);
  EXPECT_TRUE(write(msr::kMiscEnable, *read(msr::kMiscEnable)));
  EXPECT_FALSE(read(msr::kSyscfg));
  EXPECT_FALSE(read(msr::kHwcr));
}

TEST_F(Msr, AmdRegistersExistOnAnAmdModelOnly) {
  use("qemu64");
  constexpr uint64_t kTscFrequencySelect = 1 << 24;  // without it Linux complains
  for (const uint32_t index : {msr::kSyscfg, msr::kHwcr, msr::kDeCfg}) {
    EXPECT_EQ(read(index), index == msr::kHwcr ? kTscFrequencySelect : 0) << std::hex << index;
    EXPECT_TRUE(write(index, 2)) << std::hex << index;
  }
  EXPECT_FALSE(read(msr::kMiscEnable));
  EXPECT_FALSE(read(msr::kPlatformInfo));
}

TEST_F(Msr, AmdPerformanceCountersNeedNoCpuidBit) {
  for (uint32_t index = 0xC001'0000; index < 0xC001'0008; ++index) {
    EXPECT_FALSE(read(index)) << std::hex << index;
    use("qemu64");
    EXPECT_TRUE(write(index, 0x43'0076)) << std::hex << index;
    EXPECT_EQ(read(index), 0u) << std::hex << index;
    use("host");
  }
}

TEST_F(Msr, MiscEnableLimitsCpuidAndHidesXd) {
  constexpr uint32_t kNx = 1u << 20;
  const uint64_t before = *read(msr::kMiscEnable);
  ASSERT_GT(cpuid_answer(*cpu_, 0, 0).eax, 3u);
  ASSERT_NE(cpuid_answer(*cpu_, 0x8000'0001, 0).edx & kNx, 0u);
  expect_kept(msr::kMiscEnable, before | 1u << 22 | uint64_t{1} << 34);
  EXPECT_EQ(cpuid_answer(*cpu_, 0, 0).eax, 3u);
  EXPECT_EQ(cpuid_answer(*cpu_, 0x8000'0001, 0).edx & kNx, 0u);
  EXPECT_FALSE(write(msr::kEfer, efer::kNxe));
  expect_kept(msr::kMiscEnable, before);
  EXPECT_TRUE(write(msr::kEfer, efer::kNxe));
}

TEST_F(Msr, SupervisorKeysHave32Bits) {
  expect_kept(msr::kPkrs, 0xFFFF'FFFF);
  EXPECT_FALSE(write(msr::kPkrs, uint64_t{1} << 32));
  use("max,-pks");
  EXPECT_FALSE(read(msr::kPkrs));
  EXPECT_FALSE(write(msr::kPkrs, 0));
}

TEST_F(Msr, UnknownRegistersFault) {
  use("host,kvm=off");
  for (const uint32_t index :
       {0xC1u, 0x186u, 0x38Fu, 0x606u, 0x4000'0000u, 0x11u, 0x12u, 0x4B56'4D00u, 0x4B56'4D01u,
        0x4B56'4D03u, 0x4B56'4D04u, 0xC000'0105u, 0xFFFF'FFFFu, 0x9u}) {
    EXPECT_FALSE(read(index)) << std::hex << index;
    EXPECT_FALSE(write(index, 0)) << std::hex << index;
  }
}

TEST_F(Msr, CpuidFollowsTheState) {
  EXPECT_EQ(cpuid_answer(*cpu_, 1, 0).ecx & 1u << 27, 0u);
  cpu_->system.cr4 |= cr4::kOsxsave;
  EXPECT_NE(cpuid_answer(*cpu_, 1, 0).ecx & 1u << 27, 0u);
  EXPECT_NE(cpuid_answer(*cpu_, 1, 0).edx & 1u << 9, 0u);
  interrupts_.registers[msr::kApicBase] = 0xFEE0'0100;
  EXPECT_EQ(cpuid_answer(*cpu_, 1, 0).edx & 1u << 9, 0u);
}

TEST_F(Msr, CpuidSizesFollowXcr0) {
  EXPECT_EQ(cpuid_answer(*cpu_, 0xD, 0).ebx, 576u);
  EXPECT_EQ(cpuid_answer(*cpu_, 0xD, 0).ecx, 2688u);
  cpu_->system.xcr0 = 7;
  EXPECT_EQ(cpuid_answer(*cpu_, 0xD, 0).ebx, 832u);
  EXPECT_EQ(cpuid_answer(*cpu_, 0xD, 1).ebx, 832u);
  cpu_->system.xcr0 = 0xE7;
  EXPECT_EQ(cpuid_answer(*cpu_, 0xD, 0).ebx, 2688u);
  // Compacted: 576 + 256 + 64, then ZMM_Hi256 and Hi16_ZMM aligned to 64.
  EXPECT_EQ(cpuid_answer(*cpu_, 0xD, 1).ebx, 576u + 256 + 64 + 512 + 1024);
}

}  // namespace
}  // namespace limen::soft::interpret
