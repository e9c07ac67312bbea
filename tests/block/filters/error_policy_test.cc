#include "block/filters/error_policy.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "block/scratch.h"
#include "virtio/memory_disk.h"

namespace limen::block {
namespace {

constexpr size_t kSize = 64 << 10;

class ErrorPolicyTest : public testing::Test {
 protected:
  void create(ErrorAction on_read, ErrorAction on_write) {
    auto disk = std::make_unique<virtio::MemoryDisk>(kSize);
    disk_ = disk.get();
    policy_ =
        std::make_unique<ErrorPolicy>(std::move(disk), on_read, on_write,
                                      [this](const IoError& error) { told_.push_back(error); });
  }
  /// Starts a write; its end is put into `ends_`.
  void start_write(uint64_t offset, std::vector<uint8_t>& bytes) {
    policy_->submit({.kind = Request::Kind::kWrite,
                     .offset = offset,
                     .buffers = {buffer_of(bytes)},
                     .done = [this](int error) { ends_.push_back(error); }});
  }

  std::vector<IoError> told_;
  std::vector<int> ends_;
  std::unique_ptr<ErrorPolicy> policy_;
  virtio::MemoryDisk* disk_ = nullptr;
};

TEST_F(ErrorPolicyTest, ReportGivesTheErrorToTheGuestAndTellsOfIt) {
  create(ErrorAction::kReport, ErrorAction::kReport);
  disk_->error = EIO;
  EXPECT_EQ(write_at(*policy_, 0, std::vector<uint8_t>(512)), EIO);
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_TRUE(told_[0].write);
  EXPECT_FALSE(told_[0].no_space);
  EXPECT_EQ(told_[0].action, ErrorAction::kReport);
}

TEST_F(ErrorPolicyTest, IgnoreSaysThatItWasDone) {
  create(ErrorAction::kIgnore, ErrorAction::kIgnore);
  disk_->error = EIO;
  EXPECT_EQ(write_at(*policy_, 0, std::vector<uint8_t>(512)), 0);
  read_at(*policy_, 0, 512);  // expects no error
  ASSERT_EQ(told_.size(), 2u);
  EXPECT_EQ(told_[1].action, ErrorAction::kIgnore);
  EXPECT_FALSE(told_[1].write);
}

TEST_F(ErrorPolicyTest, StopKeepsTheRequestUntilItIsMadeAgain) {
  create(ErrorAction::kReport, ErrorAction::kStop);
  disk_->error = EIO;
  std::vector<uint8_t> first(512, 1), second(512, 2);
  start_write(0, first);
  start_write(512, second);
  EXPECT_TRUE(ends_.empty());
  EXPECT_EQ(policy_->held(), 2u);
  policy_->retry();  // still broken: kept again
  EXPECT_EQ(policy_->held(), 2u);
  EXPECT_TRUE(ends_.empty());
  disk_->error = 0;
  policy_->retry();
  EXPECT_EQ(ends_, (std::vector<int>{0, 0}));
  EXPECT_EQ(policy_->held(), 0u);
  EXPECT_EQ(read_at(*policy_, 0, 512), first);
  EXPECT_EQ(read_at(*policy_, 512, 512), second);
}

TEST_F(ErrorPolicyTest, EnospcStopsForAFullDiskAndReportsTheRest) {
  create(ErrorAction::kReport, ErrorAction::kEnospc);
  disk_->error = EIO;
  EXPECT_EQ(write_at(*policy_, 0, std::vector<uint8_t>(512)), EIO);
  disk_->error = ENOSPC;
  std::vector<uint8_t> bytes(512, 7);
  start_write(0, bytes);
  EXPECT_EQ(policy_->held(), 1u);
  ASSERT_EQ(told_.size(), 2u);
  EXPECT_TRUE(told_[1].no_space);
  EXPECT_EQ(told_[1].action, ErrorAction::kStop);
}

TEST_F(ErrorPolicyTest, GivingUpFailsWhatIsKeptAndKeepsNothingMore) {
  create(ErrorAction::kReport, ErrorAction::kStop);
  disk_->error = EIO;
  std::vector<uint8_t> bytes(512, 7);
  start_write(0, bytes);
  policy_->give_up_held(true);
  EXPECT_EQ(ends_, std::vector<int>{EIO});
  start_write(0, bytes);
  EXPECT_EQ(ends_, (std::vector<int>{EIO, EIO}));
  policy_->give_up_held(false);
  start_write(0, bytes);
  EXPECT_EQ(policy_->held(), 1u);
  policy_->give_up_held(true);
}

TEST_F(ErrorPolicyTest, WhatTheGuestDidWrongIsNeverKept) {
  create(ErrorAction::kReport, ErrorAction::kStop);
  disk_->error = EROFS;
  EXPECT_EQ(write_at(*policy_, 0, std::vector<uint8_t>(512)), EROFS);
  EXPECT_TRUE(told_.empty());
}

}  // namespace
}  // namespace limen::block
