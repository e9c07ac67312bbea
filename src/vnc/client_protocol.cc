#include "vnc/client_protocol.h"

#include <sys/random.h>

#include <algorithm>
#include <string_view>

namespace limen::vnc {
namespace {

constexpr std::string_view kGreeting = "RFB 003.008\n";
constexpr size_t kVersionSize = 12;
constexpr uint32_t kOk = 0, kFailed = 1;
constexpr std::string_view kWrongPassword = "Authentication failed";
// Client to server (RFC 6143 §7.5, and what was registered later).
constexpr uint8_t kSetPixelFormat = 0, kSetEncodings = 2, kUpdateRequest = 3, kKey = 4,
                  kPointer = 5, kCutText = 6, kSetDesktopSize = 251, kQemu = 255;
constexpr uint8_t kQemuKey = 0, kQemuAudio = 1;
constexpr size_t kMostEncodings = 1024, kMostScreens = 16;
constexpr uint32_t kMostCutText = 1 << 20;

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Bytes number(uint32_t value) {
  Bytes bytes;
  put32(bytes, value);
  return bytes;
}

void put_text(Bytes& bytes, std::string_view text) {
  put32(bytes, static_cast<uint32_t>(text.size()));
  bytes.insert(bytes.end(), text.begin(), text.end());
}

}  // namespace

ClientProtocol::ClientProtocol(ClientActions& actions, Security security)
    : actions_(actions), security_(security) {}

void ClientProtocol::start() { actions_.send(bytes_of(kGreeting)); }

Result<> ClientProtocol::feed(std::span<const uint8_t> bytes) {
  pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  size_t done = 0;
  while (done < pending_.size()) {
    const Input rest = Input(pending_).subspan(done);
    if (skip_ != 0) {
      const size_t skipped = std::min(skip_, rest.size());
      skip_ -= skipped;
      done += skipped;
      continue;
    }
    const size_t taken = LIMEN_TRY(step(rest));
    if (taken == 0) break;
    done += taken;
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(done));
  return {};
}

Result<size_t> ClientProtocol::step(Input input) {
  switch (state_) {
    case State::kVersion:
      return version(input);
    case State::kSecurityType:
      return security_type(input);
    case State::kVeNCryptVersion:
      return vencrypt_version(input);
    case State::kVeNCryptType:
      return vencrypt_type(input);
    case State::kTls:
      return fail("data in the clear where TLS should begin");
    case State::kResponse:
      return response(input);
    case State::kRefused:
      return input.size();
    case State::kClientInit:
      state_ = State::kMessages;
      actions_.initialized(input[0] != 0);
      return 1;
    case State::kMessages:
      return message(input);
  }
  return fail("no such state");
}

Result<size_t> ClientProtocol::version(Input input) {
  // What is wrong shows before all of it is there.
  const auto head = input.first(std::min<size_t>(input.size(), 4));
  if (!std::ranges::equal(head, bytes_of(kGreeting).first(head.size())))
    return fail("this is no VNC client");
  if (input.size() < kVersionSize) return 0;
  const std::string_view text(reinterpret_cast<const char*>(input.data()), kVersionSize);
  const auto digits = [&](size_t at) {
    unsigned value = 0;
    for (const char c : text.substr(at, 3))
      value = c < '0' || c > '9' ? 10000 : value * 10 + static_cast<unsigned>(c - '0');
    return value;
  };
  const unsigned major = digits(4), minor = digits(8);
  if (major >= 10000 || minor >= 10000 || text[7] != '.' || text.back() != '\n')
    return fail("invalid protocol version '{}'", text.substr(0, kVersionSize - 1));
  // Unknown versions count as 3.3 (RFC 6143 §7.1.1), later ones as 3.8.
  minor_version_ = major > 3 || minor >= 8 ? 8 : minor == 7 ? 7 : 3;
  if (minor_version_ == 3) {
    if (security_.tls && !security_.on_tls_already) {
      Bytes refusal = number(0);
      put_text(refusal, "this server wants TLS, which protocol version 3.3 does not have");
      actions_.send(refusal);
      return fail("protocol version 3.3 has no TLS");
    }
    actions_.send(number(security_.password ? security::kVncAuthentication : security::kNone));
    authenticate(security_.password);
    return kVersionSize;
  }
  const bool encrypt = security_.tls && !security_.on_tls_already;
  const Bytes types = {1, encrypt              ? security::kVeNCrypt
                          : security_.password ? security::kVncAuthentication
                                               : security::kNone};
  actions_.send(types);
  state_ = State::kSecurityType;
  return kVersionSize;
}

Result<size_t> ClientProtocol::security_type(Input input) {
  const bool encrypt = security_.tls && !security_.on_tls_already;
  const uint8_t offered = encrypt              ? security::kVeNCrypt
                          : security_.password ? security::kVncAuthentication
                                               : security::kNone;
  if (input[0] != offered) return fail("security type {} was not offered", input[0]);
  if (encrypt) {
    actions_.send(Bytes{0, 2});
    state_ = State::kVeNCryptVersion;
  } else {
    authenticate(security_.password);
  }
  return 1;
}

std::vector<uint32_t> ClientProtocol::vencrypt_types() const {
  if (security_.anonymous_tls) return {security_.password ? security::kTlsVnc : security::kTlsNone};
  return {security_.password ? security::kX509Vnc : security::kX509None};
}

Result<size_t> ClientProtocol::vencrypt_version(Input input) {
  if (input.size() < 2) return 0;
  if (input[0] != 0 || input[1] != 2) {
    actions_.send(Bytes{1});
    return fail("VeNCrypt version {}.{} is not supported", input[0], input[1]);
  }
  const auto types = vencrypt_types();
  Bytes answer = {0, static_cast<uint8_t>(types.size())};
  for (const uint32_t type : types) put32(answer, type);
  actions_.send(answer);
  state_ = State::kVeNCryptType;
  return 2;
}

Result<size_t> ClientProtocol::vencrypt_type(Input input) {
  if (input.size() < 4) return 0;
  const uint32_t type = get32(input, 0);
  const auto types = vencrypt_types();
  if (std::ranges::find(types, type) == types.end()) {
    actions_.send(Bytes{0});
    return fail("VeNCrypt subtype {} was not offered", type);
  }
  actions_.send(Bytes{1});
  password_within_tls_ = type == security::kX509Vnc || type == security::kTlsVnc;
  state_ = State::kTls;
  actions_.start_tls();
  return 4;
}

void ClientProtocol::tls_is_up() {
  if (state_ == State::kTls) authenticate(password_within_tls_);
}

void ClientProtocol::authenticate(bool password) {
  if (!password) {
    // 3.3 and 3.7 have no result for "None" (RFC 6143 §7.2.1, appendix A).
    if (minor_version_ == 8) actions_.send(number(kOk));
    state_ = State::kClientInit;
    return;
  }
  if (::getrandom(challenge_.data(), challenge_.size(), 0) !=
      static_cast<ssize_t>(challenge_.size())) {
    state_ = State::kRefused;
    actions_.refuse();
    return;
  }
  actions_.send(challenge_);
  state_ = State::kResponse;
}

Result<size_t> ClientProtocol::response(Input input) {
  if (input.size() < challenge_.size()) return 0;
  if (actions_.password_matches(challenge_, input.first<16>())) {
    actions_.send(number(kOk));
    state_ = State::kClientInit;
  } else {
    state_ = State::kRefused;
    actions_.refuse();
  }
  return challenge_.size();
}

Bytes ClientProtocol::refusal() const {
  Bytes bytes = number(kFailed);
  if (minor_version_ == 8) put_text(bytes, kWrongPassword);
  return bytes;
}

Result<size_t> ClientProtocol::message(Input input) {
  const auto take = [&](size_t size, const auto& act) -> size_t {
    if (input.size() < size) return 0;
    act();
    return size;
  };
  switch (input[0]) {
    case kSetPixelFormat: {
      constexpr size_t kSize = 20;
      if (input.size() < kSize) return 0;
      const unsigned bits = input[4], depth = input[5];
      if ((bits != 8 && bits != 16 && bits != 32) || depth == 0 || depth > 32)
        return fail("a pixel format of {} bits, {} of them used, is none", bits, depth);
      if (input[7] != 0)  // true colour
        for (size_t i = 0; i < 3; ++i) {
          const uint16_t most = get16(input, 8 + 2 * i);
          if ((most & (most + 1u)) != 0 || input[14 + i] >= bits)
            return fail("a pixel format with a colour of {} << {} is none", most, input[14 + i]);
        }
      actions_.set_pixel_format(input.first(kSize));
      return kSize;
    }
    case kSetEncodings:
      return encodings(input);
    case kUpdateRequest:
      return take(10, [&] { actions_.request_update(input.first(10)); });
    case kKey:
      return take(8, [&] { actions_.key(get32(input, 4), input[1] != 0); });
    case kPointer:
      return take(6, [&] { actions_.pointer(input[1], get16(input, 2), get16(input, 4)); });
    case kCutText:
      return cut_text(input);
    case kSetDesktopSize:
      return desktop_size(input);
    case kQemu:
      return qemu_message(input);
    default:
      return fail("message type {} is not supported", input[0]);
  }
}

Result<size_t> ClientProtocol::encodings(Input input) {
  if (input.size() < 4) return 0;
  const size_t count = get16(input, 2);
  if (count > kMostEncodings) return fail("{} encodings are too many", count);
  const size_t size = 4 + 4 * count;
  if (input.size() < size) return 0;
  std::vector<int32_t> list;
  list.reserve(count);
  for (size_t i = 0; i < count; ++i) list.push_back(static_cast<int32_t>(get32(input, 4 + 4 * i)));
  actions_.set_encodings(list);
  return size;
}

/// Nobody pastes into a guest this way yet: what was copied is passed over.
Result<size_t> ClientProtocol::cut_text(Input input) {
  if (input.size() < 8) return 0;
  const auto length = static_cast<int32_t>(get32(input, 4));
  // A negative length is that of the extended clipboard's messages.
  const auto bytes = static_cast<uint32_t>(length < 0 ? -static_cast<int64_t>(length) : length);
  if (bytes > kMostCutText) return fail("a copied text of {} bytes is too long", bytes);
  skip_ = bytes;
  return 8;
}

Result<size_t> ClientProtocol::desktop_size(Input input) {
  if (input.size() < 8) return 0;
  const size_t screens = input[6];
  if (screens > kMostScreens) return fail("{} screens are too many", screens);
  const size_t size = 8 + 16 * screens;
  if (input.size() < size) return 0;
  actions_.set_desktop_size(get16(input, 2), get16(input, 4));
  return size;
}

Result<size_t> ClientProtocol::qemu_message(Input input) {
  if (input.size() < 2) return 0;
  if (input[1] == kQemuKey) {
    constexpr size_t kSize = 12;
    if (input.size() < kSize) return 0;
    actions_.scan_code(get32(input, 4), get32(input, 8), get16(input, 2) != 0);
    return kSize;
  }
  if (input[1] == kQemuAudio) {
    // There is no sound to be turned on and off.
    if (input.size() < 4) return 0;
    constexpr uint16_t kSetFormat = 2;
    const size_t size = get16(input, 2) == kSetFormat ? 10 : 4;
    return input.size() < size ? 0 : size;
  }
  return fail("QEMU's message {} is not supported", input[1]);
}

}  // namespace limen::vnc
