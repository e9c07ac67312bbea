#include "device/fw_cfg.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <optional>
#include <string>

namespace limen::device {
namespace {

class FwCfgTest : public testing::Test {
 protected:
  std::string read(uint16_t key, size_t size) {
    ports_.write(0x510, 2, key);
    std::string bytes;
    while (bytes.size() < size) bytes += static_cast<char>(ports_.read(0x511, 1));
    return bytes;
  }

  memory::IoSpace ports_{"ports"};
  FwCfg device_{ports_, {.ram_bytes = 0x1'2000'0000, .processors = 3, .most_processors = 4}};
};

TEST_F(FwCfgTest, ItemsAreReadByteByByteAndEndInZeros) {
  using namespace std::string_literals;
  EXPECT_EQ(read(0x00, 6), "QEMU\0\0"s);
  EXPECT_EQ(read(0x01, 4), "\1\0\0\0"s);
  EXPECT_EQ(read(0x03, 8), "\0\0\0\x20\1\0\0\0"s);
  EXPECT_EQ(read(0x05, 2), "\3\0"s);
  EXPECT_EQ(read(0x0F, 2), "\4\0"s);
  EXPECT_EQ(read(0x19, 4), "\0\0\0\0"s);
  EXPECT_EQ(read(0x4000, 2), "\0\0"s) << "there is no such item";
}

TEST_F(FwCfgTest, SelectingAgainStartsOver) {
  EXPECT_EQ(read(0x00, 2), "QE");
  EXPECT_EQ(read(0x00, 4), "QEMU");
  ports_.write(0x511, 1, 'x');
  EXPECT_EQ(read(0x00, 4), "QEMU") << "data cannot be written";
  read(0x05, 1);
  device_.reset();
  EXPECT_EQ(ports_.read(0x511, 1), 'Q');
}

class FwCfgDma : public testing::Test {
 protected:
  static constexpr uint64_t kRequest = 0x1000, kBuffer = 0x2000;
  static constexpr uint32_t kRead = 2, kSkip = 4, kSelect = 8, kWrite = 16;

  FwCfgDma() {
    const std::array layout = {memory::GuestMemory::Layout{{0}, 0x1'0000}};
    memory_ = std::move(*memory::GuestMemory::create(layout));
    device_.emplace(ports_, FwCfg::Config{.memory = memory_.get()});
    device_->set_file("etc/numbers", {1, 2, 3, 4, 5});
  }
  /// The control field that the device leaves.
  uint32_t request(uint32_t control, uint32_t length, uint64_t address) {
    const std::array<uint32_t, 4> fields = {__builtin_bswap32(control), __builtin_bswap32(length),
                                            __builtin_bswap32(static_cast<uint32_t>(address >> 32)),
                                            __builtin_bswap32(static_cast<uint32_t>(address))};
    EXPECT_TRUE(memory_->write({kRequest}, std::as_bytes(std::span(fields))));
    ports_.write(0x514, 4, 0);
    ports_.write(0x518, 4, __builtin_bswap32(kRequest));
    uint32_t left = 0;
    EXPECT_TRUE(memory_->read({kRequest}, std::as_writable_bytes(std::span(&left, 1))));
    return __builtin_bswap32(left);
  }
  std::string buffer(size_t size) {
    std::string bytes(size, 0);
    EXPECT_TRUE(memory_->read({kBuffer}, std::as_writable_bytes(std::span(bytes))));
    return bytes;
  }
  /// The key of a file, from the directory.
  uint32_t key_of(const std::string& name) {
    EXPECT_EQ(request(kSelect | kRead | 0x19 << 16, 1024, kBuffer), 0u);
    const auto directory = buffer(1024);
    const auto at = directory.find(name);
    if (at == std::string::npos) return 0;
    return static_cast<uint32_t>(static_cast<uint8_t>(directory[at - 4]) << 8 |
                                 static_cast<uint8_t>(directory[at - 3]));
  }

  memory::IoSpace ports_{"ports"};
  std::unique_ptr<memory::GuestMemory> memory_;
  std::optional<FwCfg> device_;
};

TEST_F(FwCfgDma, IsAnnounced) {
  EXPECT_EQ(ports_.read(0x514, 4), 0x554D'4551u);  // "QEMU"
  EXPECT_EQ(ports_.read(0x518, 4), 0x4746'4320u);  // " CFG"
  ports_.write(0x510, 2, 1);
  EXPECT_EQ(ports_.read(0x511, 1), 3u) << "both interfaces";
}

TEST_F(FwCfgDma, ReadsFilesByNameAndZeroesBehindTheirEnd) {
  using namespace std::string_literals;
  const uint32_t key = key_of("etc/numbers");
  ASSERT_GE(key, 0x20u);
  EXPECT_EQ(request(key << 16 | kSelect | kRead, 8, kBuffer), 0u);
  EXPECT_EQ(buffer(8), "\1\2\3\4\5\0\0\0"s);
}

TEST_F(FwCfgDma, SkipsAndGoesOn) {
  using namespace std::string_literals;
  const uint32_t key = key_of("etc/numbers");
  EXPECT_EQ(request(key << 16 | kSelect | kSkip, 2, 0), 0u);
  EXPECT_EQ(request(kRead, 2, kBuffer), 0u);
  EXPECT_EQ(buffer(2), "\3\4"s);
  EXPECT_EQ(request(kSkip, 0xFFFF'FFFF, 0), 0u);
  EXPECT_EQ(request(kRead, 1, kBuffer), 0u);
  EXPECT_EQ(buffer(1), "\0"s);
}

TEST_F(FwCfgDma, WhatCannotBeDoneIsAnError) {
  const uint32_t key = key_of("etc/numbers");
  EXPECT_EQ(request(key << 16 | kSelect | kRead, 4, 0x1'0000'0000), 1u) << "no memory there";
  EXPECT_EQ(request(key << 16 | kSelect | kWrite, 4, kBuffer), 1u) << "not for writing";
  ports_.write(0x514, 4, 0);
  ports_.write(0x518, 4, 0xFFFF'FFFF);  // a request outside memory: nobody to tell
}

TEST_F(FwCfgDma, AFileThatIsMadeIsAskedForEachTimeItIsSelected) {
  uint8_t made = 0;
  device_->set_file("etc/made", 1, [&made] { return FwCfg::Bytes{++made}; });
  const uint32_t key = key_of("etc/made");
  EXPECT_EQ(made, 0);
  request(key << 16 | kSelect | kRead, 1, kBuffer);
  request(key << 16 | kSelect | kRead, 1, kBuffer);
  EXPECT_EQ(buffer(1), "\2");
}

}  // namespace
}  // namespace limen::device
