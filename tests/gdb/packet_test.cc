#include "gdb/packet.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace limen::gdb {
namespace {

using Kind = PacketReader::Kind;

/// All events, packets with their content, when the bytes come in pieces of `size`.
std::vector<std::pair<Kind, std::string>> events(std::string_view text, size_t size) {
  PacketReader reader;
  std::vector<std::pair<Kind, std::string>> all;
  while (!text.empty()) {
    auto piece = std::as_bytes(std::span(text.substr(0, size)));
    text.remove_prefix(piece.size());
    while (!piece.empty()) {
      size_t used = 0;
      const auto event =
          reader.read({reinterpret_cast<const uint8_t*>(piece.data()), piece.size()}, used);
      EXPECT_GT(used, 0u);
      piece = piece.subspan(used);
      if (event) all.emplace_back(*event, *event == Kind::kPacket ? reader.packet() : "");
    }
  }
  return all;
}

TEST(PacketReader, TakesPacketsApartHoweverTheyArrive) {
  const std::string text = "+$qC#b4-\x03$m0,1#fa";
  const std::vector<std::pair<Kind, std::string>> wanted = {{Kind::kAck, ""},
                                                            {Kind::kPacket, "qC"},
                                                            {Kind::kNak, ""},
                                                            {Kind::kInterrupt, ""},
                                                            {Kind::kPacket, "m0,1"}};
  for (const size_t size : {1, 2, 3, 100}) EXPECT_EQ(events(text, size), wanted) << size;
}

TEST(PacketReader, RefusesWrongChecksums) {
  using Events = std::vector<std::pair<Kind, std::string>>;
  EXPECT_EQ(events("$qC#b5$qC#b4", 4), (Events{{Kind::kBad, ""}, {Kind::kPacket, "qC"}}));
  EXPECT_EQ(events("$qC#zz", 6), (Events{{Kind::kBad, ""}}));
}

TEST(PacketReader, BeginsAnewAtADollar) {
  using Events = std::vector<std::pair<Kind, std::string>>;
  EXPECT_EQ(events("noise$half$qC#b4", 5), (Events{{Kind::kPacket, "qC"}}));
}

TEST(PacketReader, SkipsWhatIsTooLong) {
  const std::string framed = frame(std::string(kPacketLimit + 1, 'a')) + frame("c");
  const auto all = events(framed, 1000);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].first, Kind::kBad);
  EXPECT_EQ(all[1].second, "c");
}

TEST(PacketReader, UndoesEscapes) {
  const std::string binary{"a}#$*\x03\x00z", 8};
  const auto all = events(frame(binary), 3);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].second, binary);
}

TEST(Hexadecimal, GoesBothWays) {
  EXPECT_EQ(to_hex(std::string_view("\x01\xAB")), "01ab");
  EXPECT_EQ(from_hex("01aB"), "\x01\xAB");
  EXPECT_FALSE(from_hex("012").has_value());
  EXPECT_FALSE(from_hex("0g").has_value());
  std::string_view text = "ffffffffffffffff,1";
  EXPECT_EQ(take_hex(text), ~uint64_t{0});
  EXPECT_EQ(text, ",1");
  text = "10000000000000000";
  EXPECT_FALSE(take_hex(text).has_value());
  text = ",";
  EXPECT_FALSE(take_hex(text).has_value());
}

}  // namespace
}  // namespace limen::gdb
