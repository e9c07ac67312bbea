#include "device/uart_16550.h"

#include "device/pc_fixture.h"

namespace limen::device {
namespace {

constexpr uint16_t kBase = 0x3F8;
enum : uint16_t { kData, kIer, kIir, kLcr, kMcr, kLsr, kMsr, kScratch };

class SerialPort : public DeviceTest {
 protected:
  void SetUp() override { set(kMcr, 0x08); }
  uint32_t get(uint16_t reg) { return in(static_cast<uint16_t>(kBase + reg)); }
  void set(uint16_t reg, uint32_t value) { out(static_cast<uint16_t>(kBase + reg), value); }
  bool interrupt() { return sink_.level(4); }

  FakeBackend backend_;
  Uart16550 uart_{ports_, kBase, line(4), backend_, *loop_};
};

TEST_F(SerialPort, SendsBytesToTheBackend) {
  for (const char c : std::string("ok\n")) set(kData, static_cast<uint8_t>(c));
  EXPECT_EQ(backend_.output, "ok\n");
  EXPECT_EQ(get(kLsr), 0x60u);
}

TEST_F(SerialPort, DivisorLatchStandsInFrontOfDataAndInterruptEnable) {
  set(kIer, 0x05);
  set(kLcr, 0x83);
  set(kData, 0x34);
  set(kIer, 0x12);
  EXPECT_EQ(get(kData), 0x34u);
  EXPECT_EQ(get(kIer), 0x12u);
  EXPECT_TRUE(backend_.output.empty());
  set(kLcr, 0x03);
  EXPECT_EQ(get(kIer), 0x05u);
  EXPECT_EQ(get(kLcr), 0x03u);
}

TEST_F(SerialPort, ScratchAndReservedBitsAreThoseOfA16550A) {
  set(kScratch, 0xA5);
  EXPECT_EQ(get(kScratch), 0xA5u);
  set(kIer, 0xFF);
  EXPECT_EQ(get(kIer), 0x0Fu);
  set(kMcr, 0xFF);
  EXPECT_EQ(get(kMcr), 0x1Fu);
  EXPECT_EQ(get(kIir) & 0xC0, 0u);
  set(kIir, 0x01);
  EXPECT_EQ(get(kIir) & 0xC0, 0xC0u);
}

TEST_F(SerialPort, RaisesThresholdInterruptWhenTransmitterEmpties) {
  set(kIer, 0x02);
  EXPECT_TRUE(interrupt());  // empty already
  EXPECT_EQ(get(kIir), 0x02u);
  EXPECT_FALSE(interrupt());  // reading the IIR took it
  EXPECT_EQ(get(kIir), 0x01u);
  set(kData, 'x');
  EXPECT_TRUE(interrupt());
  EXPECT_EQ(sink_.rises(4), 2);
}

TEST_F(SerialPort, EnablingTheTransmitInterruptAgainRaisesItAgain) {
  set(kIer, 0x02);
  get(kIir);
  set(kIer, 0x00);
  set(kIer, 0x02);
  EXPECT_EQ(get(kIir), 0x02u);
}

TEST_F(SerialPort, Out2GatesTheInterrupt) {
  set(kMcr, 0x00);
  set(kIer, 0x02);
  EXPECT_FALSE(interrupt());
  set(kMcr, 0x08);
  EXPECT_TRUE(interrupt());
}

TEST_F(SerialPort, ReceivedByteRaisesDataReadyAndInterrupt) {
  set(kIer, 0x01);
  EXPECT_EQ(backend_.room(), 1u);
  backend_.type("a");
  EXPECT_EQ(backend_.room(), 0u);
  EXPECT_TRUE(interrupt());
  EXPECT_EQ(get(kLsr), 0x61u);
  EXPECT_EQ(get(kIir), 0x04u);
  EXPECT_EQ(get(kData), static_cast<uint32_t>('a'));
  EXPECT_FALSE(interrupt());
  EXPECT_EQ(backend_.accepts, 1);
  EXPECT_EQ(get(kLsr), 0x60u);
}

TEST_F(SerialPort, FifoInterruptsAtTheTriggerLevelAndTimesOutBelow) {
  set(kIir, 0x81);  // FIFO, trigger 8
  set(kIer, 0x01);
  EXPECT_EQ(backend_.room(), 16u);
  backend_.type("1234567");
  EXPECT_FALSE(interrupt());
  EXPECT_EQ(get(kLsr) & 1, 1u);
  advance(std::chrono::milliseconds(10));
  EXPECT_TRUE(interrupt());
  EXPECT_EQ(get(kIir), 0xCCu);  // character timeout
  get(kData);
  EXPECT_FALSE(interrupt());
  backend_.type("89");
  EXPECT_EQ(get(kIir), 0xC4u);
  std::string text;
  while ((get(kLsr) & 1) != 0) text += static_cast<char>(get(kData));
  EXPECT_EQ(text, "23456789");
  EXPECT_FALSE(interrupt());
  advance(std::chrono::milliseconds(10));
  EXPECT_FALSE(interrupt());
}

TEST_F(SerialPort, OverrunIsReportedOnceAndKeepsTheFifo) {
  set(kIir, 0x01);
  set(kIer, 0x04);
  backend_.type("0123456789abcdefX");
  EXPECT_TRUE(interrupt());
  EXPECT_EQ(get(kIir), 0xC6u);
  EXPECT_EQ(get(kLsr), 0x63u);
  EXPECT_EQ(get(kLsr), 0x61u);
  EXPECT_FALSE(interrupt());
  for (int i = 0; i < 15; ++i) get(kData);
  EXPECT_EQ(get(kData), static_cast<uint32_t>('f'));
}

TEST_F(SerialPort, InterruptsAreIdentifiedByPriority) {
  set(kIer, 0x0F);
  backend_.type("ab");  // one too many without FIFO: overrun
  set(kMcr, 0x18);
  set(kMcr, 0x08);  // the modem lines changed on the way
  EXPECT_EQ(get(kIir), 0x06u);
  get(kLsr);
  EXPECT_EQ(get(kIir), 0x04u);
  get(kData);
  EXPECT_EQ(get(kIir), 0x02u);
  EXPECT_EQ(get(kIir), 0x00u);
  get(kMsr);
  EXPECT_EQ(get(kIir), 0x01u);
  EXPECT_FALSE(interrupt());
}

TEST_F(SerialPort, LoopbackReturnsBytesAndModemLines) {
  set(kMcr, 0x1A);
  EXPECT_EQ(get(kMsr) & 0xF0, 0x90u);  // as Linux probes: RTS to CTS, OUT2 to DCD
  set(kData, 0x5A);
  EXPECT_TRUE(backend_.output.empty());
  EXPECT_EQ(get(kData), 0x5Au);
  EXPECT_EQ(backend_.room(), 0u);
  set(kMcr, 0x08);
  EXPECT_EQ(get(kMsr) & 0xF0, 0xB0u);
  EXPECT_GE(backend_.accepts, 1);
}

TEST_F(SerialPort, ModemStatusDeltasClearWhenRead) {
  set(kMcr, 0x10);
  get(kMsr);
  set(kMcr, 0x1F);
  EXPECT_EQ(get(kMsr), 0xFBu);  // RI reports its fall only
  EXPECT_EQ(get(kMsr), 0xF0u);
  set(kMcr, 0x1B);
  EXPECT_EQ(get(kMsr), 0xB4u);
}

TEST_F(SerialPort, FifoResetDropsInputAndMakesRoom) {
  set(kIir, 0x01);
  backend_.type("abc");
  set(kIir, 0x03);
  EXPECT_EQ(get(kLsr) & 1, 0u);
  EXPECT_EQ(backend_.room(), 16u);
  EXPECT_EQ(backend_.accepts, 2);
}

TEST_F(SerialPort, ResetReleasesTheInterrupt) {
  set(kIer, 0x02);
  EXPECT_TRUE(interrupt());
  uart_.reset();
  EXPECT_FALSE(interrupt());
  EXPECT_EQ(get(kIer), 0u);
}

}  // namespace
}  // namespace limen::device
