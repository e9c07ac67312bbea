// Suspend to RAM as monitors see it, and what the guest finds afterwards.
#include <atomic>
#include <memory>
#include <thread>

#include "boot/memory_map.h"
#include "monitor/monitor_fixture.h"

namespace limen::monitor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A guest that suspends itself, once, and counts how often it is started from its waking vector.
class Suspended : public testing::MonitorTest {
 protected:
  static constexpr uint16_t kPm1Control = 0x604, kPm1Status = 0x600;
  static constexpr uint32_t kVector = 0x9'A124;

  Suspended() {
    description_.vcpus = 1;
    script_ = [counts = counts_](machine::testing::Guest& guest) {
      const auto& code = guest.state.system.segments[x86::kCs];
      if (guest.state.rip == 0x100020) {
        std::array<std::byte, 4> vector{};
        for (size_t i = 0; i < vector.size(); ++i) vector[i] = std::byte(kVector >> (8 * i));
        const auto facs = boot::acpi_region(guest.machine.ram);
        EXPECT_TRUE(guest.machine.ram.write(facs + 12, vector));
        guest.state.rip = 0;
        guest.machine.ports.write(kPm1Control, 2, 1u << 10 | 1u << 13);
      } else if (code.base + guest.state.rip == kVector) {
        EXPECT_EQ(code.selector, kVector >> 4);
        EXPECT_EQ(guest.state.system.cr0 & x86::cr0::kProtection, 0u);
        counts->wake_status = guest.machine.ports.read(kPm1Status, 2);
        ++counts->resumptions;
        guest.state.rip = 0;
      }
      guest.wait();
      return vcpu::Exit{};
    };
  }
  Json status() { return run("query-status"); }
  void suspend() {
    start();
    run("cont");
    while (status()["status"] != "suspended") machine_->loop().poll();
  }
  void expect_resumed() {
    while (counts_->resumptions == 0) std::this_thread::yield();
    EXPECT_EQ(status()["status"], "running");
    EXPECT_EQ(counts_->resumptions, 1);
  }

  /// The guest's thread may outlive the test.
  struct Counts {
    std::atomic<int> resumptions = 0;
    std::atomic<uint64_t> wake_status = 0;
  };
  std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();
};

TEST_F(Suspended, SystemWakeupGoesOnAtTheWakingVector) {
  suspend();
  EXPECT_EQ(run("query-current-machine"), (Json{{"wakeup-suspend-support", true}}));
  EXPECT_EQ(status(), (Json{{"running", false}, {"singlestep", false}, {"status", "suspended"}}));
  EXPECT_EQ(type("info status"), "VM status: paused (suspended)\r\n");
  run("cont");
  EXPECT_EQ(status()["status"], "suspended");
  run("system_wakeup");
  expect_resumed();
  EXPECT_EQ(counts_->wake_status, 1u << 15 | 1u << 8);
  EXPECT_THAT(events_, ElementsAre("RESUME", "SUSPEND", "WAKEUP"));
  EXPECT_EQ(error("system_wakeup"),
            "GenericError: Unable to wake up: guest is not in suspended state");
}

TEST_F(Suspended, PowerButtonWakes) {
  suspend();
  run("system_powerdown");
  while (status()["status"] != "running") machine_->loop().poll();
  expect_resumed();
}

TEST_F(Suspended, KeysWake) {
  suspend();
  EXPECT_EQ(type("sendkey a"), "");
  while (status()["status"] != "running") machine_->loop().poll();
  expect_resumed();
}

TEST_F(Suspended, WakesWhenItIsNoLongerStopped) {
  suspend();
  run("stop");
  EXPECT_EQ(status()["status"], "paused");
  EXPECT_THAT(error("system_wakeup"), HasSubstr("not in suspended state"));
  run("cont");
  EXPECT_EQ(status()["status"], "suspended");
  run("stop");
  run("system_powerdown");
  poll();
  EXPECT_EQ(status()["status"], "paused");
  run("cont");
  expect_resumed();
  EXPECT_THAT(events_, ElementsAre("RESUME", "SUSPEND", "STOP", "RESUME", "STOP", "POWERDOWN",
                                   "RESUME", "WAKEUP"));
}

TEST_F(Suspended, ResetStartsItOver) {
  suspend();
  events_.clear();
  run("system_reset");
  EXPECT_EQ(status()["status"], "running");
  while (status()["status"] != "suspended") machine_->loop().poll();
  EXPECT_THAT(events_, ElementsAre("RESET", "WAKEUP", "SUSPEND"));
  EXPECT_EQ(counts_->resumptions, 0);
}

TEST_F(Suspended, WithoutAWakingVectorTheMachineIsReset) {
  suspend();
  std::array<std::byte, 4> none{};
  auto& memory = *machine_->memory();
  ASSERT_TRUE(memory.write(boot::acpi_region(memory) + 12, none));
  events_.clear();
  run("system_wakeup");
  while (status()["status"] != "suspended") machine_->loop().poll();
  EXPECT_THAT(events_, ElementsAre("RESET", "SUSPEND"));
}

TEST_F(Suspended, IsNoStateWhereItIsDisabled) {
  description_.suspend_to_ram = false;
  start();
  run("cont");
  EXPECT_EQ(run("query-current-machine"), (Json{{"wakeup-suspend-support", false}}));
  EXPECT_EQ(error("system_wakeup"),
            "GenericError: wake-up from suspend is not supported by this guest");
  poll();
  EXPECT_EQ(status()["status"], "running");
}

TEST_F(Suspended, ToDiskIsAShutdown) {
  script_ = [](machine::testing::Guest& guest) {
    guest.machine.ports.write(0x604, 2, 2u << 10 | 1u << 13);
    guest.wait();
    return vcpu::Exit{};
  };
  description_.vcpus = 1;
  description_.start_paused = false;
  start();
  EXPECT_EQ(machine_->run().value(), 0);
  EXPECT_THAT(events_, ElementsAre("RESUME", "SUSPEND_DISK", "SHUTDOWN"));
}

}  // namespace
}  // namespace limen::monitor
