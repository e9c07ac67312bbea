// System instructions one by one: flags, system calls, descriptor queries, ports, invalidation.
#include <gtest/gtest.h>

#include "soft/system/guest.h"
#include "x86/registers.h"

namespace limen::soft::testing {
namespace {

using x86::Exception;
using x86::Vector;
namespace rflags = x86::rflags;

int vector_of(const std::optional<Exception>& exception) {
  return exception ? static_cast<int>(exception->vector) : -1;
}

TEST(Flags, PopfChangesWhatPrivilegeAllows) {
  Guest guest;
  guest.enter_long_mode(3);
  guest.cpu->set_rflags(0x202);
  guest.cpu->gpr[x86::kRsp] = 0x7000;
  guest.store(0x7000, 0x3FFFFF & ~uint64_t{0x100});
  ASSERT_FALSE(guest.execute({0x9D}));
  EXPECT_EQ(guest.cpu->rflags() & (rflags::kIopl | rflags::kVirtual8086 | rflags::kResume), 0u);
  EXPECT_EQ(guest.cpu->rflags() & rflags::kInterrupt, rflags::kInterrupt);
  EXPECT_EQ(guest.cpu->rflags() & rflags::kIdentification, rflags::kIdentification);
  EXPECT_EQ(guest.cpu->gpr[x86::kRsp], 0x7008u);
  guest.store(0x7008, 0);
  ASSERT_FALSE(guest.execute({0x9D}));
  EXPECT_EQ(guest.cpu->rflags(), 0x202u) << "IF is not user mode's to clear";
}

TEST(Flags, PopfInRingZeroSetsIoplAndInterrupts) {
  Guest guest;
  guest.enter_long_mode();
  guest.cpu->set_rflags(2);
  guest.cpu->attention.answer();
  guest.cpu->gpr[x86::kRsp] = 0x7000;
  guest.store(0x7000, 0x3202);
  ASSERT_FALSE(guest.execute({0x9D}));
  EXPECT_EQ(guest.cpu->rflags(), 0x3202u);
  EXPECT_TRUE(guest.cpu->attention.is_called()) << "an interrupt may have waited";
}

TEST(Flags, PushfHidesVmAndResume) {
  Guest guest;
  guest.enter_protected_mode();
  guest.cpu->gpr[x86::kRsp] = 0x7000;
  guest.cpu->set_rflags(0x2 | rflags::kResume | rflags::kIdentification);
  ASSERT_FALSE(guest.execute({0x9C}));
  EXPECT_EQ(guest.load(0x6FFC) & 0xFFFFFFFF, 0x200002u);
}

TEST(Flags, StiHoldsInterruptsBackForOneInstruction) {
  Guest guest;
  guest.enter_protected_mode();
  ASSERT_FALSE(guest.execute({0xFB}));
  EXPECT_TRUE(guest.cpu->activity.sti_shadow);
  guest.cpu->activity.sti_shadow = false;
  ASSERT_FALSE(guest.execute({0xFB}));
  EXPECT_FALSE(guest.cpu->activity.sti_shadow) << "IF was set before";
}

TEST(Flags, CliNeedsIoPrivilege) {
  Guest guest;
  guest.enter_protected_mode(3);
  EXPECT_EQ(vector_of(guest.execute({0xFA})), 13);
  guest.cpu->set_rflags(0x3202);
  EXPECT_EQ(vector_of(guest.execute({0xFA})), -1);
  EXPECT_EQ(guest.cpu->rflags(), 0x3002u);
}

TEST(Flags, StacAndClacAreForRingZero) {
  Guest guest;
  guest.enter_long_mode();
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0x01, 0xCB})), -1);
  EXPECT_TRUE(guest.cpu->flag(rflags::kAlignmentCheck));
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0x01, 0xCA})), -1);
  EXPECT_FALSE(guest.cpu->flag(rflags::kAlignmentCheck));
  guest.set_cpl(3);
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0x01, 0xCB})), 6);
}

TEST(SystemCall, OutsideSixtyFourBitModeIsAmdOnly) {
  for (const bool amd : {false, true}) {
    Guest guest(amd ? "AuthenticAMD" : "GenuineIntel");
    guest.enter_long_mode(3);
    guest.cpu->system.segments[x86::kCs].attributes =
        (guest.cpu->system.segments[x86::kCs].attributes & ~x86::Segment::kLong) |
        x86::Segment::kDefaultBig;
    guest.cpu->update_mode();
    guest.cpu->system.star = uint64_t{0x10} << 32;
    guest.cpu->system.cstar = 0x5000;
    EXPECT_EQ(vector_of(guest.execute({0x0F, 0x05})), amd ? -1 : 6);
    if (amd) {
      EXPECT_EQ(guest.cpu->rip, 0x5000u);
      EXPECT_EQ(guest.cpu->mode, decode::CodeMode::k64);
    }
  }
}

TEST(SystemCall, DisabledWithoutSce) {
  Guest guest;
  guest.enter_long_mode(3);
  guest.cpu->system.efer &= ~x86::efer::kSce;
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0x05})), 6);
}

TEST(SystemReturn, NonCanonicalTargetFaultsInRingZeroOnIntel) {
  Guest intel("GenuineIntel");
  intel.enter_long_mode();
  intel.cpu->gpr[x86::kRcx] = uint64_t{1} << 47;
  EXPECT_EQ(vector_of(intel.execute({0x48, 0x0F, 0x07})), 13);
  EXPECT_EQ(intel.cpu->cpl, 0);
  Guest amd("AuthenticAMD");
  amd.enter_long_mode();
  amd.cpu->gpr[x86::kRcx] = uint64_t{1} << 47;
  EXPECT_EQ(vector_of(amd.execute({0x48, 0x0F, 0x07})), -1);
  EXPECT_EQ(amd.cpu->cpl, 3);
}

TEST(SystemReturn, ReturnsToCompatibilityModeWithoutRexW) {
  Guest guest;
  guest.enter_long_mode();
  guest.cpu->system.star = uint64_t{0x20} << 48;
  guest.cpu->gpr[x86::kRcx] = 0x5000;
  guest.cpu->gpr[x86::kR11] = 0x202;
  ASSERT_FALSE(guest.execute({0x0F, 0x07}));
  EXPECT_EQ(guest.cpu->mode, decode::CodeMode::k32);
  EXPECT_EQ(guest.cpu->cpl, 3);
  EXPECT_EQ(guest.cpu->system.segments[x86::kCs].selector, 0x23);
  EXPECT_EQ(guest.cpu->system.segments[x86::kSs].selector, 0x2B);
}

TEST(FastSystemCall, DoesNotExistInLongModeOnAmd) {
  Guest guest("AuthenticAMD");
  guest.enter_long_mode(3);
  guest.cpu->system.sysenter_cs = 0x10;
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0x34})), 6);
}

TEST(Bases, ReadAndWriteNeedTheirControlBit) {
  Guest guest;
  guest.enter_long_mode(3);
  guest.cpu->gpr[x86::kRax] = 0x7FFF12345678;
  EXPECT_EQ(vector_of(guest.execute({0xF3, 0x48, 0x0F, 0xAE, 0xD0})), 6);  // WRFSBASE RAX
  guest.cpu->system.cr4 |= x86::cr4::kFsgsbase;
  EXPECT_EQ(vector_of(guest.execute({0xF3, 0x48, 0x0F, 0xAE, 0xD0})), -1);
  EXPECT_EQ(vector_of(guest.execute({0xF3, 0x48, 0x0F, 0xAE, 0xC3})), -1);  // RDFSBASE RBX
  EXPECT_EQ(guest.cpu->gpr[x86::kRbx], 0x7FFF12345678u);
  guest.cpu->gpr[x86::kRax] = uint64_t{1} << 47;
  EXPECT_EQ(vector_of(guest.execute({0xF3, 0x48, 0x0F, 0xAE, 0xD8})), 13) << "not canonical";
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0x01, 0xF8})), 13) << "SWAPGS in ring 3";
}

class Queries : public ::testing::Test {
 protected:
  Queries() {
    guest.enter_protected_mode(3);
    guest.set_descriptor(0x20, make_descriptor(0xC0F2, 0, 0xFFFFF));  // data, DPL 3
    guest.set_descriptor(0x28, make_descriptor(0xC092, 0, 0xFFFFF));  // data, DPL 0
    guest.set_descriptor(0x30, make_descriptor(0x00F8, 0, 0x1234));   // execute-only, DPL 3
    guest.set_descriptor(0x38, make_descriptor(0x00E9, 0, 0x67));     // TSS, DPL 3
    guest.set_descriptor(0x40, make_gate(8, 0, 0xEC));                // call gate, DPL 3
  }
  /// Runs 0F 02 (LAR) or 0F 03 (LSL) EBX, EAX, or VERR/VERW AX; whether ZF was set.
  bool query(std::initializer_list<uint8_t> bytes, uint16_t selector) {
    guest.cpu->gpr[x86::kRax] = selector;
    guest.cpu->gpr[x86::kRbx] = 0xAAAA;
    EXPECT_FALSE(guest.execute(bytes));
    return guest.cpu->flag(rflags::kZero);
  }
  static constexpr std::initializer_list<uint8_t> kLar = {0x0F, 0x02, 0xD8};
  static constexpr std::initializer_list<uint8_t> kLsl = {0x0F, 0x03, 0xD8};
  static constexpr std::initializer_list<uint8_t> kVerr = {0x0F, 0x00, 0xE0};
  static constexpr std::initializer_list<uint8_t> kVerw = {0x0F, 0x00, 0xE8};
  Guest guest;
};

TEST_F(Queries, AccessRightsAndLimits) {
  EXPECT_TRUE(query(kLar, 0x23));
  EXPECT_EQ(guest.cpu->gpr[x86::kRbx] & 0xF0FF00, 0xC0F200u);
  EXPECT_TRUE(query(kLsl, 0x23));
  EXPECT_EQ(guest.cpu->gpr[x86::kRbx], 0xFFFFFFFFu);
  EXPECT_TRUE(query(kLsl, 0x33));
  EXPECT_EQ(guest.cpu->gpr[x86::kRbx], 0x1234u);
  EXPECT_TRUE(query(kLar, 0x43));
  EXPECT_FALSE(query(kLsl, 0x43)) << "a gate has no limit";
  EXPECT_EQ(guest.cpu->gpr[x86::kRbx], 0xAAAAu);
  EXPECT_TRUE(query(kLsl, 0x3B));
}

TEST_F(Queries, InvisibleSelectorsClearZf) {
  EXPECT_FALSE(query(kLar, 0x2B));
  EXPECT_FALSE(query(kLar, 0));
  EXPECT_FALSE(query(kLar, 0x7FF8 | 7));
  EXPECT_FALSE(query(kLsl, 0x2B));
}

TEST_F(Queries, VerifyReadAndWrite) {
  EXPECT_TRUE(query(kVerr, 0x23));
  EXPECT_TRUE(query(kVerw, 0x23));
  EXPECT_FALSE(query(kVerr, 0x33)) << "execute-only";
  EXPECT_FALSE(query(kVerw, 0x33));
  EXPECT_FALSE(query(kVerr, 0x2B));
  EXPECT_FALSE(query(kVerr, 0x3B)) << "a system segment";
}

TEST_F(Queries, DoNotExistInRealMode) {
  Guest real;
  EXPECT_EQ(vector_of(real.execute({0x0F, 0x02, 0xD8})), 6);
  EXPECT_EQ(vector_of(real.execute({0x0F, 0x00, 0xE0})), 6);
  EXPECT_EQ(vector_of(real.execute({0x0F, 0x00, 0xD8})), 6) << "LTR";
}

TEST_F(Queries, ArplRaisesTheRequestedLevel) {
  guest.cpu->gpr[x86::kRax] = 0x20;
  guest.cpu->gpr[x86::kRbx] = 0x1B;
  ASSERT_FALSE(guest.execute({0x63, 0xD8}));  // ARPL AX, BX
  EXPECT_EQ(guest.cpu->gpr[x86::kRax], 0x23u);
  EXPECT_TRUE(guest.cpu->flag(rflags::kZero));
  ASSERT_FALSE(guest.execute({0x63, 0xD8}));
  EXPECT_FALSE(guest.cpu->flag(rflags::kZero));
}

TEST(TaskRegister, LoadChecksTypePresenceAndMarksBusy) {
  Guest guest;
  guest.enter_long_mode();
  guest.set_descriptor(0x20, make_descriptor(0x89, 0x9000, 0x67), 0xFFFF8000);
  const auto load = [&](uint16_t selector) {
    guest.cpu->gpr[x86::kRax] = selector;
    return guest.execute({0x0F, 0x00, 0xD8});
  };
  ASSERT_FALSE(load(0x20));
  EXPECT_EQ(guest.cpu->system.tr.base, 0xFFFF800000009000u) << "16-byte descriptor";
  EXPECT_EQ(guest.descriptor(0x20) >> 40 & 0xFF, 0x8Bu);
  auto exception = load(0x20);
  ASSERT_TRUE(exception);
  EXPECT_EQ(exception->error_code, 0x20u) << "busy";
  guest.set_descriptor(0x20, make_descriptor(0x09, 0x9000, 0x67));
  EXPECT_EQ(vector_of(load(0x20)), 11);
  EXPECT_EQ(load(0)->error_code, 0u);
  EXPECT_EQ(load(0x24)->error_code, 0x24u);
}

TEST(DescriptorTables, LoadAndStoreInEveryWidth) {
  Guest guest;
  guest.store(0x5000, 0x89ABCDEF'1234);
  guest.cpu->gpr[x86::kRbx] = 0x5000;
  ASSERT_FALSE(guest.execute({0x0F, 0x01, 0x17}));  // LGDT [BX]
  EXPECT_EQ(guest.cpu->system.gdtr.limit, 0x1234);
  EXPECT_EQ(guest.cpu->system.gdtr.base, 0xABCDEFu) << "24 bits with 16-bit operands";
  ASSERT_FALSE(guest.execute({0x66, 0x0F, 0x01, 0x17}));
  EXPECT_EQ(guest.cpu->system.gdtr.base, 0x89ABCDEFu);

  Guest wide;
  wide.enter_long_mode();
  wide.cpu->system.idtr = {.base = 0xFFFF800000001000, .limit = 0xFFF};
  wide.cpu->gpr[x86::kRbx] = 0x5000;
  ASSERT_FALSE(wide.execute({0x0F, 0x01, 0x0B}));  // SIDT [RBX]
  EXPECT_EQ(wide.load(0x5002), 0xFFFF800000001000u);
  wide.store(0x5002, uint64_t{1} << 47);
  EXPECT_EQ(vector_of(wide.execute({0x0F, 0x01, 0x1B})), 13) << "not canonical";
}

TEST(Ports, ReadAndWriteEveryWidth) {
  Guest guest;
  guest.enter_protected_mode();
  guest.cpu->gpr[x86::kRdx] = 0x3F8;
  guest.cpu->gpr[x86::kRax] = 0x11223344;
  ASSERT_FALSE(guest.execute({0xEF}));        // OUT DX, EAX
  ASSERT_FALSE(guest.execute({0x66, 0xEF}));  // OUT DX, AX
  ASSERT_FALSE(guest.execute({0xE6, 0x80}));  // OUT 80H, AL
  ASSERT_EQ(guest.port_log.writes.size(), 3u);
  EXPECT_EQ(guest.port_log.writes[0].value, 0x11223344u);
  EXPECT_EQ(guest.port_log.writes[1].value, 0x3344u);
  EXPECT_EQ(guest.port_log.writes[2].port, 0x80u);
  EXPECT_EQ(guest.port_log.writes[2].value, 0x44u);
  ASSERT_FALSE(guest.execute({0xEC}));  // IN AL, DX
  EXPECT_EQ(guest.cpu->gpr[x86::kRax], 0x1122335Au);
}

TEST(Ports, PermissionMapDecidesPerPort) {
  Guest guest;
  guest.enter_protected_mode(3);
  guest.cpu->system.tr = {.selector = 0x28, .attributes = 0x8B, .limit = 0x80, .base = 0x9000};
  guest.store(0x9066, 0x68);
  guest.store(0x9068, 0xFFFFFFFFFFFF0F0F);  // ports 4-7 and 12-15 are open
  const auto in = [&](uint8_t port, uint8_t opcode = 0xE4) {
    return vector_of(guest.execute({opcode, port}));
  };
  EXPECT_EQ(in(4), -1);
  EXPECT_EQ(in(3), 13);
  EXPECT_EQ(in(4, 0xE5), -1) << "four ports";
  EXPECT_EQ(in(5, 0xE5), 13) << "the last of them is closed";
  EXPECT_EQ(in(0xC0), 13) << "the byte pair ends beyond the limit";
  guest.cpu->set_rflags(0x3002);
  EXPECT_EQ(in(3), -1) << "IOPL 3";
}

TEST(Ports, RepeatedStringsMoveTheIndexAndCount) {
  Guest guest;
  guest.enter_protected_mode();
  guest.cpu->attention.answer();
  guest.cpu->gpr[x86::kRdx] = 0x1F0;
  guest.cpu->gpr[x86::kRcx] = 4;
  guest.cpu->gpr[x86::kRdi] = 0x5000;
  ASSERT_FALSE(guest.execute({0xF3, 0x66, 0x6D}));  // REP INSW
  EXPECT_EQ(guest.cpu->gpr[x86::kRcx], 0u);
  EXPECT_EQ(guest.cpu->gpr[x86::kRdi], 0x5008u);
  EXPECT_EQ(guest.load(0x5000), 0x5A5A5A5A5A5A5A5Au);
  guest.cpu->gpr[x86::kRcx] = 2;
  guest.cpu->gpr[x86::kRsi] = 0x5001;
  guest.cpu->set_rflags(0x402);
  ASSERT_FALSE(guest.execute({0xF3, 0x6E}));  // REP OUTSB, backwards
  EXPECT_EQ(guest.cpu->gpr[x86::kRsi], 0x4FFFu);
  EXPECT_EQ(guest.port_log.writes.size(), 2u);
}

TEST(Ports, RepeatedStringYieldsToAttentionAndResumes) {
  Guest guest;
  guest.enter_protected_mode();
  guest.cpu->gpr[x86::kRcx] = 3;
  guest.cpu->gpr[x86::kRdi] = 0x5000;
  const uint64_t start = guest.cpu->rip;
  guest.cpu->attention.call();
  ASSERT_FALSE(guest.execute({0xF3, 0x6C}));  // REP INSB
  EXPECT_EQ(guest.cpu->rip, start);
  EXPECT_EQ(guest.cpu->gpr[x86::kRcx], 2u);
  guest.cpu->attention.answer();
  ASSERT_FALSE(guest.step());
  EXPECT_EQ(guest.cpu->gpr[x86::kRcx], 0u);
  EXPECT_EQ(guest.cpu->rip, start + 2);
}

TEST(Bound, RaisesBoundRangeOutsideSignedLimits) {
  Guest guest;
  guest.enter_protected_mode();
  guest.store(0x5000, 0x00000010'FFFFFFF0);  // -16 to 16
  guest.cpu->gpr[x86::kRbx] = 0x5000;
  guest.cpu->gpr[x86::kRax] = 16;
  EXPECT_EQ(vector_of(guest.execute({0x62, 0x03})), -1);
  guest.cpu->gpr[x86::kRax] = 0xFFFFFFF0;
  EXPECT_EQ(vector_of(guest.execute({0x62, 0x03})), -1);
  guest.cpu->gpr[x86::kRax] = 17;
  EXPECT_EQ(vector_of(guest.execute({0x62, 0x03})), 5);
}

TEST(Hidden, VirtualizationAndMonitorInstructionsAreUndefined) {
  Guest guest;
  guest.enter_long_mode();
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0x01, 0xC1})), 6) << "VMCALL";
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0x01, 0xD9})), 6) << "VMMCALL";
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0x01, 0xC8})), 6) << "MONITOR";
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0xAA})), 6) << "RSM";
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0x0B})), 6) << "UD2";
  EXPECT_EQ(vector_of(guest.execute({0x0F, 0x33})), 13) << "RDPMC";
}

TEST(Invalidation, InvlpgDropsAStaleTranslation) {
  Guest guest;
  guest.enter_long_mode();
  guest.store(0x12000 + 8, 0x13007);  // 2 MiB to 4 MiB by 4 KiB pages
  guest.store(0x13000, 0x5007);
  guest.store(0x5000, 1);
  guest.store(0x6000, 2);
  guest.cpu->mmu.flush_all();
  guest.cpu->gpr[x86::kRbx] = 0x200000;
  ASSERT_FALSE(guest.execute({0x48, 0x8B, 0x03}));
  EXPECT_EQ(guest.cpu->gpr[x86::kRax], 1u);
  guest.store(0x13000, 0x6007);
  ASSERT_FALSE(guest.execute({0x0F, 0x01, 0x3B}));  // INVLPG [RBX]
  ASSERT_FALSE(guest.execute({0x48, 0x8B, 0x03}));
  EXPECT_EQ(guest.cpu->gpr[x86::kRax], 2u);
}

TEST(Invalidation, InvpcidChecksItsDescriptor) {
  Guest guest;
  guest.enter_long_mode();
  guest.cpu->gpr[x86::kRbx] = 0x5000;
  const auto invpcid = [&](uint64_t type) {
    guest.cpu->gpr[x86::kRax] = type;
    return vector_of(guest.execute({0x66, 0x0F, 0x38, 0x82, 0x03}));
  };
  guest.store(0x5000, 0);
  EXPECT_EQ(invpcid(2), -1);
  EXPECT_EQ(invpcid(4), 13) << "no such type";
  guest.store(0x5000, 0x1000);
  EXPECT_EQ(invpcid(1), 13) << "reserved bits";
  guest.set_cpl(3);
  EXPECT_EQ(invpcid(2), 13);
}

}  // namespace
}  // namespace limen::soft::testing
