// The interfaces of a TPM by their registers, with a backend that answers when it is told to.
#include <gtest/gtest.h>

#include <functional>
#include <utility>
#include <vector>

#include "device/tpm/crb.h"
#include "device/tpm/tis.h"

namespace limen::device {
namespace {

using Bytes = std::vector<uint8_t>;

const Bytes kCommand = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8};
const Bytes kResponse = {0x80, 0x01, 0, 0, 0, 14, 0, 0, 0, 0, 0xDE, 0xAD, 0xBE, 0xEF};

struct Backend final : TpmBackend {
  [[nodiscard]] uint32_t buffer_bytes() const override { return 4096; }
  void start() override { ++starts; }
  void execute(uint8_t from, std::vector<uint8_t> bytes,
               std::function<void(Response)> then) override {
    locality = from;
    command = std::move(bytes);
    done = std::move(then);
    ++executed;
    if (at_once) std::exchange(done, {})(kResponse);
  }
  void cancel() override { ++cancelled; }
  [[nodiscard]] bool established() override { return false; }
  void reset_established(uint8_t) override { ++established_resets; }

  bool at_once = true;
  unsigned starts = 0, executed = 0, cancelled = 0, established_resets = 0;
  uint8_t locality = 0xFF;
  Bytes command;
  std::function<void(Response)> done;
};

class TisTest : public testing::Test {
 protected:
  static constexpr uint32_t kAccess = 0x0, kSts = 0x18, kFifo = 0x24, kWideFifo = 0x80;

  TisTest() { tpm_.reset(); }
  uint32_t get(uint32_t offset, unsigned size = 4, unsigned locality = 0) {
    return static_cast<uint32_t>(mmio_.read(TpmTis::kBase + locality * 0x1000 + offset, size));
  }
  void set(uint32_t offset, uint32_t value, unsigned size = 4, unsigned locality = 0) {
    mmio_.write(TpmTis::kBase + locality * 0x1000 + offset, size, value);
  }
  void begin(unsigned locality = 0) {
    set(kAccess, 2, 1, locality);
    set(kSts, 0x40, 1, locality);
  }
  void send(const Bytes& bytes) {
    for (const uint8_t byte : bytes) set(kFifo, byte, 1);
  }
  Bytes receive() {
    Bytes bytes;
    while ((get(kSts) & 0x10) != 0) bytes.push_back(static_cast<uint8_t>(get(kFifo, 1)));
    return bytes;
  }

  memory::IoSpace mmio_{"mmio"};
  Backend backend_;
  TpmTis tpm_{mmio_, backend_};
};

TEST_F(TisTest, ExecutesACommand) {
  EXPECT_EQ(get(0xF00), 0x0001'1014u);
  EXPECT_EQ(get(0x30) & 0xF, 0u);  // a FIFO
  EXPECT_EQ(get(kAccess, 1), 0x81u);
  EXPECT_EQ(get(kSts), UINT32_MAX);  // nobody has it
  begin();
  EXPECT_EQ(get(kAccess, 1), 0xA1u);
  EXPECT_EQ(get(kSts) & 0xFF, 0xC4u);
  EXPECT_EQ(get(kSts) >> 26, 1u);
  EXPECT_EQ(get(kSts) >> 8 & 0xFFFF, 4096u);
  send({kCommand.begin(), kCommand.end() - 1});
  EXPECT_EQ(get(kSts) & 0x08, 0x08u);  // it expects more
  send({kCommand.back()});
  EXPECT_EQ(get(kSts) & 0x08, 0u);
  set(kSts, 0x20, 1);
  EXPECT_EQ(backend_.command, kCommand);
  EXPECT_EQ(backend_.locality, 0);
  EXPECT_EQ(get(kSts) >> 8 & 0xFFFF, 14u);
  EXPECT_EQ(receive(), kResponse);
  set(kSts, 0x02, 1);  // once more
  EXPECT_EQ(receive(), kResponse);
  set(kSts, 0x40, 1);
  EXPECT_EQ(get(kSts) & 0xFF, 0xC4u);
}

TEST_F(TisTest, TakesAndGivesWordsAtAnyFifoAddress) {
  begin();
  set(kFifo, 0x0000'0180, 4);
  set(kWideFifo, 0x0000'0C00, 4);
  set(kWideFifo + 8, 0x0800'7B01, 4);
  set(kSts, 0x20, 1);
  EXPECT_EQ(backend_.command, kCommand);
  EXPECT_EQ(get(kWideFifo), 0x0000'0180u);
  EXPECT_EQ(get(kWideFifo + 4), 0x0000'0E00u);
}

TEST_F(TisTest, WaitsForTheBackend) {
  backend_.at_once = false;
  begin();
  send(kCommand);
  set(kSts, 0x20, 1);
  EXPECT_EQ(get(kSts) & 0x50, 0u);
  set(kSts, 1u << 24);
  EXPECT_EQ(backend_.cancelled, 1u);
  backend_.done(kResponse);
  EXPECT_EQ(receive(), kResponse);
}

TEST_F(TisTest, ACommandThatIsGivenUpLeavesNothingBehind) {
  backend_.at_once = false;
  begin();
  send(kCommand);
  set(kSts, 0x20, 1);
  set(kSts, 0x40, 1);
  EXPECT_EQ(backend_.cancelled, 1u);
  EXPECT_EQ(get(kSts) & 0x40, 0u);  // not before the backend is through
  backend_.done(kResponse);
  EXPECT_EQ(get(kSts) & 0xFF, 0xC4u);
}

TEST_F(TisTest, ALengthThatIsNotWhatCameIsRefused) {
  begin();
  send({0x80, 0x01, 0, 0, 0, 3});
  set(kSts, 0x20, 1);
  EXPECT_EQ(backend_.executed, 0u);
  EXPECT_EQ(receive(), (Bytes{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x42}));
  set(kSts, 0x40, 1);
  send({0x80, 0x01, 0xFF, 0, 0, 0});
  for (unsigned i = 0; i < 5000; ++i) set(kFifo, 0, 1);
  set(kSts, 0x20, 1);
  EXPECT_EQ(backend_.executed, 0u);
  EXPECT_EQ(receive().back(), 0x42);
}

TEST_F(TisTest, LocalitiesTakeTurns) {
  begin(0);
  set(kAccess, 2, 1, 2);
  EXPECT_EQ(get(kAccess, 1, 2), 0x83u);
  EXPECT_EQ(get(kAccess, 1, 0), 0xA5u);  // somebody waits
  set(kAccess, 0x20, 1, 0);
  EXPECT_EQ(get(kAccess, 1, 2), 0xA1u);
  set(kAccess, 8, 1, 1);  // lower: it cannot seize
  EXPECT_EQ(get(kAccess, 1, 2), 0xA1u);
  set(kAccess, 8, 1, 3);
  EXPECT_EQ(get(kAccess, 1, 2), 0x91u);
  EXPECT_EQ(get(kAccess, 1, 3), 0xA1u);
  set(kAccess, 0x10, 1, 2);
  EXPECT_EQ(get(kAccess, 1, 2), 0x81u);
  set(kSts, 1u << 25, 4, 3);
  EXPECT_EQ(backend_.established_resets, 1u);
}

TEST_F(TisTest, ResetStartsTheBackendAgain) {
  begin();
  send(kCommand);
  tpm_.reset();
  EXPECT_EQ(backend_.starts, 2u);
  EXPECT_EQ(get(kAccess, 1), 0x81u);
}

class CrbTest : public testing::Test {
 protected:
  CrbTest() { tpm_.reset(); }
  uint32_t get(uint32_t offset, unsigned size = 4) {
    return static_cast<uint32_t>(mmio_.read(TpmCrb::kBase + offset, size));
  }
  void set(uint32_t offset, uint32_t value, unsigned size = 4) {
    mmio_.write(TpmCrb::kBase + offset, size, value);
  }
  void begin() {
    set(0x08, 1);
    set(0x40, 1);
  }
  void send(const Bytes& bytes) {
    for (size_t i = 0; i < bytes.size(); ++i)
      set(static_cast<uint32_t>(TpmCrb::kBuffer + i), bytes[i], 1);
    set(0x4C, 1);
  }
  Bytes buffer(size_t bytes) {
    Bytes all;
    for (size_t i = 0; i < bytes; ++i)
      all.push_back(static_cast<uint8_t>(get(static_cast<uint32_t>(TpmCrb::kBuffer + i), 1)));
    return all;
  }

  memory::IoSpace mmio_{"mmio"};
  Backend backend_;
  TpmCrb tpm_{mmio_, backend_};
};

TEST_F(CrbTest, ExecutesACommand) {
  EXPECT_EQ(get(0x30) & 0xF, 1u);
  EXPECT_EQ(get(0x00), 0x81u);
  EXPECT_EQ(get(0x44), 2u);  // idle
  EXPECT_EQ(get(0x58), TpmCrb::kBufferBytes);
  EXPECT_EQ(get(0x5C), 0xFED4'0080u);
  begin();
  EXPECT_EQ(get(0x00), 0x83u);
  EXPECT_EQ(get(0x0C), 1u);
  EXPECT_EQ(get(0x44), 0u);
  send(kCommand);
  EXPECT_EQ(get(0x4C), 0u);
  EXPECT_EQ(backend_.command, kCommand);
  EXPECT_EQ(buffer(kResponse.size()), kResponse);
  set(0x40, 2);
  EXPECT_EQ(get(0x44), 2u);
}

TEST_F(CrbTest, WaitsForTheBackend) {
  backend_.at_once = false;
  begin();
  send(kCommand);
  EXPECT_EQ(get(0x4C), 1u);
  EXPECT_EQ(get(TpmCrb::kBuffer), UINT32_MAX);
  set(0x48, 1);
  EXPECT_EQ(backend_.cancelled, 1u);
  backend_.done(kResponse);
  EXPECT_EQ(get(0x4C), 0u);
  EXPECT_EQ(buffer(4), (Bytes{0x80, 0x01, 0, 0}));
}

TEST_F(CrbTest, StartsNothingWhileItIsIdleOrTheLengthIsWrong) {
  send(kCommand);
  EXPECT_EQ(backend_.executed, 0u);
  begin();
  send({0x80, 0x01, 0, 1, 0, 0});
  EXPECT_EQ(backend_.executed, 0u);
  EXPECT_EQ(buffer(10).back(), 0x42);
}

TEST_F(CrbTest, AResponseThatDoesNotFitIsAFailure) {
  backend_.at_once = false;
  begin();
  send(kCommand);
  backend_.done(Bytes(4000));
  EXPECT_EQ(buffer(10), (Bytes{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01}));
}

}  // namespace
}  // namespace limen::device
