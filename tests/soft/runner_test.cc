#include "soft/interpret/runner.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <thread>

#include "base/host_tsc.h"
#include "soft/supported_cpuid.h"
#include "x86/kvm_paravirtual.h"

namespace limen::soft::interpret {
namespace {

/// A controller whose one interrupt and one deadline a test sets.
class ScriptedController final : public vcpu::LocalInterruptController {
 public:
  bool has_interrupt() override { return pending_ >= 0; }
  std::optional<uint8_t> acknowledge() override {
    const int vector = pending_.exchange(-1);
    if (vector < 0) return std::nullopt;
    return static_cast<uint8_t>(vector);
  }
  EventRequest take_event() override { return {}; }
  uint8_t task_priority() override { return 0; }
  void set_task_priority(uint8_t) override {}
  bool read_msr(uint32_t, uint64_t&) override { return false; }
  bool write_msr(uint32_t, uint64_t) override { return false; }
  uint64_t next_timer_tsc() override { return deadline_; }
  void timer_due(uint64_t) override {
    deadline_ = UINT64_MAX;
    pending_ = 0x20;
  }

  std::atomic<int> pending_ = -1;
  std::atomic<uint64_t> deadline_ = UINT64_MAX;
};

/// A 32-bit guest, flat segments and no paging, whose code begins at 1000H. The parameter is the
/// size of the code cache, 0 being the interpreter alone.
class RunnerTest : public ::testing::TestWithParam<size_t> {
 protected:
  static constexpr uint64_t kCode = 0x1000;

  RunnerTest() {
    x86::CpuState state = x86::reset_state(0);
    for (auto& segment : state.system.segments) {
      segment.selector = 0x10;
      segment.base = 0;
      segment.limit = 0xFFFFFFFF;
      segment.attributes |= x86::Segment::kDefaultBig | x86::Segment::kGranularity;
    }
    state.system.segments[x86::kCs].selector = 0x08;
    state.system.cr0 |= x86::cr0::kProtection;
    state.rip = kCode;
    state.gpr[x86::kRsp] = 0x8000;
    // Every vector leads to a HLT at 4000H + vector.
    state.system.idtr = {.base = 0x3000, .limit = 0x7FF};
    state.system.gdtr = {.base = 0x2000, .limit = 0x17};
    put(0x2008, {0xFF, 0xFF, 0, 0, 0, 0x9B, 0xCF, 0, 0xFF, 0xFF, 0, 0, 0, 0x93, 0xCF, 0});
    for (unsigned vector = 0; vector < 256; ++vector) {
      put(0x3000 + vector * 8, {static_cast<uint8_t>(vector), 0x40, 0x08, 0, 0, 0x8E, 0, 0});
      put(0x4000 + vector, {0xF4});
    }
    cpu_.set_state(state);
  }

  void put(uint64_t address, std::initializer_list<uint8_t> bytes) {
    ASSERT_TRUE(ram_->write({address}, std::as_bytes(std::span(bytes.begin(), bytes.size()))));
  }
  uint8_t al() const { return static_cast<uint8_t>(cpu_.gpr[x86::kRax]); }

  /// Runs until the guest halts: a thread watches for that and kicks.
  void run_until_halt() {
    std::thread kicker([this] {
      while (!halted_seen()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      runner_.kick();
    });
    const vcpu::Exit exit = runner_.run();
    kicker.join();
    EXPECT_EQ(exit.reason, vcpu::ExitReason::kInterrupted);
  }
  bool halted_seen() const { return const_cast<const volatile bool&>(cpu_.activity.halted); }

  std::unique_ptr<memory::GuestMemory> ram_ = [] {
    const memory::GuestMemory::Layout layout{.start = {0}, .size = 1 << 20};
    return *memory::GuestMemory::create({&layout, 1});
  }();
  memory::IoSpace ports_{"ports"};
  memory::IoSpace mmio_{"mmio"};
  x86::CpuidTable cpuid_ = supported_cpuid();
  ScriptedController interrupts_;
  Cpu cpu_{*ram_, ports_, mmio_, cpuid_, interrupts_};
  Runner runner_{cpu_, host_tsc_hz(), GetParam()};
};

TEST_P(RunnerTest, TimerThatIsSecondsOverdueTellsTheGuestThatItWasStopped) {
  put(kCode, {0xF4});  // hlt
  constexpr uint64_t kPage = 0x9000;
  constexpr uint64_t kFlags = kPage + offsetof(x86::kvm::SystemTime, flags);
  cpu_.system.kvm_system_time = kPage | 1;
  for (const uint64_t seconds : {1, 30}) {
    interrupts_.deadline_ = cpu_.guest_tsc() - seconds * host_tsc_hz();
    cpu_.rip = kCode;
    cpu_.activity.halted = false;
    run_until_halt();
    const auto flags = static_cast<uint8_t>(ram_->span({kFlags}, 1)[0]);
    EXPECT_EQ(flags & x86::kvm::SystemTime::kGuestStopped, seconds == 30 ? 2 : 0) << seconds;
  }
}

/// Counts what is written to it; the first write calls for attention.
struct CallingDevice final : memory::IoHandler {
  explicit CallingDevice(Cpu& its_cpu) : cpu(its_cpu) {}
  uint64_t io_read(uint64_t, unsigned) override { return 0; }
  void io_write(uint64_t, unsigned, uint64_t) override {
    if (writes++ == 0) cpu.attention.call();
  }
  Cpu& cpu;
  unsigned writes = 0;
};

TEST_P(RunnerTest, RepeatedStringThatStopsForAttentionEndsBeforeWhatFollows) {
  CallingDevice device(cpu_);
  mmio_.claim(0x200000, 0x10000, device, "test");
  put(kCode, {0xBF, 0x00, 0x00, 0x20, 0x00,  // mov edi, 200000H
              0xB9, 0x00, 0x20, 0x00, 0x00,  // mov ecx, 8192
              0xF3, 0xAA,                    // rep stosb
              0x89, 0xCB,                    // mov ebx, ecx
              0xF4});                        // hlt
  run_until_halt();
  EXPECT_EQ(device.writes, 8192u);
  EXPECT_EQ(cpu_.gpr[x86::kRbx], 0u);
  mmio_.release(0x200000, device);
}

TEST_P(RunnerTest, StoreIntoTheRunningBlockTakesEffectOnTheNextInstruction) {
  put(kCode, {0xC6, 0x05, 0x08, 0x10, 0x00, 0x00, 0x02,  // mov byte [1008H], 2
              0xB0, 0x01,                                // mov al, 1: its immediate is at 1008H
              0xF4});                                    // hlt
  run_until_halt();
  EXPECT_EQ(al(), 2);
}

TEST_P(RunnerTest, CodeThatADeviceOverwritesIsDecodedAgain) {
  put(kCode, {0xB0, 0x01, 0xF4});  // mov al, 1; hlt
  run_until_halt();
  EXPECT_EQ(al(), 1);
  put(kCode + 1, {0x07});
  cpu_.rip = kCode;
  cpu_.activity.halted = false;
  run_until_halt();
  EXPECT_EQ(al(), 7);
}

TEST_P(RunnerTest, InstructionAcrossAPageEndFollowsChangesOfItsSecondPage) {
  put(0x5FFF, {0xB0, 0x01, 0xF4});  // mov al, 1 with its immediate in the next page
  for (const uint8_t value : {uint8_t{1}, uint8_t{9}}) {
    put(0x6000, {value});
    cpu_.rip = 0x5FFF;
    ASSERT_FALSE(runner_.step().has_value());
    EXPECT_EQ(al(), value);
    EXPECT_EQ(cpu_.rip, 0x6001u);
  }
}

TEST_P(RunnerTest, BlockThatLeavesItsSegmentFaultsAtTheInstructionThatDoes) {
  put(kCode, {0x40, 0x40, 0xB8, 0, 0, 0, 0});  // inc eax; inc eax; mov eax, 0
  cpu_.system.segments[x86::kCs].limit = kCode + 4;
  cpu_.gpr[x86::kRax] = 0;
  EXPECT_FALSE(runner_.step().has_value());
  EXPECT_FALSE(runner_.step().has_value());
  const auto fault = runner_.step();
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->vector, x86::Vector::kGeneralProtection);
  EXPECT_EQ(cpu_.rip, kCode + 2);
  EXPECT_EQ(cpu_.gpr[x86::kRax], 2u);
}

TEST_P(RunnerTest, FaultLeavesRegistersAndInstructionPointerAlone) {
  put(kCode, {0xF7, 0xF1});  // div ecx
  cpu_.gpr[x86::kRcx] = 0;
  cpu_.gpr[x86::kRax] = 5;
  const auto fault = runner_.step();
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->vector, x86::Vector::kDivideError);
  EXPECT_EQ(cpu_.rip, kCode);
  EXPECT_EQ(cpu_.gpr[x86::kRax], 5u);
}

TEST_P(RunnerTest, KickEndsAnEndlessLoop) {
  put(kCode, {0xEB, 0xFE});  // jmp to itself
  std::thread kicker([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    runner_.kick();
  });
  EXPECT_EQ(runner_.run().reason, vcpu::ExitReason::kInterrupted);
  kicker.join();
  EXPECT_EQ(cpu_.rip, kCode);
}

TEST_P(RunnerTest, InterruptEndsHaltWhenInterruptsAreEnabled) {
  put(kCode, {0xFB, 0xF4});  // sti; hlt
  std::thread device([this] {
    while (!halted_seen()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    interrupts_.pending_ = 0x31;
    runner_.interrupt();
    while (const_cast<const volatile uint64_t&>(cpu_.gpr[x86::kRsp]) == 0x8000)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    runner_.kick();
  });
  EXPECT_EQ(runner_.run().reason, vcpu::ExitReason::kInterrupted);
  device.join();
  EXPECT_EQ(cpu_.gpr[x86::kRsp], 0x8000u - 12);  // EFLAGS, CS, EIP
  EXPECT_EQ(*reinterpret_cast<const uint32_t*>(ram_->span({0x8000 - 12}, 4).data()), kCode + 2);
}

TEST_P(RunnerTest, HaltedProcessorWakesForItsTimer) {
  put(kCode, {0xFB, 0xF4});                                        // sti; hlt
  interrupts_.deadline_ = cpu_.guest_tsc() + host_tsc_hz() / 200;  // 5 ms
  std::thread kicker([this] {
    while (const_cast<const volatile uint64_t&>(cpu_.gpr[x86::kRsp]) == 0x8000)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    runner_.kick();
  });
  EXPECT_EQ(runner_.run().reason, vcpu::ExitReason::kInterrupted);
  kicker.join();
  EXPECT_EQ(cpu_.gpr[x86::kRsp], 0x8000u - 12);
}

TEST_P(RunnerTest, SingleStepTrapsAfterEveryInstruction) {
  put(kCode, {0x40, 0x40, 0xF4});  // inc eax; inc eax; hlt
  cpu_.flags_rest |= x86::rflags::kTrap;
  cpu_.gpr[x86::kRax] = 0;
  run_until_halt();  // in the handler of #DB
  EXPECT_EQ(cpu_.gpr[x86::kRax], 1u);
  EXPECT_EQ(cpu_.rip, 0x4000u + 1 + 1);
  EXPECT_NE(cpu_.system.dr[6] & (1u << 14), 0u);
}

TEST_P(RunnerTest, TrapThatWaitsComesBeforeTheNextInstructionUnlessMovSsLetsThatOneRun) {
  put(kCode, {0x40, 0x40, 0xF4});  // inc eax; inc eax; hlt
  for (const bool after_mov_ss : {false, true}) {
    cpu_.rip = kCode;
    cpu_.gpr[x86::kRax] = 0;
    cpu_.gpr[x86::kRsp] = 0x8000;
    cpu_.system.dr[6] = dr6::kReservedOnes;
    cpu_.activity = {.mov_ss_shadow = after_mov_ss, .pending_debug = 1};
    run_until_halt();  // in the handler of #DB
    EXPECT_EQ(cpu_.gpr[x86::kRax], after_mov_ss ? 1u : 0u);
    EXPECT_EQ(cpu_.rip, 0x4000u + 1 + 1);
    EXPECT_EQ(cpu_.system.dr[6], dr6::kReservedOnes | 1);
    const uint32_t expected = kCode + (after_mov_ss ? 1 : 0);
    EXPECT_EQ(*reinterpret_cast<const uint32_t*>(ram_->span({0x8000 - 12}, 4).data()), expected);
  }
}

TEST_P(RunnerTest, TripleFaultShutsDownAndNamesTheLastInstructions) {
  put(kCode, {0x0F, 0x0B});  // ud2
  cpu_.system.idtr.limit = 0;
  EXPECT_EQ(runner_.run().reason, vcpu::ExitReason::kShutdown);
  EXPECT_NE(runner_.recent_instructions().find("ud2"), std::string::npos);
}

TEST_P(RunnerTest, RepeatedMoveOverItsOwnTailRepeatsThePattern) {
  put(kCode, {0xF3, 0xA4});  // rep movsb
  put(0x9000, {1, 2, 3});
  cpu_.gpr[x86::kRsi] = 0x9000;
  cpu_.gpr[x86::kRdi] = 0x9003;
  cpu_.gpr[x86::kRcx] = 9;
  ASSERT_FALSE(runner_.step().has_value());
  const auto bytes = ram_->span({0x9000}, 12);
  for (unsigned i = 0; i < 12; ++i) EXPECT_EQ(static_cast<unsigned>(bytes[i]), i % 3 + 1) << i;
  EXPECT_EQ(cpu_.gpr[x86::kRcx], 0u);
  EXPECT_EQ(cpu_.gpr[x86::kRdi], 0x900Cu);
}

INSTANTIATE_TEST_SUITE_P(Tiers, RunnerTest, ::testing::Values(size_t{0}, size_t{4} << 20),
                         [](const auto& tier) {
                           return tier.param == 0 ? "Interpreter" : "Translator";
                         });

}  // namespace
}  // namespace limen::soft::interpret
