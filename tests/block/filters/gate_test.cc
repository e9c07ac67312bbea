#include "block/filters/gate.h"

#include <atomic>
#include <thread>

#include "block/null_device.h"
#include "block/open_image.h"
#include "block/scratch.h"

namespace limen::block {
namespace {

class GateTest : public ::testing::Test {
 protected:
  std::unique_ptr<BlockDevice> open(const std::string& name, uint64_t size) {
    return open_image(folder_.image(name, size), "raw", {}).value();
  }
  ScratchFolder folder_;
};

TEST_F(GateTest, RequestsThatComeWhileItIsClosedAreMadeOfTheNewImage) {
  Gate gate(open("old", 65536));
  std::atomic<int> ended = 0;
  std::vector<uint8_t> bytes(512, 7);
  const auto exchanged = gate.exchange([&](std::unique_ptr<BlockDevice>& image) -> Result<> {
    Request request{.kind = Request::Kind::kWrite, .buffers = {buffer_of(bytes)}};
    request.done = [&](int error) { ended = error == 0 ? 1 : -1; };
    gate.submit(std::move(request));
    EXPECT_EQ(ended, 0);
    image = open("new", 131072);
    return {};
  });
  EXPECT_TRUE(exchanged);
  EXPECT_TRUE(gate.drain());
  EXPECT_EQ(ended, 1);
  EXPECT_EQ(gate.size(), 131072u);
  const auto first_byte = [&](const std::string& name) {
    return std::ifstream(folder_.path(name), std::ios::binary).get();
  };
  EXPECT_EQ(first_byte("old"), 0);
  EXPECT_EQ(first_byte("new"), 7);
}

TEST_F(GateTest, EveryRequestEndsOnceWhileImagesAreExchangedAgainAndAgain) {
  Gate gate(open("0", 65536));
  std::atomic<bool> stop = false;
  std::atomic<int> failed = 0;
  std::atomic<uint64_t> made = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      while (!stop) {
        if (write_at(gate, 4096, std::vector<uint8_t>(4096, 1)) != 0) ++failed;
        ++made;
      }
    });
  for (int i = 1; i <= 50; ++i)
    EXPECT_TRUE(gate.exchange([&](std::unique_ptr<BlockDevice>& image) -> Result<> {
      image.reset();
      image = open(std::to_string(i % 2), 65536);
      return {};
    }));
  stop = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GT(made, 0u);
}

TEST_F(GateTest, SizeChangesAndErrorsLeaveTheImageAsItWas) {
  Gate gate(open("disk", 65536));
  EXPECT_TRUE(gate.resize(131072));
  EXPECT_EQ(gate.size(), 131072u);
  EXPECT_EQ(write_at(gate, 131072 - 512, std::vector<uint8_t>(512, 1)), 0);
  EXPECT_TRUE(gate.resize(4096));
  EXPECT_EQ(write_at(gate, 4096, std::vector<uint8_t>(512, 1)), EIO);
  const auto refused =
      gate.exchange([](std::unique_ptr<BlockDevice>&) -> Result<> { return fail("no"); });
  EXPECT_EQ(refused.error().message, "no");
  EXPECT_EQ(write_at(gate, 0, std::vector<uint8_t>(512, 1)), 0);
  Gate none(std::make_unique<NullDevice>(4096, true, false));
  EXPECT_FALSE(none.resize(8192));
}

}  // namespace
}  // namespace limen::block
