// MOV to control and debug registers, LMSW, SMSW, XSETBV: reserved bits and forbidden transitions.
#include <gtest/gtest.h>

#include "soft/system/guest.h"
#include "x86/registers.h"

namespace limen::soft::testing {
namespace {

using x86::Vector;
namespace cr0 = x86::cr0;
namespace cr4 = x86::cr4;
namespace efer = x86::efer;

/// MOV CRn, RAX: whether it was taken; otherwise it must have been #GP(0).
bool write_control(Guest& guest, uint8_t number, uint64_t value) {
  guest.cpu->rip = Guest::kEntry;
  guest.cpu->gpr[x86::kRax] = value;
  const auto exception = guest.execute({0x0F, 0x22, static_cast<uint8_t>(0xC0 | (number << 3))});
  if (!exception) return true;
  EXPECT_EQ(exception->vector, Vector::kGeneralProtection);
  EXPECT_EQ(exception->error_code, 0u);
  return false;
}

TEST(ControlRegister0, RefusesContradictions) {
  Guest guest;
  EXPECT_FALSE(write_control(guest, 0, cr0::kPaging));
  EXPECT_FALSE(write_control(guest, 0, cr0::kNotWriteThrough));
  EXPECT_TRUE(write_control(guest, 0, cr0::kNotWriteThrough | cr0::kCacheDisable));
  guest.enter_long_mode();
  EXPECT_FALSE(write_control(guest, 0, guest.cpu->system.cr0 | (uint64_t{1} << 32)));
  EXPECT_FALSE(write_control(guest, 0, guest.cpu->system.cr0 & ~cr0::kPaging))
      << "64-bit code cannot turn paging off";
}

TEST(ControlRegister0, ExtensionTypeIsFixed) {
  Guest guest;
  EXPECT_TRUE(write_control(guest, 0, 0));
  EXPECT_EQ(guest.cpu->system.cr0, cr0::kExtensionType);
}

TEST(ControlRegister0, PagingWithLmeEntersLongModeAndNeedsPae) {
  Guest guest;
  guest.enter_protected_mode();
  guest.store(0x10000, 0x11007);
  guest.store(0x11000, 0x12007);
  guest.store(0x12000, 0x87);
  guest.cpu->system.efer = efer::kLme;
  guest.cpu->system.cr3 = 0x10000;
  guest.cpu->update_mode();
  EXPECT_FALSE(write_control(guest, 0, cr0::kPaging | cr0::kProtection));
  EXPECT_TRUE(write_control(guest, 4, cr4::kPae));
  EXPECT_TRUE(write_control(guest, 0, cr0::kPaging | cr0::kProtection));
  EXPECT_TRUE(guest.cpu->long_mode);
  EXPECT_EQ(guest.cpu->mode, decode::CodeMode::k32) << "compatibility mode";
  EXPECT_FALSE(write_control(guest, 4, 0)) << "PAE stays while long mode is active";
}

TEST(ControlRegister3, ReservedBitsAreRefused) {
  Guest guest;
  guest.enter_long_mode();
  EXPECT_FALSE(write_control(guest, 3, uint64_t{1} << 62));
  EXPECT_FALSE(write_control(guest, 3, 0x10000 | (uint64_t{1} << 63)));
  EXPECT_TRUE(write_control(guest, 3, 0x10000));
}

TEST(ControlRegister4, OffersWhatCpuidShows) {
  Guest guest;
  guest.enter_long_mode();
  EXPECT_TRUE(write_control(guest, 4, cr4::kPae | cr4::kUmip | cr4::kOsfxsr));
  EXPECT_FALSE(write_control(guest, 4, cr4::kPae | cr4::kLa57));
  EXPECT_FALSE(write_control(guest, 4, cr4::kPae | (uint64_t{1} << 22)));
  EXPECT_FALSE(write_control(guest, 4, cr4::kPae | (uint64_t{1} << 40)));
}

TEST(ControlRegister4, PcideNeedsLongModeAndPcidZero) {
  Guest guest;
  guest.enter_protected_mode();
  EXPECT_FALSE(write_control(guest, 4, cr4::kPcide));
  guest.enter_long_mode();
  EXPECT_TRUE(write_control(guest, 3, 0x10008));
  EXPECT_FALSE(write_control(guest, 4, cr4::kPae | cr4::kPcide));
  EXPECT_TRUE(write_control(guest, 3, 0x10000));
  EXPECT_TRUE(write_control(guest, 4, cr4::kPae | cr4::kPcide));
  EXPECT_TRUE(write_control(guest, 3, 0x10001 | (uint64_t{1} << 63)));
  EXPECT_EQ(guest.cpu->system.cr3, 0x10001u) << "bit 63 is not kept";
}

TEST(ControlRegister8, IsTheTaskPriority) {
  Guest guest;
  guest.enter_long_mode();
  guest.cpu->gpr[x86::kRax] = 9;
  EXPECT_FALSE(guest.execute({0x44, 0x0F, 0x22, 0xC0}));
  EXPECT_EQ(guest.interrupts.priority, 9);
  guest.cpu->gpr[x86::kRax] = 16;
  EXPECT_TRUE(guest.execute({0x44, 0x0F, 0x22, 0xC0}));
  EXPECT_FALSE(guest.execute({0x44, 0x0F, 0x20, 0xC3}));
  EXPECT_EQ(guest.cpu->gpr[x86::kRbx], 9u);
}

TEST(ControlRegisters, RingThreeMayNotTouchThem) {
  Guest guest;
  guest.enter_long_mode(3);
  EXPECT_FALSE(write_control(guest, 0, guest.cpu->system.cr0));
  EXPECT_TRUE(guest.execute({0x0F, 0x20, 0xC0}));
  EXPECT_TRUE(guest.execute({0x0F, 0x06}));  // CLTS
}

TEST(MachineStatusWord, LoadSetsButNeverClearsProtection) {
  Guest guest;
  guest.cpu->gpr[x86::kRax] = 0xF;
  EXPECT_FALSE(guest.execute({0x0F, 0x01, 0xF0}));  // LMSW AX
  EXPECT_EQ(guest.cpu->system.cr0 & 0xF, 0xFu);
  guest.cpu->gpr[x86::kRax] = 0;
  EXPECT_FALSE(guest.execute({0x0F, 0x01, 0xF0}));
  EXPECT_EQ(guest.cpu->system.cr0 & 0xF, 1u);
}

TEST(MachineStatusWord, StoreObeysUmip) {
  Guest guest;
  guest.enter_long_mode(3);
  EXPECT_FALSE(guest.execute({0x0F, 0x01, 0xE0}));  // SMSW EAX
  EXPECT_EQ(guest.cpu->gpr[x86::kRax], guest.cpu->system.cr0 & 0xFFFFFFFF);
  guest.cpu->system.cr4 |= cr4::kUmip;
  EXPECT_TRUE(guest.execute({0x0F, 0x01, 0xE0}));
  EXPECT_TRUE(guest.execute({0x0F, 0x00, 0xC8})) << "STR";
}

TEST(ExtendedControl, ChecksComponentsAgainstEachOtherAndCpuid) {
  Guest guest;
  guest.enter_long_mode();
  const auto set = [&](uint64_t value) {
    guest.cpu->gpr[x86::kRcx] = 0;
    guest.cpu->gpr[x86::kRax] = value;
    guest.cpu->gpr[x86::kRdx] = 0;
    const auto exception = guest.execute({0x0F, 0x01, 0xD1});
    return exception ? static_cast<int>(exception->vector) : -1;
  };
  EXPECT_EQ(set(1), 6) << "CR4.OSXSAVE is clear";
  guest.cpu->system.cr4 |= cr4::kOsxsave;
  EXPECT_EQ(set(7), -1);
  EXPECT_EQ(guest.cpu->system.xcr0, 7u);
  EXPECT_EQ(set(6), 13) << "x87 is always on";
  EXPECT_EQ(set(5), 13) << "AVX without SSE";
  EXPECT_EQ(set(0x27), 13) << "a part of AVX-512";
  EXPECT_EQ(set(0xE7), -1);
  EXPECT_EQ(set(0x207), 13) << "not in CPUID";
}

TEST(DebugRegisters, FixedBitsAndAliases) {
  Guest guest;
  guest.enter_long_mode();
  const auto write = [&](uint8_t number, uint64_t value) {
    guest.cpu->gpr[x86::kRax] = value;
    const auto exception = guest.execute({0x0F, 0x23, static_cast<uint8_t>(0xC0 | (number << 3))});
    return exception ? static_cast<int>(exception->vector) : -1;
  };
  EXPECT_EQ(write(7, 0), -1);
  EXPECT_EQ(guest.cpu->system.dr[7], 0x400u);
  EXPECT_EQ(write(6, 0), -1);
  EXPECT_EQ(guest.cpu->system.dr[6], 0xFFFF0FF0u);
  EXPECT_EQ(write(6, uint64_t{1} << 32), 13);
  EXPECT_EQ(write(7, uint64_t{1} << 32), 13);
  EXPECT_EQ(write(5, 2), -1);
  EXPECT_EQ(guest.cpu->system.dr[7], 0x402u);
  guest.cpu->system.cr4 |= cr4::kDe;
  EXPECT_EQ(write(5, 0), 6);
  guest.set_cpl(3);
  EXPECT_EQ(write(0, 0), 13);
}

TEST(Registers, MsrAndTscObeyPrivilege) {
  Guest guest;
  guest.enter_long_mode();
  guest.cpu->gpr[x86::kRcx] = x86::msr::kLstar;
  guest.cpu->gpr[x86::kRax] = 0x1000;
  guest.cpu->gpr[x86::kRdx] = 0;
  EXPECT_FALSE(guest.execute({0x0F, 0x30}));
  EXPECT_EQ(guest.cpu->system.lstar, 0x1000u);
  guest.cpu->gpr[x86::kRcx] = 0x12345678;
  EXPECT_TRUE(guest.execute({0x0F, 0x32})) << "no such register";
  guest.set_cpl(3);
  EXPECT_TRUE(guest.execute({0x0F, 0x32}));
  EXPECT_FALSE(guest.execute({0x0F, 0x31}));
  guest.cpu->system.cr4 |= cr4::kTsd;
  EXPECT_TRUE(guest.execute({0x0F, 0x31}));
}

}  // namespace
}  // namespace limen::soft::testing
