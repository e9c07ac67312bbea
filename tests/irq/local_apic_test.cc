#include "irq/local_apic.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "irq/pic_8259.h"

namespace limen::irq {
namespace {

using Event = vcpu::LocalInterruptController::Event;
constexpr uint64_t kApic = ApicBus::kDefaultBase;
constexpr uint32_t kApicBase = 0x1B;
constexpr uint32_t kTscDeadline = 0x6E0;

/// Offsets in the xAPIC page.
enum : uint64_t {
  kId = 0x20,
  kTpr = 0x80,
  kPpr = 0xA0,
  kEoi = 0xB0,
  kLdr = 0xD0,
  kDfr = 0xE0,
  kSvr = 0xF0,
  kIsr = 0x100,
  kTmr = 0x180,
  kIrr = 0x200,
  kEsr = 0x280,
  kIcr = 0x300,
  kIcrHigh = 0x310,
  kLvtTimer = 0x320,
  kLvtLint0 = 0x350,
  kLvtLint1 = 0x360,
  kLvtError = 0x370,
  kInitialCount = 0x380,
  kCurrentCount = 0x390,
  kDivide = 0x3E0,
};

class Apic : public ::testing::Test {
 protected:
  void SetUp() override { write(kSvr, 0x1FF); }

  LocalApic::Config config(uint32_t id) {
    return {.id = id,
            .bootstrap_processor = id == 0,
            .tsc_hz = 2'000'000'000,
            .timer_hz = 1'000'000'000,
            .host_tsc = [this] { return tsc_; }};
  }
  uint32_t read(uint64_t offset) { return static_cast<uint32_t>(mmio_.read(kApic + offset, 4)); }
  void write(uint64_t offset, uint32_t value) { mmio_.write(kApic + offset, 4, value); }
  void ipi(uint32_t low, uint32_t destination = 0) {
    write(kIcrHigh, destination << 24);
    write(kIcr, low);
  }
  void fixed(uint8_t vector, bool level = false) {
    apic_.accept({.mode = DeliveryMode::kFixed, .vector = vector, .level_triggered = level});
  }
  void enter_x2apic() { ASSERT_TRUE(apic_.write_msr(kApicBase, kApic | 0xD00)); }
  uint64_t msr(uint32_t index) {
    uint64_t value = 0;
    EXPECT_TRUE(apic_.read_msr(index, value)) << std::hex << index;
    return value;
  }
  /// Runs the timer as a vCPU does, up to `tsc`.
  void run_to(uint64_t tsc) {
    tsc_ = tsc;
    if (apic_.next_timer_tsc() <= tsc_) apic_.timer_due(tsc_);
  }

  uint64_t tsc_ = 1'000'000;
  memory::IoSpace mmio_{"mmio"};
  ApicBus bus_{mmio_};
  int notified_ = 0;
  LocalApic apic_{bus_, config(0), [this] { ++notified_; }};
};

TEST_F(Apic, ResetStateIsThatOfTheManual) {
  apic_.reset();
  EXPECT_EQ(msr(kApicBase), kApic | 0x900);
  EXPECT_EQ(read(kSvr), 0xFFu);
  EXPECT_EQ(read(kDfr), 0xFFFFFFFFu);
  EXPECT_EQ(read(kLdr), 0u);
  EXPECT_EQ(read(kLvtTimer), 0x10000u);
  EXPECT_EQ(read(0x30) & 0xFF00FF, 0x50014u);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(apic_.next_timer_tsc(), ~uint64_t{0});
}

TEST_F(Apic, DeliversTheHighestVectorFirst) {
  fixed(0x31);
  fixed(0x52);
  fixed(0x40);
  EXPECT_EQ(notified_, 1);
  EXPECT_EQ(apic_.acknowledge(), 0x52);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(apic_.acknowledge(), std::nullopt);
  write(kEoi, 0);
  EXPECT_EQ(apic_.acknowledge(), 0x40);
  write(kEoi, 0);
  EXPECT_EQ(apic_.acknowledge(), 0x31);
}

TEST_F(Apic, HigherClassInterruptsServiceAndSameClassDoesNot) {
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  fixed(0x4F);
  EXPECT_FALSE(apic_.has_interrupt());
  fixed(0x50);
  EXPECT_EQ(apic_.acknowledge(), 0x50);
  EXPECT_EQ(read(kIsr + 0x20), 1u << 5 | 1u << 16);
}

TEST_F(Apic, IrrIsrAndTmrShowTheVector) {
  fixed(0x65, true);
  EXPECT_EQ(read(kIrr + 0x30), 1u << 5);
  EXPECT_EQ(read(kTmr + 0x30), 1u << 5);
  apic_.acknowledge();
  EXPECT_EQ(read(kIrr + 0x30), 0u);
  EXPECT_EQ(read(kIsr + 0x30), 1u << 5);
  write(kEoi, 0);
  EXPECT_EQ(read(kIsr + 0x30), 0u);
}

TEST_F(Apic, TaskPriorityHoldsBackItsClassAndBelow) {
  write(kTpr, 0x50);
  EXPECT_EQ(apic_.task_priority(), 5);
  EXPECT_EQ(read(kPpr), 0x50u);
  fixed(0x5F);
  EXPECT_FALSE(apic_.has_interrupt());
  notified_ = 0;
  apic_.set_task_priority(4);
  EXPECT_EQ(read(kTpr), 0x40u);
  EXPECT_TRUE(apic_.has_interrupt());
  EXPECT_EQ(notified_, 1);
}

TEST_F(Apic, ProcessorPriorityIsTheHigherOfTaskAndService) {
  write(kTpr, 0x23);
  EXPECT_EQ(read(kPpr), 0x23u);
  fixed(0x65);
  apic_.acknowledge();
  EXPECT_EQ(read(kPpr), 0x60u);
  write(kTpr, 0x63);
  EXPECT_EQ(read(kPpr), 0x63u);
}

TEST_F(Apic, SoftwareDisabledMasksTheLvtAndTakesNoFixedInterrupts) {
  write(kLvtTimer, 0x40);
  write(kSvr, 0xFF);
  EXPECT_EQ(read(kLvtTimer), 0x10040u);
  write(kLvtTimer, 0x40);
  EXPECT_EQ(read(kLvtTimer), 0x10040u);
  EXPECT_FALSE(apic_.accept({.mode = DeliveryMode::kFixed, .vector = 0x40}));
  EXPECT_TRUE(apic_.accept({.mode = DeliveryMode::kNmi}));
  EXPECT_EQ(apic_.take_event().event, Event::kNmi);
}

TEST_F(Apic, GloballyDisabledPageReadsAsOnes) {
  ASSERT_TRUE(apic_.write_msr(kApicBase, kApic | 0x100));
  EXPECT_EQ(read(kSvr), 0xFFFFFFFFu);
  fixed(0x40);
  EXPECT_FALSE(apic_.has_interrupt());
  ASSERT_TRUE(apic_.write_msr(kApicBase, kApic | 0x900));
  EXPECT_EQ(read(kSvr), 0xFFu);
}

TEST_F(Apic, OnlyAlignedDoublewordWritesCount) {
  write(kTpr, 0x20);
  mmio_.write(kApic + kTpr, 1, 0x30);
  mmio_.write(kApic + kTpr + 4, 4, 0x40);
  EXPECT_EQ(read(kTpr), 0x20u);
  EXPECT_EQ(read(kTpr + 4), 0u);
  EXPECT_EQ(mmio_.read(kApic + kTpr, 1), 0x20u);
}

TEST_F(Apic, PageFollowsTheBaseRegister) {
  ASSERT_TRUE(apic_.write_msr(kApicBase, 0xFED80000 | 0x900));
  EXPECT_EQ(mmio_.read(0xFED80000 + kSvr, 4), 0x1FFu);
  EXPECT_EQ(read(kSvr), 0xFFFFFFFFu);
}

TEST_F(Apic, IllegalModeTransitionsAreRefused) {
  EXPECT_FALSE(apic_.write_msr(kApicBase, kApic | 0x500));  // x2APIC without enable
  EXPECT_FALSE(apic_.write_msr(kApicBase, kApic | 0x901));  // reserved bit
  EXPECT_FALSE(apic_.write_msr(kApicBase, (uint64_t{1} << 60) | kApic | 0x900));
  ASSERT_TRUE(apic_.write_msr(kApicBase, kApic | 0xD00));   // xAPIC -> x2APIC
  EXPECT_FALSE(apic_.write_msr(kApicBase, kApic | 0x900));  // x2APIC -> xAPIC
  ASSERT_TRUE(apic_.write_msr(kApicBase, kApic | 0x100));   // x2APIC -> disabled
  EXPECT_FALSE(apic_.write_msr(kApicBase, kApic | 0xD00));  // disabled -> x2APIC
  ASSERT_TRUE(apic_.write_msr(kApicBase, kApic | 0x900));
  EXPECT_EQ(msr(kApicBase), kApic | 0x900);
}

TEST_F(Apic, X2apicRegistersAreMsrsAndThePageIsGone) {
  uint64_t value = 0;
  EXPECT_FALSE(apic_.read_msr(0x802, value));
  enter_x2apic();
  EXPECT_EQ(msr(0x802), 0u);
  EXPECT_EQ(msr(0x80D), 1u);
  EXPECT_EQ(msr(0x80F), 0x1FFu);
  EXPECT_EQ(read(kSvr), 0xFFFFFFFFu);
  write(kTpr, 0x50);
  EXPECT_EQ(msr(0x808), 0u);
}

TEST_F(Apic, X2apicFaultsOnReservedBitsAndWrongDirections) {
  enter_x2apic();
  uint64_t value = 0;
  for (const uint32_t index : {0x800u, 0x80Bu, 0x80Eu, 0x831u, 0x83Fu, 0x8FFu})
    EXPECT_FALSE(apic_.read_msr(index, value)) << std::hex << index;
  for (const uint32_t index :
       {0x802u, 0x803u, 0x80Au, 0x80Du, 0x80Eu, 0x810u, 0x820u, 0x831u, 0x839u})
    EXPECT_FALSE(apic_.write_msr(index, 0)) << std::hex << index;
  EXPECT_FALSE(apic_.write_msr(0x80B, 1));
  EXPECT_FALSE(apic_.write_msr(0x828, 1));
  EXPECT_FALSE(apic_.write_msr(0x808, 0x100));
  EXPECT_FALSE(apic_.write_msr(0x80F, 0x10000));
  EXPECT_FALSE(apic_.write_msr(0x830, 1u << 20));
  EXPECT_FALSE(apic_.write_msr(0x832, 1u << 20));
  EXPECT_FALSE(apic_.write_msr(0x83E, 4));
  EXPECT_FALSE(apic_.write_msr(0x83F, 0x100));
  EXPECT_TRUE(apic_.write_msr(0x80B, 0));
  EXPECT_TRUE(apic_.write_msr(0x808, 0x40));
}

TEST_F(Apic, SelfIpiMsrRaisesTheVector) {
  enter_x2apic();
  ASSERT_TRUE(apic_.write_msr(0x83F, 0x77));
  EXPECT_EQ(apic_.acknowledge(), 0x77);
}

TEST_F(Apic, X2apicIcrSendsWithItsDestinationInTheUpperHalf) {
  LocalApic other(bus_, config(0x23), {});
  other.write_msr(kApicBase, kApic | 0xC00 | 0x800);
  other.write_msr(0x80F, 0x1FF);
  enter_x2apic();
  ASSERT_TRUE(apic_.write_msr(0x830, uint64_t{0x23} << 32 | 0x45));
  EXPECT_EQ(other.acknowledge(), 0x45);
  // Logical: cluster 2, member 3.
  ASSERT_TRUE(apic_.write_msr(0x830, uint64_t{0x20008} << 32 | 0x856));
  EXPECT_EQ(other.acknowledge(), 0x56);
  ASSERT_TRUE(apic_.write_msr(0x830, uint64_t{0x20004} << 32 | 0x867));
  EXPECT_FALSE(other.has_interrupt());
  EXPECT_EQ(msr(0x830), uint64_t{0x20004} << 32 | 0x867);
}

TEST_F(Apic, XapicIdCanBeWrittenUntilTheApicIsReset) {
  write(kId, 0x05000000);
  EXPECT_EQ(read(kId), 0x05000000u);
  ASSERT_TRUE(apic_.write_msr(kApicBase, kApic | 0x100));
  ASSERT_TRUE(apic_.write_msr(kApicBase, kApic | 0x900));
  EXPECT_EQ(read(kId), 0u);
}

TEST_F(Apic, ShorthandsReachSelfAllAndOthers) {
  LocalApic other(bus_, config(1), {});
  ApicBus::set_current(&other);
  write(kSvr, 0x1FF);
  ApicBus::set_current(&apic_);
  ipi(0x40040);
  EXPECT_EQ(apic_.acknowledge(), 0x40);
  EXPECT_FALSE(other.has_interrupt());
  ipi(0x80050);
  EXPECT_EQ(apic_.acknowledge(), 0x50);
  EXPECT_EQ(other.acknowledge(), 0x50);
  ipi(0xC0060);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(other.acknowledge(), 0x60);
  ApicBus::set_current(nullptr);
}

TEST_F(Apic, EachProcessorFindsItsOwnApicAtThePage) {
  LocalApic other(bus_, config(7), {});
  EXPECT_EQ(read(kId), 0u);
  std::thread vcpu([&] {
    ApicBus::set_current(&other);
    EXPECT_EQ(read(kId), 0x07000000u);
  });
  vcpu.join();
}

TEST_F(Apic, InitThenStartupReachTheOtherProcessorInOrder) {
  int other_notified = 0;
  LocalApic other(bus_, config(1), [&] { ++other_notified; });
  ipi(0x4500, 1);
  EXPECT_EQ(other_notified, 1);
  ipi(0x8500, 1);  // INIT level de-assert: nothing
  ipi(0x4608, 1);
  EXPECT_EQ(other.take_event().event, Event::kInit);
  const auto startup = other.take_event();
  EXPECT_EQ(startup.event, Event::kStartup);
  EXPECT_EQ(startup.startup_vector, 8);
  EXPECT_EQ(other.take_event().event, Event::kNone);
}

TEST_F(Apic, BroadcastStartupIsTakenBeforeTheSenderGoesOn) {
  LocalApic other(bus_, config(1), {});
  std::atomic<bool> went_on = false;
  std::thread vcpu([&] {
    while (!other.startup_pending()) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_FALSE(went_on);
    EXPECT_EQ(other.take_event().event, Event::kStartup);
  });
  ipi(0xC'4610);
  went_on = true;
  vcpu.join();
}

TEST_F(Apic, InitResetsAllButIdAndBase) {
  write(kTpr, 0x40);
  write(kLvtLint1, 0x400);
  fixed(0x70);
  apic_.accept({.mode = DeliveryMode::kInit});
  EXPECT_EQ(apic_.take_event().event, Event::kInit);
  EXPECT_EQ(read(kTpr), 0u);
  EXPECT_EQ(read(kSvr), 0xFFu);
  EXPECT_EQ(read(kLvtLint1), 0x10000u);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(msr(kApicBase), kApic | 0x900);
}

TEST_F(Apic, FlatAndClusterLogicalDestinations) {
  write(kLdr, 0x24000000);
  const auto named = [&](uint8_t id) { return apic_.is_named_by({.id = id, .logical = true}); };
  EXPECT_TRUE(named(0x04));
  EXPECT_TRUE(named(0x20));
  EXPECT_FALSE(named(0x02));
  write(kDfr, 0x0FFFFFFF);
  EXPECT_TRUE(named(0x24));
  EXPECT_TRUE(named(0x2C));
  EXPECT_FALSE(named(0x34));
  EXPECT_FALSE(named(0x22));
  EXPECT_TRUE(named(0xF4));
}

TEST_F(Apic, LowestPriorityGoesToTheLeastBusyAndEqualsTakeTurns) {
  LocalApic other(bus_, config(1), {});
  ApicBus::set_current(&other);
  write(kSvr, 0x1FF);
  ApicBus::set_current(&apic_);
  write(kTpr, 0x30);
  const ApicDestination all{.id = 0xFF};
  const ApicMessage message{.mode = DeliveryMode::kLowestPriority, .vector = 0x60};
  EXPECT_TRUE(bus_.deliver(all, message));
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(other.acknowledge(), 0x60);
  ApicBus::set_current(&other);
  write(kEoi, 0);
  ApicBus::set_current(&apic_);
  write(kTpr, 0);
  EXPECT_TRUE(bus_.deliver(all, message));
  EXPECT_TRUE(bus_.deliver(all, message));
  EXPECT_TRUE(apic_.has_interrupt());
  EXPECT_TRUE(other.has_interrupt());
  ApicBus::set_current(nullptr);
}

TEST_F(Apic, MessageSignalledInterruptIsTaken) {
  bus_.send_msi({.address = 0xFEE00000, .data = 0x4041});
  EXPECT_EQ(apic_.acknowledge(), 0x41);
  write(kEoi, 0);
  bus_.send_msi({.address = 0xFEE01000, .data = 0x42});    // another processor
  bus_.send_msi({.address = 0x12345000, .data = 0x43});    // not the APICs' range
  bus_.send_msi({.address = 0xFEE00000, .data = 0x8044});  // level de-assert
  EXPECT_FALSE(apic_.has_interrupt());
  bus_.send_msi({.address = 0xFEE00000, .data = 0x400});
  EXPECT_EQ(apic_.take_event().event, Event::kNmi);
}

TEST_F(Apic, IllegalVectorsAreReportedInTheErrorStatus) {
  write(kLvtError, 0xFE);
  ipi(0x40005);
  write(kEsr, 0);
  EXPECT_EQ(read(kEsr), 0x20u);
  EXPECT_EQ(apic_.acknowledge(), 0xFE);
  write(kEoi, 0);
  fixed(0x0F);
  write(kEsr, 0);
  EXPECT_EQ(read(kEsr), 0x40u);
  write(kEsr, 0);
  EXPECT_EQ(read(kEsr), 0u);
}

TEST_F(Apic, UnknownRegisterIsAnIllegalAddress) {
  read(0x40);
  write(kEsr, 0);
  EXPECT_EQ(read(kEsr), 0x80u);
}

TEST_F(Apic, KeepsOneNmiBehindTheFirst) {
  for (unsigned i = 0; i < 3; ++i) EXPECT_TRUE(apic_.accept({.mode = DeliveryMode::kNmi}));
  EXPECT_EQ(apic_.take_event().event, Event::kNmi);
  EXPECT_EQ(apic_.take_event().event, Event::kNmi);
  EXPECT_EQ(apic_.take_event().event, Event::kNone);
}

TEST_F(Apic, StoreThatStartsTheTimerMakesTheProcessorLook) {
  write(kLvtTimer, 0x40);
  const int before = notified_;
  write(kInitialCount, 1000);
  EXPECT_EQ(notified_, before + 1);
}

TEST_F(Apic, Lint1RaisesNmiAsItsLvtSays) {
  apic_.set_lint1(true);
  EXPECT_EQ(apic_.take_event().event, Event::kNone);
  apic_.set_lint1(false);
  write(kLvtLint1, 0x400);
  apic_.set_lint1(true);
  EXPECT_EQ(apic_.take_event().event, Event::kNmi);
  EXPECT_EQ(apic_.take_event().event, Event::kNone);
}

class ApicWithPic : public Apic {
 protected:
  void SetUp() override {
    Apic::SetUp();
    apic_.connect_pic(pic_);
    for (const uint16_t base : std::array<uint16_t, 2>{0x20, 0xA0}) {
      ports_.write(base, 1, 0x11);
      ports_.write(base + 1u, 1, base == 0x20 ? 0x20 : 0x28);
      ports_.write(base + 1u, 1, base == 0x20 ? 4 : 2);
      ports_.write(base + 1u, 1, 1);
    }
  }
  memory::IoSpace ports_{"ports"};
  Pic8259 pic_{ports_, [this] { apic_.pic_changed(); }};
};

TEST_F(ApicWithPic, ExternalInterruptPassesThroughLint0) {
  notified_ = 0;
  pic_.set_line(0, true);
  EXPECT_EQ(notified_, 1);
  EXPECT_TRUE(apic_.has_interrupt());
  EXPECT_EQ(apic_.acknowledge(), 0x20);
  EXPECT_FALSE(apic_.has_interrupt());
}

TEST_F(ApicWithPic, MaskedLint0HoldsThe8259Back) {
  write(kLvtLint0, 0x10700);
  pic_.set_line(0, true);
  EXPECT_FALSE(apic_.has_interrupt());
  notified_ = 0;
  write(kLvtLint0, 0x700);
  EXPECT_EQ(notified_, 1);
  EXPECT_EQ(apic_.acknowledge(), 0x20);
}

TEST_F(ApicWithPic, FixedLint0TurnsTheOutputIntoAVector) {
  write(kLvtLint0, 0x31);
  pic_.set_line(0, true);
  EXPECT_EQ(apic_.acknowledge(), 0x31);
  EXPECT_FALSE(apic_.has_interrupt());
}

TEST_F(ApicWithPic, DisabledApicLeavesThe8259InCharge) {
  write(kLvtLint0, 0x10700);
  ASSERT_TRUE(apic_.write_msr(kApicBase, kApic | 0x100));
  pic_.set_line(3, true);
  EXPECT_EQ(apic_.acknowledge(), 0x23);
}

TEST_F(ApicWithPic, RequestThatWentAwayGivesNothing) {
  ports_.write(0x4D0, 1, 0x20);
  pic_.set_line(5, true);
  EXPECT_TRUE(apic_.has_interrupt());
  pic_.set_line(5, false);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(apic_.acknowledge(), std::nullopt);
}

// The timer: 2 GHz TSC, 1 GHz timer: one count is 2 TSC ticks, times the divider.

TEST_F(Apic, OneShotCountsDownAndFiresOnce) {
  write(kDivide, 0xB);
  write(kLvtTimer, 0x40);
  write(kInitialCount, 1000);
  EXPECT_EQ(apic_.next_timer_tsc(), tsc_ + 2000);
  EXPECT_EQ(read(kCurrentCount), 1000u);
  tsc_ += 500;
  EXPECT_EQ(read(kCurrentCount), 750u);
  run_to(tsc_ + 1499);
  EXPECT_EQ(read(kCurrentCount), 1u);
  EXPECT_FALSE(apic_.has_interrupt());
  run_to(tsc_ + 1);
  EXPECT_EQ(apic_.acknowledge(), 0x40);
  EXPECT_EQ(read(kCurrentCount), 0u);
  EXPECT_EQ(apic_.next_timer_tsc(), ~uint64_t{0});
}

TEST_F(Apic, DivideConfigurationScalesTheCount) {
  const std::array<std::pair<uint32_t, uint64_t>, 8> dividers = {
      {{0x0, 2}, {0x1, 4}, {0x2, 8}, {0x3, 16}, {0x8, 32}, {0x9, 64}, {0xA, 128}, {0xB, 1}}};
  for (const auto& [code, divider] : dividers) {
    write(kDivide, code);
    write(kInitialCount, 100);
    EXPECT_EQ(apic_.next_timer_tsc() - tsc_, 200 * divider) << code;
  }
}

TEST_F(Apic, PeriodicKeepsItsPhaseAndMergesMissedPeriods) {
  write(kDivide, 0xB);
  write(kLvtTimer, 0x20040);
  write(kInitialCount, 1000);
  const uint64_t start = tsc_;
  run_to(start + 2010);
  EXPECT_EQ(apic_.acknowledge(), 0x40);
  write(kEoi, 0);
  EXPECT_EQ(apic_.next_timer_tsc(), start + 4000);
  run_to(start + 9000);
  EXPECT_EQ(apic_.acknowledge(), 0x40);
  write(kEoi, 0);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(apic_.next_timer_tsc(), start + 10'000);
  EXPECT_EQ(read(kCurrentCount), 500u);
}

TEST_F(Apic, InitialCountOfZeroStopsTheTimer) {
  write(kLvtTimer, 0x20040);
  write(kInitialCount, 1000);
  write(kInitialCount, 0);
  EXPECT_EQ(apic_.next_timer_tsc(), ~uint64_t{0});
  EXPECT_EQ(read(kCurrentCount), 0u);
}

TEST_F(Apic, MaskedTimerCountsWithoutInterrupt) {
  write(kDivide, 0xB);
  write(kLvtTimer, 0x10040);
  write(kInitialCount, 1000);
  run_to(tsc_ + 5000);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(read(kCurrentCount), 0u);
}

TEST_F(Apic, DeadlineFiresAtGuestTscAndDisarms) {
  write(kLvtTimer, 0x40040);
  ASSERT_TRUE(apic_.write_msr(kTscDeadline, tsc_ + 300));
  EXPECT_EQ(msr(kTscDeadline), tsc_ + 300);
  EXPECT_EQ(apic_.next_timer_tsc(), tsc_ + 300);
  run_to(tsc_ + 299);
  EXPECT_FALSE(apic_.has_interrupt());
  run_to(tsc_ + 1);
  EXPECT_EQ(apic_.acknowledge(), 0x40);
  EXPECT_EQ(msr(kTscDeadline), 0u);
  EXPECT_EQ(apic_.next_timer_tsc(), ~uint64_t{0});
}

TEST_F(Apic, DeadlineOfZeroDisarmsAndOtherModesIgnoreTheMsr) {
  write(kLvtTimer, 0x40040);
  apic_.write_msr(kTscDeadline, tsc_ + 300);
  apic_.write_msr(kTscDeadline, 0);
  EXPECT_EQ(apic_.next_timer_tsc(), ~uint64_t{0});
  write(kLvtTimer, 0x40);
  ASSERT_TRUE(apic_.write_msr(kTscDeadline, tsc_ + 300));
  EXPECT_EQ(msr(kTscDeadline), 0u);
  EXPECT_EQ(apic_.next_timer_tsc(), ~uint64_t{0});
}

TEST_F(Apic, EnteringOrLeavingDeadlineModeDisarms) {
  write(kLvtTimer, 0x40);
  write(kInitialCount, 1000);
  write(kLvtTimer, 0x40040);
  EXPECT_EQ(apic_.next_timer_tsc(), ~uint64_t{0});
  apic_.write_msr(kTscDeadline, tsc_ + 300);
  write(kLvtTimer, 0x40);
  EXPECT_EQ(apic_.next_timer_tsc(), ~uint64_t{0});
}

TEST_F(Apic, ModeChangeBetweenOneShotAndPeriodicKeepsTheCount) {
  write(kDivide, 0xB);
  write(kLvtTimer, 0x20040);
  write(kInitialCount, 1000);
  tsc_ += 1200;
  write(kLvtTimer, 0x40);
  EXPECT_EQ(read(kCurrentCount), 400u);
  run_to(tsc_ + 800);
  EXPECT_EQ(read(kCurrentCount), 0u);
  write(kLvtTimer, 0x20040);
  EXPECT_EQ(read(kCurrentCount), 0u);
}

TEST_F(Apic, GuestThatWritesItsTscDoesNotDisturbTheCount) {
  write(kDivide, 0xB);
  write(kLvtTimer, 0x40);
  write(kInitialCount, 1000);
  apic_.set_tsc_offset(5'000'000);
  EXPECT_EQ(apic_.next_timer_tsc(), tsc_ + 2000 + 5'000'000);
  tsc_ += 2000;
  apic_.timer_due(tsc_ + 5'000'000);
  EXPECT_EQ(apic_.acknowledge(), 0x40);
}

TEST_F(Apic, InterruptsFromManyThreadsAreAllTaken) {
  std::vector<std::thread> senders;
  std::atomic<bool> go = false;
  for (unsigned i = 0; i < 4; ++i)
    senders.emplace_back([&, i] {
      while (!go) std::this_thread::yield();
      for (unsigned n = 0; n < 200; ++n)
        bus_.send_msi({.address = 0xFEE00000, .data = 0x40 + i * 0x20 + n % 0x20});
    });
  go = true;
  std::array<int, 256> taken{};
  const auto take_all = [&] {
    while (apic_.has_interrupt()) {
      const auto vector = apic_.acknowledge();
      ASSERT_TRUE(vector.has_value());
      ++taken[*vector];
      write(kEoi, 0);
    }
  };
  for (int i = 0; i < 1000; ++i) take_all();
  for (auto& sender : senders) sender.join();
  take_all();
  for (unsigned vector = 0x40; vector < 0xC0; ++vector) EXPECT_GE(taken[vector], 1) << vector;
}

TEST_F(Apic, StandstillOfTheHostIsOneTimerInterrupt) {
  write(kDivide, 0xB);
  write(kLvtTimer, 0x20040);
  write(kInitialCount, 1'000'000);  // 1 ms
  const uint64_t standstill = 30 * uint64_t{2'000'000'000};
  run_to(tsc_ + standstill + 1);
  EXPECT_EQ(apic_.acknowledge(), 0x40);
  write(kEoi, 0);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_GT(apic_.next_timer_tsc(), tsc_);
  run_to(apic_.next_timer_tsc());
  EXPECT_EQ(apic_.acknowledge(), 0x40);
  write(kEoi, 0);
  EXPECT_FALSE(apic_.has_interrupt());
}

}  // namespace
}  // namespace limen::irq
