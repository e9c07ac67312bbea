#include "machine/machine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <fstream>
#include <sstream>
#include <thread>

#include "machine/scripted_accelerator.h"

namespace limen::machine {
namespace {

using testing::Guest;
using ::testing::HasSubstr;
using testing::Script;
using testing::ScriptedAccelerator;
using testing::TemporaryFolder;
using testing::write_kernel;
using vcpu::Exit;
using vcpu::ExitReason;

constexpr uint16_t kPm1Control = 0x604, kResetControl = 0xCF9, kDebugExit = 0x501, kCom1 = 0x3F8;
constexpr uint64_t kSoftOff = 5u << 10 | 1u << 13;

class MachineTest : public ::testing::Test {
 protected:
  MachineTest() {
    description_.memory_bytes = uint64_t{16} << 20;
    description_.kernel = write_kernel(folder_ / "kernel");
    description_.cpu = "max";
  }
  Result<std::unique_ptr<Machine>> create(Script script) {
    return Machine::create(description_, std::make_unique<ScriptedAccelerator>(std::move(script)));
  }
  Result<int> run(Script script) {
    auto machine = create(std::move(script));
    if (!machine) return std::unexpected(machine.error());
    return (*machine)->run();
  }
  std::string create_error() {
    const auto machine = create([](Guest&) { return Exit{}; });
    return machine ? "no error" : machine.error().message;
  }

  TemporaryFolder folder_;
  MachineDescription description_;
};

Exit power_off(Guest& guest) {
  guest.machine.ports.write(kPm1Control, 2, kSoftOff);
  guest.wait();
  return {};
}

std::string content(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST_F(MachineTest, PowerOffEndsWithStatusZero) { EXPECT_EQ(run(power_off).value(), 0); }

TEST_F(MachineTest, DebugExitGivesTheGuestsStatus) {
  description_.devices.push_back({"isa-debug-exit", {}});
  EXPECT_EQ(run([](Guest& guest) {
              guest.machine.ports.write(kDebugExit, 1, 0x10);
              guest.wait();
              return Exit{};
            }).value(),
            0x21);
}

TEST_F(MachineTest, ResetLoadsTheKernelAgainAndGoesOn) {
  int starts = 0;
  const auto status = run([&](Guest& guest) {
    const std::array<std::byte, 4> garbage{};
    EXPECT_EQ(guest.state.rip, 0x100020u);
    std::array<std::byte, 1> code{};
    EXPECT_TRUE(guest.machine.ram.read({0x100020}, code));
    EXPECT_EQ(code[0], std::byte{0xF4});
    if (++starts == 3) return power_off(guest);
    guest.state.rip = 0;
    EXPECT_TRUE(guest.machine.ram.write({0x100020}, garbage));
    guest.machine.ports.write(kResetControl, 1, 0x0E);
    guest.wait();
    return Exit{};
  });
  EXPECT_EQ(status.value(), 0);
  EXPECT_EQ(starts, 3);
}

TEST_F(MachineTest, ResetWithNoRebootEndsWithStatusZero) {
  description_.actions.reboot = Actions::Reboot::kShutdown;
  EXPECT_EQ(run([](Guest& guest) {
              guest.machine.ports.write(kResetControl, 1, 0x0E);
              guest.wait();
              return Exit{};
            }).value(),
            0);
}

TEST_F(MachineTest, TripleFaultIsAReset) {
  int starts = 0;
  EXPECT_EQ(run([&](Guest& guest) {
              if (++starts == 2) return power_off(guest);
              return Exit{ExitReason::kShutdown, {}};
            }).value(),
            0);
  EXPECT_EQ(starts, 2);
}

TEST_F(MachineTest, TripleFaultWithNoRebootReportsRegistersAndInstructions) {
  description_.actions.reboot = Actions::Reboot::kShutdown;
  ::testing::internal::CaptureStderr();
  const auto status = run([](Guest& guest) {
    guest.state.gpr[0] = 0xDEADBEEF;
    guest.state.rip = 0x1234;
    return Exit{ExitReason::kShutdown, {}};
  });
  const auto report = ::testing::internal::GetCapturedStderr();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "the guest triple-faulted at rip 0x1234");
  EXPECT_THAT(report, HasSubstr("RAX=00000000deadbeef"));
  EXPECT_THAT(report, HasSubstr("RIP=0000000000001234"));
  EXPECT_THAT(report, HasSubstr("0x1234: ud2"));
}

TEST_F(MachineTest, InternalErrorEndsTheMachine) {
  ::testing::internal::CaptureStderr();
  const auto status = run([](Guest&) {
    return Exit{ExitReason::kInternalError, "no such opcode"};
  });
  const auto report = ::testing::internal::GetCapturedStderr();
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("no such opcode"));
  EXPECT_THAT(report, HasSubstr("no such opcode"));
}

TEST_F(MachineTest, AfterAnInternalErrorItStaysForWhoeverCanLookAtIt) {
  const auto look = [this] {
    auto machine = create([](Guest&) {
      return Exit{ExitReason::kInternalError, "no such opcode"};
    });
    EXPECT_TRUE(machine);
    (*machine)->events().add([&](const Event& event, const nlohmann::json&) {
      if (event.name != "STOP") return;
      EXPECT_EQ((*machine)->run_state(), RunState::kInternalError);
      EXPECT_FALSE((*machine)->cont());
      (*machine)->quit();
    });
    ::testing::internal::CaptureStderr();
    const auto status = (*machine)->run();
    EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("no such opcode"));
    return status.value_or(-1);
  };
  description_.gdb = "tcp::1234";
  EXPECT_EQ(look(), 0);
  description_.gdb = {};
  description_.characters.push_back({.id = "c", .kind = CharacterDescription::Kind::kRing});
  description_.monitors.push_back({.id = "m", .character = "c"});
  EXPECT_EQ(look(), 0);
  // Nobody types at a standard input that is no terminal.
  const UniqueFd input(::dup(STDIN_FILENO)), null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ::dup2(null.get(), STDIN_FILENO);
  description_.characters.back().kind = CharacterDescription::Kind::kStdio;
  EXPECT_EQ(look(), -1);
  ::dup2(input.get(), STDIN_FILENO);
}

TEST_F(MachineTest, TerminationSignalEndsAHaltedMachineWithinASecond) {
  const auto start = std::chrono::steady_clock::now();
  const auto status = run([](Guest& guest) {
    ::kill(::getpid(), SIGTERM);
    guest.wait();
    return Exit{};
  });
  EXPECT_EQ(status.value(), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
}

TEST_F(MachineTest, SerialPortWritesToItsFile) {
  description_.characters.push_back(
      {.id = "s0", .kind = CharacterDescription::Kind::kFile, .path = folder_ / "serial.log"});
  description_.serials.push_back("s0");
  EXPECT_TRUE(run([](Guest& guest) {
    for (const char c : std::string("hello"))
      guest.machine.ports.write(kCom1, 1, static_cast<uint8_t>(c));
    return power_off(guest);
  }));
  EXPECT_EQ(content(folder_ / "serial.log"), "hello");
}

TEST_F(MachineTest, DrivesAreOnThePciBusInOrder) {
  description_.type = "q35";
  for (const auto* name : {"a", "b"}) {
    std::ofstream(folder_ / name) << std::string(1024, 'x');
    description_.drives.push_back({.file = folder_ / name});
  }
  EXPECT_TRUE(run([](Guest& guest) {
    for (const uint32_t slot : {1u, 2u}) {
      guest.machine.ports.write(0xCF8, 4, 0x8000'0000 | slot << 11);
      EXPECT_EQ(guest.machine.ports.read(0xCFC, 4), 0x1042'1AF4u) << slot;
    }
    return power_off(guest);
  }));
}

TEST_F(MachineTest, ErrorsBeforeTheStartNameTheValueAndLeaveNothing) {
  description_.characters.push_back(
      {.id = "s0", .kind = CharacterDescription::Kind::kFile, .path = folder_ / "serial.log"});
  description_.serials.push_back("s0");
  description_.drives.push_back({.file = folder_ / "missing.img"});
  EXPECT_THAT(create_error(), HasSubstr("missing.img"));
  description_.drives.clear();
  description_.kernel = folder_ / "missing-kernel";
  EXPECT_THAT(create_error(), HasSubstr("missing-kernel"));
  description_.kernel = folder_ / "kernel";
  description_.devices.push_back({"virtio-rng-pci", {{"bus", "pcie.7"}}});
  EXPECT_THAT(create_error(), HasSubstr("pcie.7"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "serial.log"));
}

TEST_F(MachineTest, MemoryMustBeThereAndNotBeyondTheHost) {
  description_.memory_bytes = 0;
  EXPECT_THAT(create_error(), HasSubstr("memory of 0 bytes"));
  description_.memory_bytes = uint64_t{1} << 50;
  EXPECT_THAT(create_error(), HasSubstr("memory of 1 PiB: this host has"));
}

TEST_F(MachineTest, ProcessorsMustBeAsManyAsTheAcceleratorRuns) {
  for (const unsigned count : {9u, 100'000u, UINT_MAX}) {
    description_.vcpus = count;
    EXPECT_EQ(create_error(), fmt::format("{} processors are too many; accelerator 'scripted' runs "
                                          "at most 8",
                                          count));
  }
}

TEST_F(MachineTest, AProcessorModelMustBeKnown) {
  description_.cpu = "qemu46";
  EXPECT_THAT(create_error(), HasSubstr("qemu46"));
}

TEST_F(MachineTest, TwoMachinesNeverShareADisk) {
  std::ofstream(folder_ / "disk") << std::string(1024, 'x');
  description_.drives.push_back({.file = folder_ / "disk"});
  const auto first = create([](Guest&) { return Exit{}; });
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_THAT(create_error(), HasSubstr("disk"));
}

TEST_F(MachineTest, DrivesThatAreOnlyReadMayHaveOneFile) {
  std::ofstream(folder_ / "disk") << std::string(1024, 'x');
  for (int i = 0; i < 2; ++i)
    description_.drives.push_back({.file = folder_ / "disk", .read_only = true});
  const auto machine = create([](Guest&) { return Exit{}; });
  EXPECT_TRUE(machine) << machine.error().message;
}

TEST_F(MachineTest, ADriveHasOneDevice) {
  std::ofstream(folder_ / "disk") << std::string(1024, 'x');
  description_.drives.push_back({.id = "d0", .file = folder_ / "disk", .interface = "none"});
  description_.devices.push_back({"virtio-blk-pci", {{"drive", "d0"}}});
  description_.devices.push_back({"virtio-blk-pci", {{"drive", "d0"}}});
  EXPECT_THAT(create_error(), HasSubstr("Drive 'd0' is already in use by another device"));
}

TEST_F(MachineTest, ConsolePortsNeedTheirController) {
  description_.devices.push_back({"virtconsole", {}});
  EXPECT_THAT(create_error(), HasSubstr("No 'virtio-serial-bus' bus found"));
}

}  // namespace
}  // namespace limen::machine
