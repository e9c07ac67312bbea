// A disk whose host has no room: the machine stands still, and goes on without a lost byte.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>

#include "machine/machine.h"
#include "machine/scripted_accelerator.h"

namespace limen::machine {
namespace {

using testing::TemporaryFolder;

/// Where scripts/run keeps the guest; empty if it did not run yet.
std::filesystem::path guest_folder() {
  const char* cache = std::getenv("LIMEN_CACHE");
  const char* home = std::getenv("HOME");
  const std::filesystem::path folder =
      (cache != nullptr ? std::filesystem::path(cache)
                        : std::filesystem::path(home != nullptr ? home : "/") / ".cache/limen") /
      "debian-12-1";
  return std::filesystem::exists(folder / "vmlinuz") ? folder : std::filesystem::path();
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class FullDisk : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (guest_folder().empty()) GTEST_SKIP() << "the guest disk was not made yet";
    if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    small_ = folder_ / "small";
    std::filesystem::create_directory(small_);
    if (::mount("tmpfs", small_.c_str(), "tmpfs", 0, "size=2m") != 0)
      GTEST_SKIP() << "cannot mount here";
    mounted_ = true;
    std::ofstream(small_ + "/disk.img").close();
    std::filesystem::resize_file(small_ + "/disk.img", 16 << 20);
  }
  void TearDown() override {
    if (mounted_) ::umount(small_.c_str());
  }

  /// The guest writes 8 MiB of counted lines to the disk, says so and powers off.
  MachineDescription description(const std::string& driver, const std::string& device) {
    const auto guest = guest_folder();
    MachineDescription machine;
    machine.memory_bytes = uint64_t{512} << 20;
    machine.kernel = guest / "vmlinuz";
    machine.initrd = guest / "initrd.img";
    machine.append =
        "console=ttyS0 quiet root=/dev/vda ro init=/bin/bash -- -c \"seq 100000000 | head -c 8M | "
        "dd of=" +
        device +
        " bs=64k iflag=fullblock oflag=direct && echo WRITTEN >/dev/ttyS0; echo o "
        ">/proc/sysrq-trigger; while :; do :; done\"";
    machine.characters.push_back(
        {.id = "log", .kind = CharacterDescription::Kind::kFile, .path = folder_ / "serial.log"});
    machine.serials = {"log"};
    machine.drives.push_back(
        {.id = "root", .file = guest / "disk.raw", .interface = "virtio", .read_only = true});
    machine.drives.push_back({.id = "d", .file = small_ + "/disk.img", .interface = "none"});
    machine.devices.push_back({"virtio-blk-pci", {{"drive", "root"}}});
    if (driver == "scsi-hd") machine.devices.push_back({"virtio-scsi-pci", {}});
    machine.devices.push_back({driver, {{"drive", "d"}}});
    return machine;
  }

  TemporaryFolder folder_;
  std::string small_;
  bool mounted_ = false;
};

TEST_P(FullDisk, StopsTheMachineWhichGoesOnWithoutALostByte) {
  const bool scsi = GetParam() == "scsi-hd";
  auto machine = Machine::create(description(GetParam(), scsi ? "/dev/sda" : "/dev/vdb"));
  ASSERT_TRUE(machine) << machine.error().message;
  std::atomic<bool> ended = false;
  int stops = 0;
  std::thread person([&] {
    for (int i = 0; i < 12'000 && !ended; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      if ((*machine)->run_state() != RunState::kIoError) continue;
      ++stops;
      // At first nothing is done about it: the machine stops again.
      if (stops > 3) ::mount("tmpfs", small_.c_str(), "tmpfs", MS_REMOUNT, "size=32m");
      (*machine)->loop().post([&] { static_cast<void>((*machine)->cont()); });
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    if (!ended) (*machine)->quit();
  });
  const auto outcome = (*machine)->run();
  ended = true;
  person.join();
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(*outcome, 0);
  EXPECT_GE(stops, 4);
  machine->reset();
  const auto log = content(folder_ / "serial.log");
  const auto written = log.find("WRITTEN");
  EXPECT_NE(written, std::string::npos) << log;
  // Later ones are the guest's own: a kernel that powers off takes its disks away first, and
  // /bin/sleep may still be on its way from the root disk.
  EXPECT_GE(log.find("I/O error"), written) << log;
  std::string wanted;
  for (unsigned i = 1; wanted.size() < 8 << 20; ++i) wanted += std::to_string(i) + "\n";
  wanted.resize(16 << 20);
  std::fill(wanted.begin() + (8 << 20), wanted.end(), '\0');
  EXPECT_TRUE(content(small_ + "/disk.img") == wanted);
}

INSTANTIATE_TEST_SUITE_P(Devices, FullDisk, ::testing::Values("virtio-blk-pci", "scsi-hd"),
                         [](const auto& each) { return each.index == 0 ? "VirtioBlk" : "ScsiHd"; });

}  // namespace
}  // namespace limen::machine
