#include "block/uring_queue.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>

#include "block/raw_image.h"
#include "block/scratch.h"

namespace limen::block {
namespace {

constexpr size_t kBlock = 4096;

class UringQueueTest : public testing::Test {
 protected:
  void SetUp() override {
    thread_ = *LoopThread::create("test");
    auto queue = UringQueue::create(*thread_);
    if (!queue) GTEST_SKIP() << queue.error().message;
    queue_ = std::move(*queue);
    file_.reset(::open(folder_.image("disk", 64 * kBlock).c_str(), O_RDWR | O_CLOEXEC));
  }
  int transfer(bool write, uint64_t offset, std::vector<iovec> buffers) {
    std::promise<int> promise;
    queue_->submit({.fd = file_.get(),
                    .write = write,
                    .buffers = std::move(buffers),
                    .offset = offset,
                    .done = [&](int error) { promise.set_value(error); }});
    return promise.get_future().get();
  }

  ScratchFolder folder_;
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<UringQueue> queue_;
  UniqueFd file_;
};

TEST_F(UringQueueTest, ReadsBackWhatItWrote) {
  std::vector<uint8_t> first(kBlock, 1), second(2 * kBlock, 2), all(3 * kBlock);
  EXPECT_EQ(transfer(true, kBlock, {buffer_of(first), buffer_of(second)}), 0);
  EXPECT_EQ(transfer(false, kBlock, {buffer_of(all)}), 0);
  EXPECT_EQ(all[0], 1);
  EXPECT_EQ(all[kBlock], 2);
  EXPECT_EQ(all[3 * kBlock - 1], 2);
}

TEST_F(UringQueueTest, PastTheEndOfTheFileFails) {
  std::vector<uint8_t> bytes(2 * kBlock);
  EXPECT_EQ(transfer(false, 63 * kBlock, {buffer_of(bytes)}), EIO);
}

TEST_F(UringQueueTest, ErrorsArePassedOn) {
  std::vector<uint8_t> bytes(kBlock);
  file_.reset(::open("/dev/full", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(transfer(true, 0, {buffer_of(bytes)}), ENOSPC);
}

TEST_F(UringQueueTest, MoreAtOnceThanTheRingHoldsAreAllDone) {
  constexpr size_t kCount = 3000;
  std::vector<std::vector<uint8_t>> blocks(kCount);
  std::latch latch(kCount);
  std::atomic<int> errors = 0;
  for (size_t i = 0; i < kCount; ++i) {
    blocks[i].resize(kBlock, 0xEE);
    queue_->submit({.fd = file_.get(),
                    .buffers = {buffer_of(blocks[i])},
                    .offset = i % 64 * kBlock,
                    .done = [&](int error) {
                      errors += error != 0;
                      latch.count_down();
                    }});
  }
  latch.wait();
  queue_->wait_idle();
  EXPECT_EQ(errors, 0);
  for (const auto& block : blocks) EXPECT_EQ(block, std::vector<uint8_t>(kBlock, 0));
}

TEST_F(UringQueueTest, MoreBuffersThanOneCallTakes) {
  std::vector<std::vector<uint8_t>> pieces(1500);
  std::vector<iovec> buffers;
  for (size_t i = 0; i < pieces.size(); ++i) {
    pieces[i].assign(i == 7 ? 0 : 64, static_cast<uint8_t>(i));
    buffers.push_back(buffer_of(pieces[i]));
  }
  EXPECT_EQ(transfer(true, 0, buffers), 0);
  std::vector<uint8_t> all(1499 * 64);
  EXPECT_EQ(transfer(false, 0, {buffer_of(all)}), 0);
  EXPECT_EQ(all[6 * 64], 6);
  EXPECT_EQ(all[7 * 64], 8);
  EXPECT_EQ(all[1498 * 64], static_cast<uint8_t>(1499));
}

TEST_F(UringQueueTest, WhatEndsMaySubmitMore) {
  std::vector<uint8_t> bytes(kBlock);
  std::promise<int> promise;
  std::function<void(int, int)> next = [&](int left, int error) {
    if (left == 0 || error != 0) return promise.set_value(error);
    queue_->submit({.fd = file_.get(),
                    .buffers = {buffer_of(bytes)},
                    .offset = 0,
                    .done = [&, left](int result) { next(left - 1, result); }});
  };
  next(100, 0);
  EXPECT_EQ(promise.get_future().get(), 0);
}

class AioModes : public testing::TestWithParam<std::tuple<AioMode, CacheMode>> {};

TEST_P(AioModes, ReadBackWhatWasWritten) {
  const ScratchFolder folder;
  const auto path = folder.image("disk", 1 << 20);
  const auto [aio, cache] = GetParam();
  const bool direct = cache == CacheMode::kNone || cache == CacheMode::kDirectSync;
  auto opened = RawImage::open(path, {.cache = cache, .aio = aio});
  if (aio == AioMode::kNative && !direct) {
    ASSERT_FALSE(opened);
    EXPECT_THAT(opened.error().message,
                testing::HasSubstr("aio=native was specified, but it requires cache.direct=on"));
    return;
  }
  if (!opened && direct) GTEST_SKIP() << opened.error().message;
  ASSERT_TRUE(opened) << opened.error().message;
  RawImage& image = **opened;
  auto* aligned = static_cast<uint8_t*>(std::aligned_alloc(4096, 4 * kBlock));
  std::memset(aligned, 0x5A, 4 * kBlock);
  EXPECT_EQ(run(image, {.kind = Request::Kind::kWrite, .buffers = {{aligned, 4 * kBlock}}}), 0);
  // Not where O_DIRECT wants its buffers, and less than a block of the host's.
  std::vector<uint8_t> odd(1537, 0xA5);
  EXPECT_EQ(
      run(image,
          {.kind = Request::Kind::kWrite, .offset = 512, .buffers = {{odd.data() + 1, 1536}}}),
      0);
  EXPECT_EQ(run(image, {.kind = Request::Kind::kFlush}), 0);
  std::memset(aligned, 0, 4 * kBlock);
  EXPECT_EQ(run(image, {.kind = Request::Kind::kRead, .buffers = {{aligned, 4 * kBlock}}}), 0);
  EXPECT_EQ(aligned[511], 0x5A);
  EXPECT_EQ(aligned[512], 0xA5);
  EXPECT_EQ(aligned[2047], 0xA5);
  EXPECT_EQ(aligned[2048], 0x5A);
  std::free(aligned);
  EXPECT_TRUE(image.drain());
  if (aio == AioMode::kThreads || direct) {
    EXPECT_EQ(image.uses_io_uring(), aio != AioMode::kThreads);
  }
}

INSTANTIATE_TEST_SUITE_P(All, AioModes,
                         testing::Combine(testing::Values(AioMode::kAutomatic, AioMode::kThreads,
                                                          AioMode::kNative, AioMode::kIoUring),
                                          testing::Values(CacheMode::kWriteback, CacheMode::kNone,
                                                          CacheMode::kWritethrough,
                                                          CacheMode::kDirectSync,
                                                          CacheMode::kUnsafe)));

}  // namespace
}  // namespace limen::block
