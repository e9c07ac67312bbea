#include "device/character/telnet.h"

#include <array>

namespace limen::device {
namespace {

constexpr uint8_t kSubnegotiationEnd = 240, kBreak = 243, kInterrupt = 244,
                  kSubnegotiationBegin = 250, kWill = 251, kDont = 254, kDo = 253,
                  kCommandByte = 255;
constexpr uint8_t kBinary = 0, kEcho = 1, kSuppressGoAhead = 3;

}  // namespace

std::span<const uint8_t> TelnetFilter::greeting() {
  static constexpr std::array<uint8_t, 12> kGreeting = {
      kCommandByte, kWill, kEcho,   kCommandByte, kWill, kSuppressGoAhead,
      kCommandByte, kWill, kBinary, kCommandByte, kDo,   kBinary};
  return kGreeting;
}

void TelnetFilter::filter(std::vector<uint8_t>& received, unsigned& breaks) {
  size_t kept = 0;
  for (const uint8_t byte : received) {
    switch (state_) {
      case State::kData:
        if (byte == kCommandByte)
          state_ = State::kCommand;
        else
          received[kept++] = byte;
        break;
      case State::kCommand:
        state_ = State::kData;
        if (byte == kCommandByte)
          received[kept++] = byte;
        else if (byte == kBreak || byte == kInterrupt)
          ++breaks;
        else if (byte >= kWill && byte <= kDont)
          state_ = State::kOption;
        else if (byte == kSubnegotiationBegin)
          state_ = State::kSubnegotiation;
        break;
      case State::kOption:
        state_ = State::kData;
        break;
      case State::kSubnegotiation:
        if (byte == kCommandByte) state_ = State::kSubnegotiationCommand;
        break;
      case State::kSubnegotiationCommand:
        state_ = byte == kSubnegotiationEnd ? State::kData : State::kSubnegotiation;
        break;
    }
  }
  received.resize(kept);
}

std::vector<uint8_t> TelnetFilter::encode(std::span<const uint8_t> bytes) {
  std::vector<uint8_t> wire;
  wire.reserve(bytes.size());
  for (const uint8_t byte : bytes) {
    wire.push_back(byte);
    if (byte == kCommandByte) wire.push_back(byte);
  }
  return wire;
}

}  // namespace limen::device
