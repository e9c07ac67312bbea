// x87 and MMX instructions, their exceptions and what they leave in memory.
#include "soft/native/bench.h"

namespace limen::soft::interpret::native {
namespace {

using x86::Vector;
using Code = Xbyak::CodeGenerator;

TEST(NativeX87, LoadsAddsAndStores) {
  Bench bench;
  bench.store<double>(Bench::kData, 1.5);
  bench.store<float>(Bench::kData + 8, 2.25f);
  bench.cpu->gpr[x86::kRbp] = Bench::kData;
  EXPECT_FALSE(bench.run([](Code& c) { c.fld(c.qword[c.rbp]); }));
  EXPECT_FALSE(bench.run([](Code& c) { c.fadd(c.dword[c.rbp + 8]); }));
  EXPECT_FALSE(bench.run([](Code& c) { c.fstp(c.qword[c.rbp + 16]); }));
  EXPECT_EQ(bench.load<double>(Bench::kData + 16), 3.75);
  EXPECT_EQ(bench.image<uint8_t>(4), 0);  // empty again
}

TEST(NativeX87, LeavesTheHostsX87StateAlone) {
  Bench bench;
  bench.set_image<uint16_t>(0, 0x0C7F);  // toward zero, single precision
  EXPECT_FALSE(bench.run([](Code& c) { c.fldpi(); }));
  uint16_t control = 0, status = 0;
  asm volatile("fnstcw %0" : "=m"(control));
  asm volatile("fnstsw %0" : "=m"(status));
  EXPECT_EQ(control, 0x37F);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(bench.image<uint16_t>(0), 0x0C7F);
}

TEST(NativeX87, UnmaskedDivisionByZeroIsRaisedByTheNextWaitingInstruction) {
  Bench bench;
  bench.set_image<uint16_t>(0, 0x37F & ~4);  // ZM clear
  EXPECT_FALSE(bench.run([](Code& c) { c.fld1(); }));
  EXPECT_FALSE(bench.run([](Code& c) { c.fldz(); }));
  bench.cpu->rip = 0x5000;
  EXPECT_FALSE(bench.run([](Code& c) { c.fdivp(c.st1, c.st0); }));
  EXPECT_EQ(bench.image<uint16_t>(2) & 0x84, 0x84);  // ES, ZE
  bench.cpu->rip = 0x6000;
  const auto fld = bench.run([](Code& c) { c.fld1(); });
  ASSERT_TRUE(fld);
  EXPECT_EQ(fld->vector, Vector::kX87FloatingPoint);
  const auto wait = bench.run({0x9B});
  ASSERT_TRUE(wait);
  EXPECT_EQ(wait->vector, Vector::kX87FloatingPoint);
  // FNSTSW does not wait.
  EXPECT_FALSE(bench.run([](Code& c) { c.fnstsw(c.ax); }));
  EXPECT_EQ(bench.cpu->gpr[x86::kRax] & 0x84, 0x84u);
  EXPECT_EQ(bench.image<uint64_t>(8), 0x5000u);  // FIP: the division
  EXPECT_FALSE(bench.run({0xDB, 0xE2}));         // fnclex
  EXPECT_FALSE(bench.run({0x9B}));
}

TEST(NativeX87, PointersShowGuestAddresses) {
  Bench bench;
  bench.cpu->gpr[x86::kRbx] = Bench::kData;
  bench.cpu->rip = 0x7777;
  EXPECT_FALSE(bench.run([](Code& c) { c.fld(c.dword[c.rbx + 4]); }));
  EXPECT_EQ(bench.image<uint64_t>(8), 0x7777u);
  const auto data = bench.image<uint64_t>(16);
  // Processors that note the operand's address only with an exception leave 0.
  EXPECT_TRUE(data == Bench::kData + 4 || data == 0) << data;
  bench.cpu->rip = 0x8888;
  EXPECT_FALSE(bench.run({0xD9, 0x6B, 0x08}));  // fldcw [rbx + 8]: a control instruction
  EXPECT_EQ(bench.image<uint64_t>(8), 0x7777u);
}

TEST(NativeX87, TaskSwitchedRaisesDeviceNotAvailable) {
  Bench bench;
  bench.cpu->system.cr0 |= x86::cr0::kTaskSwitched;
  ASSERT_TRUE(bench.run([](Code& c) { c.fldz(); }));
  EXPECT_EQ(bench.run([](Code& c) { c.fldz(); })->vector, Vector::kDeviceNotAvailable);
  EXPECT_EQ(bench.run({0x9B})->vector, Vector::kDeviceNotAvailable);
  bench.cpu->system.cr0 &= ~x86::cr0::kMonitorCoprocessor;
  EXPECT_FALSE(bench.run({0x9B}));
}

TEST(NativeX87, EnvironmentAgreesWithTheProcessors) {
  // The same steps here and on the host, then the two memory images.
  alignas(16) uint8_t expected[108] = {};
  asm volatile(
      "fninit\n fldpi\n fldz\n fld1\n fchs\n fldz\n fldz\n fdivrp %%st, %%st(1)\n"
      "fnsave %0\n fninit"
      : "=m"(expected)::"st", "st(1)", "st(2)", "st(3)", "st(4)");
  Bench bench;
  bench.cpu->gpr[x86::kRdi] = Bench::kData;
  for (const auto& bytes : std::vector<std::vector<uint8_t>>{{0xDB, 0xE3},
                                                             {0xD9, 0xEB},
                                                             {0xD9, 0xEE},
                                                             {0xD9, 0xE8},
                                                             {0xD9, 0xE0},
                                                             {0xD9, 0xEE},
                                                             {0xD9, 0xEE},
                                                             {0xDE, 0xF9},
                                                             {0xDD, 0x37}})
    EXPECT_FALSE(bench.run(bytes));
  const auto compare = [&](unsigned from, unsigned size) {
    EXPECT_EQ(std::memcmp(bench.at(Bench::kData + from), expected + from, size), 0) << from;
  };
  compare(0, 12);   // control, status and tag words with their reserved halves
  compare(18, 6);   // opcode, data pointer; not the selectors, which some processors keep
  compare(28, 80);  // registers
  EXPECT_EQ(bench.load<uint32_t>(Bench::kData + 12), Bench::kCode);
  EXPECT_EQ(bench.image<uint16_t>(0), 0x37F);  // FNSAVE initialises
  EXPECT_EQ(bench.image<uint8_t>(4), 0);
}

TEST(NativeX87, RestoresWhatItSaved) {
  Bench bench;
  bench.cpu->gpr[x86::kRdi] = Bench::kData;
  EXPECT_FALSE(bench.run([](Code& c) { c.fldpi(); }));
  EXPECT_FALSE(bench.run([](Code& c) { c.fld1(); }));
  const auto before = bench.cpu->vector.fxsave;
  EXPECT_FALSE(bench.run({0xDD, 0x37}));  // fnsave [rdi]
  EXPECT_NE(bench.cpu->vector.fxsave, before);
  EXPECT_FALSE(bench.run({0xDD, 0x27}));  // frstor [rdi]
  EXPECT_EQ(bench.cpu->vector.fxsave, before);
}

TEST(NativeMmx, WritesItsRegisterAndMarksTheStackFull) {
  Bench bench;
  bench.cpu->gpr[x86::kRcx] = 0x1122334455667788;
  EXPECT_FALSE(bench.run([](Code& c) { c.movq(c.mm3, c.rcx); }));
  EXPECT_FALSE(bench.run([](Code& c) { c.paddb(c.mm3, c.mm3); }));
  EXPECT_EQ(bench.image<uint64_t>(32 + 16 * 3), 0x22446688AACCEE10u);
  EXPECT_EQ(bench.image<uint16_t>(32 + 16 * 3 + 8), 0xFFFF);
  EXPECT_EQ(bench.image<uint8_t>(4), 0xFF);
  EXPECT_FALSE(bench.run([](Code& c) { c.emms(); }));
  EXPECT_EQ(bench.image<uint8_t>(4), 0);
}

TEST(NativeMmx, EmulationRaisesInvalidOpcode) {
  Bench bench;
  bench.cpu->system.cr0 |= x86::cr0::kEmulation;
  const auto raised = bench.run([](Code& c) { c.pxor(c.mm0, c.mm1); });
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kInvalidOpcode);
}

TEST(NativeMmx, MaskedByteStoreWritesSelectedBytes) {
  Bench bench;
  bench.cpu->gpr[x86::kRdi] = Bench::kUnmapped - 8;
  bench.fill_vector(1, 1);
  bench.set_lane<uint64_t>(2, 0, 0x8000000000000080);
  EXPECT_FALSE(bench.run({0x66, 0x0F, 0xF7, 0xCA}));  // maskmovdqu xmm1, xmm2
  EXPECT_EQ(bench.load<uint64_t>(Bench::kUnmapped - 8), 0x0800000000000001u);
  bench.set_lane<uint64_t>(2, 1, 0x80);
  ASSERT_TRUE(bench.run({0x66, 0x0F, 0xF7, 0xCA}));
}

}  // namespace
}  // namespace limen::soft::interpret::native
