#include "net/segmentation.h"

#include <gtest/gtest.h>

#include "packets.h"

namespace limen::net {
namespace {

TEST(Checksum, AgreesWithTheSlowSumForEveryLengthAndAlignment) {
  const Bytes bytes = counted(300);
  for (size_t start = 0; start < 9; ++start)
    for (size_t length = 0; start + length <= bytes.size(); ++length) {
      const auto part = std::span(bytes).subspan(start, length);
      const auto expected = static_cast<uint16_t>(~slow_sum(part));
      ASSERT_EQ(__builtin_bswap16(finish_sum(partial_sum(part))), expected) << length;
    }
}

TEST(Checksum, OfAllOnesDoesNotOverflow) {
  const Bytes bytes(65535, std::byte{0xFF});
  EXPECT_EQ(__builtin_bswap16(finish_sum(partial_sum(bytes))),
            static_cast<uint16_t>(~slow_sum(bytes)));
}

TEST(Checksum, IsCompletedWhereTheHeaderSays) {
  for (const unsigned version : {4u, 6u})
    for (const uint8_t protocol : {kProtocolTcp, kProtocolUdp}) {
      Bytes frame = packet(version, protocol, counted(101), version == 6);
      EXPECT_FALSE(checksums_right(frame));
      ASSERT_TRUE(complete_checksum(frame, checksum_header(frame)));
      EXPECT_TRUE(checksums_right(frame)) << version << " " << int{protocol};
    }
}

TEST(Checksum, OutsideTheFrameIsRefused) {
  Bytes frame = packet(4, kProtocolTcp, {});
  OffloadHeader header = checksum_header(frame);
  header.checksum_start = 65535;
  header.checksum_offset = 65535;
  EXPECT_FALSE(complete_checksum(frame, header));
  header = checksum_header(frame);
  header.checksum_offset = static_cast<uint16_t>(frame.size() - header.checksum_start - 1);
  EXPECT_FALSE(complete_checksum(frame, header));
}

TEST(ParsePacket, RefusesHeadersThatReachOutsideTheFrame) {
  const Bytes good = packet(4, kProtocolTcp, counted(40));
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_FALSE(parse_packet(std::span(good).first(length))) << length;
  Bytes long_header = good;
  long_header[14] = std::byte{0x41};  // four bytes of header
  EXPECT_FALSE(parse_packet(long_header));
}

class Segmentation : public testing::TestWithParam<unsigned> {};

TEST_P(Segmentation, OfTcpGivesWholeSegmentsWithRightChecksums) {
  const unsigned version = GetParam();
  const Bytes payload = counted(60'001);
  constexpr uint8_t kFinPushCwr = 0x99;
  Bytes frame = packet(version, kProtocolTcp, payload, version == 6, kFinPushCwr);
  OffloadHeader header = checksum_header(frame);
  header.gso_type = version == 4 ? kGsoTcp4 : kGsoTcp6;
  header.segment_bytes = 1448;
  Bytes together;
  size_t count = 0;
  const size_t wanted = (payload.size() + 1447) / 1448;
  ASSERT_TRUE(segment_frame(frame, header, [&](const Frame& piece) {
    Bytes storage;
    const auto segment = flatten(piece, storage);
    ASSERT_TRUE(checksums_right(segment)) << count;
    const auto layout = parse_packet(segment);
    EXPECT_EQ(layout->end, segment.size());
    const size_t data = layout->transport + 20;
    EXPECT_EQ(load32(segment, layout->transport + 4),
              static_cast<uint32_t>(0xFFFF'FF00 + together.size()));
    if (version == 4) {
      EXPECT_EQ(load16(segment, layout->ip + 4), static_cast<uint16_t>(0xFFFE + count));
    }
    const auto flags = static_cast<unsigned>(segment[layout->transport + 13]);
    EXPECT_EQ(flags & 0x09, count + 1 == wanted ? 0x09u : 0u);  // FIN, PSH
    EXPECT_EQ(flags & 0x80, count == 0 ? 0x80u : 0u);           // CWR
    together.insert(together.end(), segment.begin() + static_cast<ptrdiff_t>(data), segment.end());
    ++count;
  }));
  EXPECT_EQ(count, wanted);
  EXPECT_EQ(together, payload);
}

INSTANTIATE_TEST_SUITE_P(Versions, Segmentation, testing::Values(4u, 6u));

TEST(Segmentation, OfUdpGivesFragmentsOfOneDatagram) {
  const Bytes payload = counted(9000);
  Bytes frame = packet(4, kProtocolUdp, payload);
  OffloadHeader header = checksum_header(frame);
  header.gso_type = kGsoUdp;
  header.segment_bytes = 1480;
  Bytes datagram(8 + payload.size());
  size_t seen = 0;
  bool last = false;
  ASSERT_TRUE(segment_frame(frame, header, [&](const Frame& piece) {
    Bytes storage;
    const auto fragment = flatten(piece, storage);
    EXPECT_EQ(slow_sum(fragment.subspan(14, 20)), 0xFFFF);
    const size_t offset = (load16(fragment, 20) & 0x1FFFu) * 8;
    const auto data = fragment.subspan(34);
    ASSERT_LE(offset + data.size(), datagram.size());
    ASSERT_LE(fragment.size(), 1514u);
    std::ranges::copy(data, datagram.begin() + static_cast<ptrdiff_t>(offset));
    seen += data.size();
    EXPECT_FALSE(last);
    last = (load16(fragment, 20) & 0x2000) == 0;
  }));
  EXPECT_TRUE(last);
  EXPECT_EQ(seen, datagram.size());
  EXPECT_TRUE(std::equal(payload.begin(), payload.end(), datagram.begin() + 8));
}

TEST(Segmentation, OfWhatIsNoTcpPacketIsRefused) {
  Bytes frame = packet(4, kProtocolUdp, counted(5000));
  OffloadHeader header = checksum_header(frame);
  header.gso_type = kGsoTcp4;
  header.segment_bytes = 1000;
  const auto never = [](const Frame&) { ADD_FAILURE(); };
  EXPECT_FALSE(segment_frame(frame, header, never));
  frame = packet(4, kProtocolTcp, counted(5000));
  header.segment_bytes = 0;
  EXPECT_FALSE(segment_frame(frame, header, never));
  header.segment_bytes = 1000;
  frame[14 + 20 + 12] = std::byte{0x10};  // a TCP header of four bytes
  EXPECT_FALSE(segment_frame(frame, header, never));
}

}  // namespace
}  // namespace limen::net
