// The telnet protocol around a character stream (RFC 854, 855).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace limen::device {

/// Takes the commands of a telnet client out of what it sends.
class TelnetFilter {
 public:
  /// What the server says first, so that a client sends every key at once and shows no echo of its
  /// own: WILL ECHO (RFC 857), WILL SUPPRESS-GO-AHEAD (RFC 858), binary both ways (RFC 856).
  static std::span<const uint8_t> greeting();

  /// Data among `received`, in place; `breaks` counts BREAK commands.
  void filter(std::vector<uint8_t>& received, unsigned& breaks);
  /// `bytes` as they stand on the wire.
  static std::vector<uint8_t> encode(std::span<const uint8_t> bytes);

 private:
  enum class State : uint8_t { kData, kCommand, kOption, kSubnegotiation, kSubnegotiationCommand };
  State state_ = State::kData;
};

}  // namespace limen::device
