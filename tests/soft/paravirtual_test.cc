#include "soft/paravirtual.h"

#include <gtest/gtest.h>
#include <time.h>

#include <cmath>
#include <cstring>

#include "base/host_tsc.h"
#include "soft/interpret/delivery.h"
#include "soft/interpret/system/msr.h"
#include "soft/system/guest.h"

namespace limen::soft::testing {
namespace {

namespace kvm = x86::kvm;
using kvm::SystemTime;

constexpr uint64_t kPage = 0x20000;
constexpr uint64_t kBeyondRam = 4 << 20;

class ParavirtualTest : public ::testing::Test {
 protected:
  ParavirtualTest() {
    show(kvm::kClockSource | kvm::kClockSource2 | kvm::kStealTimeFeature | kvm::kClockSourceStable);
    guest_.cpu->paravirtual = Paravirtual([this] { return waited_; });
  }
  void show(uint32_t features) { guest_.cpuid.set(kvm::kFeatureLeaf, 0, false, {.eax = features}); }
  bool write(uint32_t index, uint64_t value) { return interpret::write_msr(cpu(), index, value); }
  std::optional<uint64_t> read(uint32_t index) {
    uint64_t value = 0;
    if (!interpret::read_msr(cpu(), index, value)) return std::nullopt;
    return value;
  }
  Cpu& cpu() { return *guest_.cpu; }
  template <typename T>
  T load(uint64_t address = kPage) {
    T value;
    std::memcpy(&value, guest_.ram->span({address}, sizeof value).data(), sizeof value);
    return value;
  }
  /// Nanoseconds by the structure, as a guest computes them.
  static uint64_t time_at(const SystemTime& clock, uint64_t guest_tsc) {
    uint64_t delta = guest_tsc - clock.tsc_timestamp;
    delta = clock.tsc_shift < 0 ? delta >> -clock.tsc_shift : delta << clock.tsc_shift;
    return clock.system_time +
           static_cast<uint64_t>(static_cast<unsigned __int128>(delta) * clock.tsc_to_system_mul >>
                                 32);
  }
  void look_up_later() { cpu().paravirtual.looked_up(cpu(), UINT64_MAX - 1); }

  Guest guest_;
  uint64_t waited_ = 1'000'000;
};

TEST_F(ParavirtualTest, SystemTimeRunsAsTheHostsClock) {
  ASSERT_TRUE(write(kvm::msr::kSystemTime, kPage | 1));
  EXPECT_EQ(read(kvm::msr::kSystemTime), kPage | 1);
  EXPECT_EQ(read(kvm::msr::kOldSystemTime), kPage | 1) << "one register, two numbers";
  const auto clock = load<SystemTime>();
  EXPECT_EQ(clock.version % 2, 0u);
  EXPECT_EQ(clock.flags, SystemTime::kTscStable);
  const uint64_t start = cpu().guest_tsc();
  const uint64_t second = host_tsc_hz();
  const auto passed =
      static_cast<double>(time_at(clock, start + 10 * second) - time_at(clock, start));
  EXPECT_NEAR(passed, 10e9, 100);
}

TEST_F(ParavirtualTest, SystemTimeGoesOnWhenTheGuestWritesItsTsc) {
  ASSERT_TRUE(write(kvm::msr::kSystemTime, kPage | 1));
  const uint64_t before = time_at(load<SystemTime>(), cpu().guest_tsc());
  ASSERT_TRUE(write(0x10, 12345));
  const uint64_t after = time_at(load<SystemTime>(), cpu().guest_tsc());
  EXPECT_GE(after, before);
  EXPECT_LT(after - before, 1'000'000'000u);
  ASSERT_TRUE(write(kvm::msr::kSystemTime, 0));
  const auto left = load<SystemTime>();
  ASSERT_TRUE(write(0x10, 0));
  EXPECT_EQ(load<SystemTime>().tsc_timestamp, left.tsc_timestamp) << "disabled";
}

TEST_F(ParavirtualTest, VersionsCountOnAndEndEven) {
  guest_.store(kPage, 7);  // whatever stood there
  ASSERT_TRUE(write(kvm::msr::kSystemTime, kPage | 1));
  const uint32_t first = load<SystemTime>().version;
  EXPECT_GT(first, 7u);
  EXPECT_EQ(first % 2, 0u);
  cpu().paravirtual.tsc_changed(cpu());
  EXPECT_EQ(load<SystemTime>().version, first + 2);
}

TEST_F(ParavirtualTest, FlagsSayWhatIsTrue) {
  show(kvm::kClockSource2);
  for (uint64_t word = 0; word < 4; ++word) guest_.store(kPage + 8 * word, ~uint64_t{0});
  ASSERT_TRUE(write(kvm::msr::kSystemTime, kPage | 1));
  EXPECT_EQ(load<SystemTime>().flags, 0) << "not stable, and what stood there counts for nothing";
  cpu().paravirtual.note_stopped(cpu());
  EXPECT_EQ(load<SystemTime>().flags, SystemTime::kGuestStopped);
  cpu().paravirtual.tsc_changed(cpu());
  EXPECT_EQ(load<SystemTime>().flags, SystemTime::kGuestStopped) << "until the guest clears it";
}

TEST_F(ParavirtualTest, WallClockIsTheTimeAtWhichSystemTimeWasZero) {
  ASSERT_TRUE(write(kvm::msr::kSystemTime, kPage | 1));
  ASSERT_TRUE(write(kvm::msr::kWallClock, kPage + 0x100));
  const auto start = load<kvm::WallClock>(kPage + 0x100);
  EXPECT_EQ(start.version % 2, 0u);
  EXPECT_LT(start.nanoseconds, 1'000'000'000u);
  const double up = static_cast<double>(time_at(load<SystemTime>(), cpu().guest_tsc())) / 1e9;
  EXPECT_NEAR(start.seconds + start.nanoseconds / 1e9 + up, static_cast<double>(::time(nullptr)),
              2);
}

TEST_F(ParavirtualTest, StealTimeIsWhatPassedSinceItWasAskedFor) {
  guest_.store(kPage, 500);
  ASSERT_TRUE(write(kvm::msr::kStealTime, kPage | 1));
  EXPECT_EQ(load<kvm::StealTime>().steal, 500u);
  const uint32_t version = load<kvm::StealTime>().version;
  waited_ += 3000;
  look_up_later();
  EXPECT_EQ(load<kvm::StealTime>().steal, 3500u);
  EXPECT_EQ(load<kvm::StealTime>().version, version + 2);
  EXPECT_EQ(load<kvm::StealTime>().preempted, 0);
}

TEST_F(ParavirtualTest, StealTimeIsLookedAtSeldom) {
  ASSERT_TRUE(write(kvm::msr::kStealTime, kPage | 1));
  waited_ += 3000;
  const uint64_t now = __builtin_ia32_rdtsc();
  cpu().paravirtual.looked_up(cpu(), now - host_tsc_hz());
  EXPECT_EQ(load<kvm::StealTime>().steal, 0u);
  ASSERT_TRUE(write(kvm::msr::kStealTime, 0));
  look_up_later();
  EXPECT_EQ(load<kvm::StealTime>().steal, 0u) << "disabled";
}

TEST_F(ParavirtualTest, PagesOutsideRamAndReservedBitsAreRefused) {
  for (const uint32_t index : {kvm::msr::kSystemTime, kvm::msr::kStealTime}) {
    EXPECT_FALSE(write(index, kBeyondRam | 1)) << std::hex << index;
    EXPECT_FALSE(write(index, ~uint64_t{0x3E})) << std::hex << index;
    EXPECT_FALSE(write(index, kPage | 3)) << std::hex << index;
    EXPECT_EQ(read(index), 0u) << std::hex << index;
  }
  EXPECT_FALSE(write(kvm::msr::kSystemTime, (kBeyondRam - 16) | 1)) << "its end is outside";
  EXPECT_FALSE(write(kvm::msr::kStealTime, (kPage + 32) | 1)) << "not aligned";
  EXPECT_FALSE(write(kvm::msr::kWallClock, kBeyondRam));
  EXPECT_FALSE(write(kvm::msr::kWallClock, kPage + 1));
}

TEST_F(ParavirtualTest, RegistersExistByTheirFeatures) {
  show(kvm::kClockSource);
  EXPECT_TRUE(read(kvm::msr::kOldSystemTime));
  for (const uint32_t index : {kvm::msr::kSystemTime, kvm::msr::kWallClock, kvm::msr::kStealTime,
                               kvm::msr::kPvEoi, uint32_t{0x4B564D02}}) {
    EXPECT_FALSE(read(index)) << std::hex << index;
    EXPECT_FALSE(write(index, 0)) << std::hex << index;
  }
}

TEST_F(ParavirtualTest, InitAndResetEndTheWriting) {
  for (const bool init : {true, false}) {
    ASSERT_TRUE(write(kvm::msr::kSystemTime, kPage | 1));
    ASSERT_TRUE(write(kvm::msr::kStealTime, (kPage + 0x40) | 1));
    const auto clock = load<SystemTime>();
    const auto steal = load<kvm::StealTime>(kPage + 0x40);
    if (init)
      interpret::apply_init(cpu());
    else
      cpu().set_state(x86::reset_state(0));
    waited_ += 1000;
    look_up_later();
    cpu().paravirtual.note_stopped(cpu());
    EXPECT_EQ(load<SystemTime>().version, clock.version);
    EXPECT_EQ(load<kvm::StealTime>(kPage + 0x40).version, steal.version);
    EXPECT_EQ(read(kvm::msr::kSystemTime), 0u);
  }
}

TEST_F(ParavirtualTest, HypercallsAnswerThatTheyAreUnknown) {
  guest_.enter_long_mode();
  for (const uint8_t instruction : {uint8_t{0xC1}, uint8_t{0xD9}}) {  // VMCALL, VMMCALL
    cpu().gpr[x86::kRax] = 9;
    EXPECT_FALSE(guest_.execute({0x0F, 0x01, instruction}));
    EXPECT_EQ(static_cast<int64_t>(cpu().gpr[x86::kRax]), -1000);
    cpu().gpr[x86::kRax] = kvm::kPollInterruptsCall;
    EXPECT_FALSE(guest_.execute({0x0F, 0x01, instruction}));
    EXPECT_EQ(cpu().gpr[x86::kRax], 0u);
  }
  guest_.enter_long_mode(3);
  EXPECT_FALSE(guest_.execute({0x0F, 0x01, 0xC1}));
  EXPECT_EQ(static_cast<int64_t>(cpu().gpr[x86::kRax]), -1);
}

TEST(RunDelay, GrowsWithTheSchedulersCount) {
  RunDelay delay;
  const uint64_t before = delay();
  EXPECT_GE(delay(), before);
}

}  // namespace
}  // namespace limen::soft::testing
