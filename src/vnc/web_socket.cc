#include "vnc/web_socket.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "base/base64.h"

namespace limen::vnc {
namespace {

constexpr size_t kMostHeader = 8192;
constexpr uint8_t kContinuation = 0, kBinary = 2, kClose = 8, kPing = 9, kPong = 10;
constexpr uint8_t kFinal = 0x80, kMasked = 0x80;
constexpr size_t kMostControl = 125;

void append(Bytes& bytes, std::string_view text) {
  bytes.insert(bytes.end(), text.begin(), text.end());
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool same(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) ==
           std::tolower(static_cast<unsigned char>(y));
  });
}

/// A header field's value; "" if it is not there.
std::string_view field(std::string_view header, std::string_view name) {
  for (size_t at = header.find("\r\n"); at != std::string_view::npos;
       at = header.find("\r\n", at)) {
    at += 2;
    const auto line = header.substr(at, header.find("\r\n", at) - at);
    const auto colon = line.find(':');
    if (colon != std::string_view::npos && same(trimmed(line.substr(0, colon)), name))
      return trimmed(line.substr(colon + 1));
  }
  return {};
}

/// Whether a comma-separated list has `word`.
bool lists(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const auto comma = std::min(list.find(','), list.size());
    if (same(trimmed(list.substr(0, comma)), word)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

void add_header(uint8_t opcode, size_t size, Bytes& out) {
  out.push_back(kFinal | opcode);
  if (size <= kMostControl) {
    put8(out, static_cast<unsigned>(size));
  } else if (size <= UINT16_MAX) {
    out.push_back(126);
    put16(out, static_cast<unsigned>(size));
  } else {
    out.push_back(127);
    put32(out, static_cast<uint32_t>(uint64_t{size} >> 32));
    put32(out, static_cast<uint32_t>(size & UINT32_MAX));
  }
}

}  // namespace

std::string accept_key(std::string_view key) {
  const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  std::array<uint8_t, 20> digest{};
  if (gnutls_hash_fast(GNUTLS_DIG_SHA1, text.data(), text.size(), digest.data()) != 0) return {};
  return encode_base64(digest);
}

Result<bool> WebSocket::handshake(Bytes& answer) {
  const std::string_view text(reinterpret_cast<const char*>(pending_.data()), pending_.size());
  const auto end = text.find("\r\n\r\n");
  if (end == std::string_view::npos) {
    if (text.size() > kMostHeader) return fail("an HTTP header of over {} bytes", kMostHeader);
    return false;
  }
  const auto header = text.substr(0, end + 2);
  const auto refuse = [&](const char* why) {
    append(answer, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    return fail("no WebSocket handshake: {}", why);
  };
  if (!header.starts_with("GET ")) return refuse("not a GET request");
  if (!lists(field(header, "Upgrade"), "websocket")) return refuse("no upgrade to websocket");
  if (!lists(field(header, "Connection"), "Upgrade")) return refuse("no upgrade of the connection");
  if (field(header, "Sec-WebSocket-Version") != "13") return refuse("not version 13");
  const auto key = field(header, "Sec-WebSocket-Key");
  if (key.empty()) return refuse("no key");
  const auto protocols = field(header, "Sec-WebSocket-Protocol");
  if (!protocols.empty() && !lists(protocols, "binary")) return refuse("no protocol 'binary'");
  append(answer,
         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
  append(answer, "Sec-WebSocket-Accept: " + accept_key(key) + "\r\n");
  if (!protocols.empty()) append(answer, "Sec-WebSocket-Protocol: binary\r\n");
  append(answer, "\r\n");
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(end + 4));
  open_ = true;
  return true;
}

/// The size of a frame's header; 0: it is not complete.
Result<size_t> WebSocket::header(std::span<const uint8_t> bytes) {
  if (bytes.size() < 2) return 0;
  opcode_ = bytes[0] & 0x0F;
  if ((bytes[0] & 0x70) != 0) return fail("a WebSocket frame with extensions");
  if ((bytes[1] & kMasked) == 0) return fail("a WebSocket frame of a client's without a mask");
  const unsigned length = bytes[1] & 0x7F;
  const size_t size = length == 127 ? 14 : length == 126 ? 8 : 6;
  if (bytes.size() < size) return 0;
  left_ = length == 127   ? uint64_t{get32(bytes, 2)} << 32 | get32(bytes, 6)
          : length == 126 ? get16(bytes, 2)
                          : length;
  std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(size - 4), 4, mask_);
  mask_at_ = 0;
  if (opcode_ >= kClose) {
    if (opcode_ > kPong) return fail("WebSocket opcode {} is not supported", opcode_);
    if ((bytes[0] & kFinal) == 0 || left_ > kMostControl)
      return fail("a WebSocket control frame of {} bytes or in parts", left_);
  } else if (opcode_ != kContinuation && opcode_ != kBinary) {
    return fail("WebSocket opcode {} is not supported", opcode_);
  }
  return size;
}

void WebSocket::control(Bytes& answer) {
  if (opcode_ == kPing || opcode_ == kClose) {
    add_header(opcode_ == kPing ? kPong : kClose, control_payload_.size(), answer);
    answer.insert(answer.end(), control_payload_.begin(), control_payload_.end());
  }
  if (opcode_ == kClose) closing_ = true;
  control_payload_.clear();
}

Result<> WebSocket::receive(std::span<const uint8_t> bytes, Bytes& data, Bytes& answer) {
  pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  if (!open_ && !LIMEN_TRY(handshake(answer))) return {};
  size_t at = 0;
  while (!closing_) {
    const auto rest = std::span<const uint8_t>(pending_).subspan(at);
    if (!in_frame_) {
      const size_t size = LIMEN_TRY(header(rest));
      if (size == 0) break;
      at += size;
      in_frame_ = true;
      if (left_ != 0) continue;
    } else if (left_ != 0) {
      if (rest.empty()) break;
      const auto part = static_cast<size_t>(std::min<uint64_t>(left_, rest.size()));
      auto& into = opcode_ >= kClose ? control_payload_ : data;
      for (const uint8_t byte : rest.first(part)) into.push_back(byte ^ mask_[mask_at_++ & 3]);
      at += part;
      left_ -= part;
    }
    if (left_ != 0) break;
    in_frame_ = false;
    if (opcode_ >= kClose) control(answer);
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(at));
  return {};
}

void WebSocket::wrap(std::span<const uint8_t> message, Bytes& out) {
  add_header(kBinary, message.size(), out);
  out.insert(out.end(), message.begin(), message.end());
}

}  // namespace limen::vnc
