#include "device/fw_cfg.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace limen::device
