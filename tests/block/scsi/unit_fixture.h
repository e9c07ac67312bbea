// Commands for a logical unit, by the byte.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "block/scsi/logical_unit.h"
#include "virtio/memory_disk.h"

namespace limen::block::scsi {

using Bytes = std::vector<uint8_t>;

struct Ended {
  Outcome outcome;
  Bytes data;  ///< What was given, as far as it went.
};

class UnitTest : public testing::Test {
 protected:
  /// Runs a command with room for `room` bytes of data.
  Ended command(const Bytes& cdb, size_t room = 4096, Bytes out = {}) {
    Command request;
    std::ranges::copy(cdb, request.cdb.begin());
    Bytes in(out.empty() ? room : 0, 0xEE);
    // In two pieces, to see that buffers are followed.
    const size_t half = in.size() / 2;
    if (!in.empty()) request.data_in = {{in.data(), half}, {in.data() + half, in.size() - half}};
    if (!out.empty()) request.data_out = {{out.data(), out.size()}};
    request.in_bytes = in.size();
    request.out_bytes = out.size();
    std::optional<Outcome> outcome;
    request.done = [&](const Outcome& got) { outcome = got; };
    unit_->execute(std::move(request));
    EXPECT_TRUE(outcome);
    Ended ended{outcome.value_or(Outcome{}), std::move(in)};
    ended.data.resize(std::min<size_t>(ended.data.size(), ended.outcome.transferred));
    return ended;
  }
  /// The sense of a command that must fail; kNone if it did not.
  Sense sense_of(const Bytes& cdb, size_t room = 4096, Bytes out = {}) {
    const auto ended = command(cdb, room, std::move(out));
    EXPECT_EQ(ended.outcome.status == Status::kGood, ended.outcome.sense == sense::kNone);
    return ended.outcome.sense;
  }
  Bytes good(const Bytes& cdb, size_t room = 4096, Bytes out = {}) {
    const auto ended = command(cdb, room, std::move(out));
    EXPECT_EQ(ended.outcome.status, Status::kGood)
        << std::hex << int{cdb[0]} << ": " << int{ended.outcome.sense.key} << "/"
        << int{ended.outcome.sense.code} << "/" << int{ended.outcome.sense.qualifier};
    return ended.data;
  }
  void clear_attention() {
    EXPECT_EQ(sense_of({kTestUnitReady, 0, 0, 0, 0, 0}), sense::kPowerOnOrReset);
  }

  std::unique_ptr<virtio::MemoryDisk> disk_;
  std::unique_ptr<LogicalUnit> unit_;
};

}  // namespace limen::block::scsi
