#include "net/port.h"

#include <gtest/gtest.h>

#include "net/hub.h"
#include "packets.h"

namespace limen::net {
namespace {

TEST(Port, GivesFramesToItsPeerUnfinishedWhereThatIsTaken) {
  RecordingPort card, back_end;
  Port::connect(card, back_end);
  const Bytes frame = packet(4, kProtocolTcp, counted(5000));
  OffloadHeader header = checksum_header(frame);
  header.gso_type = kGsoTcp4;
  header.segment_bytes = 1000;
  back_end.accepted = {.checksum = true, .tcp4 = true};
  EXPECT_EQ(card.give(frame, header), Delivery::kTaken);
  ASSERT_EQ(back_end.frames.size(), 1u);
  EXPECT_EQ(back_end.frames[0], frame);
  EXPECT_EQ(back_end.headers[0].segment_bytes, 1000);
}

TEST(Port, FinishesFramesInSoftwareForAPeerThatWantsThem) {
  RecordingPort card, back_end;
  Port::connect(card, back_end);
  const Bytes frame = packet(4, kProtocolTcp, counted(5000));
  OffloadHeader header = checksum_header(frame);
  card.give(frame, header);
  ASSERT_EQ(back_end.frames.size(), 1u);
  EXPECT_TRUE(checksums_right(back_end.frames[0]));
  EXPECT_EQ(back_end.headers[0].flags, 0);
  header.gso_type = kGsoTcp4 | kGsoEcn;
  header.segment_bytes = 1000;
  back_end.accepted = {.checksum = true, .tcp4 = true};  // but not ECN
  card.give(frame, header);
  EXPECT_EQ(back_end.frames.size(), 6u);
}

TEST(Port, KeepsTheSegmentsThatThePeerHasNoRoomForAndStopsTheSender) {
  RecordingPort card, back_end;
  Port::connect(card, back_end);
  const Bytes frame = packet(4, kProtocolTcp, counted(5000));
  OffloadHeader header = checksum_header(frame);
  header.gso_type = kGsoTcp4;
  header.segment_bytes = 1000;
  back_end.full = 2;
  EXPECT_EQ(card.give(frame, header), Delivery::kTaken);
  EXPECT_EQ(card.give(frame, header), Delivery::kFull);
  EXPECT_EQ(back_end.frames.size(), 2u);
  card.told_ready = 0;
  back_end.take_again();
  EXPECT_EQ(back_end.frames.size(), 5u);
  EXPECT_EQ(card.told_ready, 1u);
  for (const auto& segment : back_end.frames) EXPECT_TRUE(checksums_right(segment));
}

TEST(Port, OfASenderThatCannotWaitKeepsFramesUpToABound) {
  RecordingPort card, back_end;
  Port::connect(card, back_end);
  card.full = 0;
  for (int i = 0; i < 10'000; ++i) back_end.give_or_keep(Bytes(60, static_cast<std::byte>(i)));
  card.take_again();
  EXPECT_GT(card.frames.size(), 1000u);
  EXPECT_LT(card.frames.size(), 10'000u);
  EXPECT_EQ(card.frames[0][0], std::byte{0});
  EXPECT_EQ(card.frames[255][0], std::byte{255});
}

TEST(Port, WithItsLinkDownLosesFramesBothWays) {
  RecordingPort card, back_end;
  Port::connect(card, back_end);
  const unsigned before = card.told_changed;
  back_end.set_link(false);
  EXPECT_EQ(card.told_changed, before + 1);
  EXPECT_FALSE(card.cable_up());
  EXPECT_EQ(card.give(Bytes(60)), Delivery::kTaken);
  EXPECT_EQ(back_end.give(Bytes(60)), Delivery::kTaken);
  EXPECT_TRUE(back_end.frames.empty());
  EXPECT_TRUE(card.frames.empty());
  back_end.set_link(true);
  card.give(Bytes(60));
  EXPECT_EQ(back_end.frames.size(), 1u);
}

TEST(Port, OfAMachineThatStandsStillHasFramesWaitBothWays) {
  RecordingPort card, back_end;
  Port::connect(card, back_end);
  card.set_running(false);
  EXPECT_EQ(card.give(Bytes(60)), Delivery::kFull);
  EXPECT_EQ(back_end.give(Bytes(61)), Delivery::kFull);
  back_end.give_or_keep(Bytes(62));
  EXPECT_TRUE(card.frames.empty());
  EXPECT_TRUE(back_end.frames.empty());
  // As the card will take it.
  const Bytes large = packet(4, kProtocolTcp, counted(2500));
  OffloadHeader header = checksum_header(large);
  header.gso_type = kGsoTcp4;
  header.segment_bytes = 1000;
  back_end.give_or_keep(large, header);
  card.told_ready = back_end.told_ready = 0;
  card.set_running(true);
  EXPECT_EQ(card.told_ready, 1u);
  EXPECT_EQ(back_end.told_ready, 1u);
  ASSERT_EQ(card.frames.size(), 4u);
  EXPECT_EQ(card.frames[0].size(), 62u);
  for (size_t i = 1; i < card.frames.size(); ++i) EXPECT_TRUE(checksums_right(card.frames[i]));
  EXPECT_EQ(card.give(Bytes(60)), Delivery::kTaken);
}

TEST(Port, WhosePeerGoesIsToldAndSendsToNowhere) {
  RecordingPort card;
  {
    RecordingPort back_end;
    Port::connect(card, back_end);
    back_end.full = 0;
    EXPECT_EQ(card.give(Bytes(60)), Delivery::kFull);
  }
  EXPECT_GE(card.told_ready, 1u);
  EXPECT_EQ(card.peer(), nullptr);
  EXPECT_EQ(card.give(Bytes(60)), Delivery::kTaken);
}

TEST(Hub, GivesAFrameToAllButItsSender) {
  Hub hub(0);
  HubPort one(hub), two(hub), three(hub);
  RecordingPort a, b, c;
  Port::connect(a, one);
  Port::connect(b, two);
  Port::connect(c, three);
  c.full = 0;  // a slow one does not hold up the others
  a.give(Bytes(60, std::byte{7}));
  a.give(Bytes(60, std::byte{8}));
  EXPECT_TRUE(a.frames.empty());
  ASSERT_EQ(b.frames.size(), 2u);
  EXPECT_EQ(b.frames[1][0], std::byte{8});
  c.take_again();
  EXPECT_EQ(c.frames.size(), 2u);
}

}  // namespace
}  // namespace limen::net
