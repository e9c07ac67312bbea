#include "gdb/packet.h"

namespace limen::gdb {
namespace {

constexpr char kEscape = '}', kEscapeBit = 0x20;

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

char hex_digit(unsigned value) { return "0123456789abcdef"[value & 0xF]; }

}  // namespace

void PacketReader::add(char byte) {
  if (packet_.size() < kPacketLimit)
    packet_ += byte;
  else
    too_long_ = true;
}

std::optional<PacketReader::Kind> PacketReader::read(std::span<const uint8_t> bytes, size_t& used) {
  constexpr uint8_t kInterruptByte = 3;
  for (used = 0; used < bytes.size();) {
    const uint8_t byte = bytes[used++];
    const char c = static_cast<char>(byte);
    switch (state_) {
      case State::kIdle:
        if (c == '+') return Kind::kAck;
        if (c == '-') return Kind::kNak;
        if (byte == kInterruptByte) return Kind::kInterrupt;
        if (c != '$') break;  // noise
        state_ = State::kData;
        packet_.clear();
        too_long_ = false;
        sum_ = 0;
        break;
      case State::kData:
        if (c == '#') {
          state_ = State::kChecksum1;
        } else if (c == '$') {
          // The one before was cut off.
          packet_.clear();
          too_long_ = false;
          sum_ = 0;
        } else {
          sum_ = static_cast<uint8_t>(sum_ + byte);
          if (c == kEscape)
            state_ = State::kEscape;
          else
            add(c);
        }
        break;
      case State::kEscape:
        sum_ = static_cast<uint8_t>(sum_ + byte);
        add(static_cast<char>(c ^ kEscapeBit));
        state_ = State::kData;
        break;
      case State::kChecksum1:
        expected_ = digit(c) < 0 ? -1 : digit(c) << 4;
        state_ = State::kChecksum2;
        break;
      case State::kChecksum2:
        state_ = State::kIdle;
        if (expected_ < 0 || digit(c) < 0 || (expected_ | digit(c)) != sum_ || too_long_)
          return Kind::kBad;
        return Kind::kPacket;
    }
  }
  return std::nullopt;
}

std::string frame(std::string_view data) {
  std::string out = "$";
  out.reserve(data.size() + 4);
  uint8_t sum = 0;
  const auto put = [&](char c) {
    out += c;
    sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(c));
  };
  for (const char c : data) {
    if (c == '$' || c == '#' || c == kEscape || c == '*') {
      put(kEscape);
      put(static_cast<char>(c ^ kEscapeBit));
    } else {
      put(c);
    }
  }
  out += '#';
  out += hex_digit(sum >> 4);
  out += hex_digit(sum);
  return out;
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string out;
  out.reserve(2 * bytes.size());
  for (const std::byte byte : bytes) {
    out += hex_digit(static_cast<unsigned>(byte) >> 4);
    out += hex_digit(static_cast<unsigned>(byte));
  }
  return out;
}

std::string to_hex(std::string_view text) { return to_hex(std::as_bytes(std::span(text))); }

std::optional<std::string> from_hex(std::string_view digits) {
  if (digits.size() % 2 != 0) return std::nullopt;
  std::string out;
  out.reserve(digits.size() / 2);
  for (size_t i = 0; i < digits.size(); i += 2) {
    const int high = digit(digits[i]), low = digit(digits[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high << 4 | low);
  }
  return out;
}

std::optional<uint64_t> take_hex(std::string_view& text) {
  uint64_t value = 0;
  size_t count = 0;
  while (count < text.size() && digit(text[count]) >= 0) {
    if (count == 16) return std::nullopt;
    value = value << 4 | static_cast<uint64_t>(digit(text[count++]));
  }
  if (count == 0) return std::nullopt;
  text.remove_prefix(count);
  return value;
}

bool take(std::string_view& text, std::string_view expected) {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(expected.size());
  return true;
}

}  // namespace limen::gdb
