// Packets of gdb's remote protocol (GDB manual, appendix E "Packets"): $data#checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace limen::gdb {

/// The longest packet that is taken, without `$` and checksum; longer ones are skipped.
inline constexpr size_t kPacketLimit = size_t{1} << 16;

/// Takes a client's bytes apart, however they arrive.
class PacketReader {
 public:
  enum class Kind : uint8_t {
    kPacket,    ///< packet() is what it holds, escapes undone.
    kBad,       ///< A packet with a wrong checksum or too long: to be asked for again.
    kAck,       ///< '+'
    kNak,       ///< '-': the last packet is to be sent again.
    kInterrupt  ///< 03H between packets.
  };

  /// The first event in `bytes`, and how many of them were used; nothing: all were, and more are
  /// needed.
  std::optional<Kind> read(std::span<const uint8_t> bytes, size_t& used);
  [[nodiscard]] const std::string& packet() const { return packet_; }

 private:
  enum class State : uint8_t { kIdle, kData, kEscape, kChecksum1, kChecksum2 };
  void add(char byte);

  State state_ = State::kIdle;
  std::string packet_;
  bool too_long_ = false;
  uint8_t sum_ = 0;
  int expected_ = 0;  // the checksum; negative: not hexadecimal
};

/// `$data#checksum`, with escapes where they are needed.
[[nodiscard]] std::string frame(std::string_view data);

[[nodiscard]] std::string to_hex(std::span<const std::byte> bytes);
[[nodiscard]] std::string to_hex(std::string_view text);
/// Nothing if it is not an even number of hexadecimal digits.
[[nodiscard]] std::optional<std::string> from_hex(std::string_view digits);
/// Takes hexadecimal digits, at least one and at most sixteen, off the front.
[[nodiscard]] std::optional<uint64_t> take_hex(std::string_view& text);
/// Takes `expected` off the front, if it is there.
[[nodiscard]] bool take(std::string_view& text, std::string_view expected);

}  // namespace limen::gdb
