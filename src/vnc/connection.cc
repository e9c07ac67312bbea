#include "vnc/connection.h"

#include <netdb.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "base/log.h"
#include "vnc/key_symbols.h"

namespace limen::vnc {
namespace {

using std::chrono::seconds;

/// A client that takes nothing for so long, or has not said who it is by then, is dropped.
constexpr seconds kPatience{20};
constexpr seconds kRefusalDelay{1};
/// As long as so much waits to be sent, no more is encoded.
constexpr size_t kEnoughOutput = size_t{1} << 20;
/// Answers that a client provokes without taking them end here.
constexpr size_t kMostOutput = size_t{256} << 20;

}  // namespace

Connection::Address Connection::address_of(int fd, bool peer) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  if ((peer ? ::getpeername(fd, raw, &size) : ::getsockname(fd, raw, &size)) != 0)
    return {.host = "", .service = "", .family = "unknown"};
  if (address.ss_family == AF_UNIX) {
    const auto* const path = reinterpret_cast<const sockaddr_un*>(&address)->sun_path;
    const bool named = size > offsetof(sockaddr_un, sun_path);
    return {.host = "", .service = named ? path : "", .family = "unix"};
  }
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> service{};
  ::getnameinfo(raw, size, host.data(), host.size(), service.data(), service.size(),
                NI_NUMERICHOST | NI_NUMERICSERV);
  return {.host = host.data(),
          .service = service.data(),
          .family = address.ss_family == AF_INET6 ? "ipv6" : "ipv4"};
}

Connection::Connection(EventLoop& loop, ConnectionHost& host, UniqueFd fd, Way way)
    : loop_(loop),
      host_(host),
      fd_(std::move(fd)),
      way_(std::move(way)),
      peer_(address_of(fd_.get(), true)),
      local_(address_of(fd_.get(), false)),
      protocol_(*this, way_.security),
      patience_(loop, [this] { close("it has not taken anything for a while"); }),
      refusal_(loop, [this] {
        send(protocol_.refusal());
        close("wrong password");
      }) {}

Connection::~Connection() {
  let_go();
  if (watched_) loop_.unwatch(fd_.get());
}

std::string Connection::name() const {
  return peer_.family == "unix" ? "a client on a Unix socket" : peer_.host + ":" + peer_.service;
}

Result<> Connection::start() {
  LIMEN_TRY(loop_.watch(fd_.get(), EPOLLIN, [this](uint32_t events) { ready(events); }));
  watched_ = true;
  patience_.arm(Clock::now() + kPatience);
  if (way_.websocket) {
    websocket_ = std::make_unique<WebSocket>();
    if (way_.credentials != nullptr) LIMEN_TRY(begin_tls());
    return {};
  }
  protocol_.start();
  return {};
}

void Connection::close(const std::string& why) {
  if (std::exchange(over_, true)) return;
  log::info("VNC: {} is gone{}{}", name(), why.empty() ? "" : ": ", why);
  let_go();
  patience_.disarm();
  refusal_.disarm();
  flush();
  host_.over(*this);
}

void Connection::ready(uint32_t events) {
  if (over_) return;
  if ((events & EPOLLOUT) != 0) {
    flush();
    update();
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive();
}

void Connection::receive() {
  // A client that sends without end gives the others a turn.
  constexpr int kTurns = 4;
  for (int i = 0; i < kTurns && !over_; ++i) {
    std::array<uint8_t, 16384> bytes;
    const auto count = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) return close(count == 0 ? "" : "its connection broke");
    if (auto done = received(std::span(bytes).first(static_cast<size_t>(count))); !done)
      return close(done.error().message);
    if (static_cast<size_t>(count) < bytes.size()) return;
  }
}

Result<> Connection::received(std::span<const uint8_t> bytes) {
  Bytes plain, raw;
  if (tls_ != nullptr) {
    const bool was_up = tls_->is_up();
    const auto done = tls_->receive(bytes, plain, raw);
    send_raw(raw);
    LIMEN_TRY(done);
    if (!was_up && tls_->is_up() && websocket_ == nullptr) protocol_.tls_is_up();
    if (tls_->peer_closed()) return fail("it has closed TLS");
    bytes = plain;
  }
  Bytes data, answer;
  if (websocket_ != nullptr) {
    const bool was_open = websocket_->is_open();
    const auto done = websocket_->receive(bytes, data, answer);
    if (tls_ != nullptr) {
      Bytes encrypted;
      LIMEN_TRY(tls_->send(answer, encrypted));
      answer = std::move(encrypted);
    }
    send_raw(answer);
    LIMEN_TRY(done);
    if (!was_open && websocket_->is_open()) protocol_.start();
    if (websocket_->is_closing()) return fail("it has closed the WebSocket");
    bytes = data;
  }
  return protocol_.feed(bytes);
}

Result<> Connection::begin_tls() {
  tls_ = LIMEN_TRY(TlsSession::create(way_.credentials));
  return {};
}

void Connection::start_tls() {
  if (auto begun = begin_tls(); !begun) close(begun.error().message);
}

void Connection::send(std::span<const uint8_t> bytes) {
  Bytes wrapped, encrypted;
  if (websocket_ != nullptr) {
    WebSocket::wrap(bytes, wrapped);
    bytes = wrapped;
  }
  if (tls_ != nullptr) {
    if (auto sent = tls_->send(bytes, encrypted); !sent) return close(sent.error().message);
    bytes = encrypted;
  }
  send_raw(bytes);
}

void Connection::send_raw(std::span<const uint8_t> bytes) {
  if (bytes.empty() || over_) {
    if (!bytes.empty()) output_.insert(output_.end(), bytes.begin(), bytes.end());
    return;
  }
  if (output_.size() - sent_ + bytes.size() > kMostOutput)
    return close("it has not taken what it asked for");
  const bool idle = output_.size() == sent_;
  output_.insert(output_.end(), bytes.begin(), bytes.end());
  if (idle) flush();
}

void Connection::flush() {
  bool moved = false;
  while (sent_ < output_.size()) {
    const auto count = ::send(fd_.get(), output_.data() + sent_, output_.size() - sent_,
                              MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno != EAGAIN) {
      if (!over_) close("its connection broke");
      return;
    }
    if (count < 0) break;
    moved = true;
    sent_ += static_cast<size_t>(count);
  }
  if (sent_ == output_.size()) {
    output_.clear();
    sent_ = 0;
    if (!over_ && is_initialized()) patience_.disarm();
    watch(false);
    return;
  }
  if (sent_ > kEnoughOutput) {
    output_.erase(output_.begin(), output_.begin() + static_cast<ptrdiff_t>(sent_));
    sent_ = 0;
  }
  if (over_) return;
  if (is_initialized() && (moved || !watches_output_)) patience_.arm(Clock::now() + kPatience);
  watch(true);
}

void Connection::watch(bool output) {
  if (output == watches_output_ || !watched_ || over_) return;
  watches_output_ = output;
  if (auto changed = loop_.change(fd_.get(), output ? EPOLLIN | EPOLLOUT : EPOLLIN); !changed)
    close(changed.error().message);
}

bool Connection::password_matches(std::span<const uint8_t, 16> challenge,
                                  std::span<const uint8_t, 16> response) {
  return host_.password_matches(challenge, response);
}

void Connection::refuse() {
  log::warning("VNC: {} gave a wrong password", name());
  refusal_.arm(Clock::now() + kRefusalDelay);
}

void Connection::initialized(bool shared) {
  if (!host_.joined(*this, shared)) return close("it wants the screen for itself");
  auto client = Encoder::Client::create(host_.encoder());
  if (!client) return close(client.error().message);
  client_ = std::move(*client);
  patience_.disarm();
  take_encoded();
}

void Connection::take_encoded() {
  if (client_ == nullptr || over_) return;
  const auto bytes = client_->take();
  if (!bytes.empty()) send(bytes);
}

void Connection::to_library(std::span<const uint8_t> message) {
  if (client_ == nullptr || over_) return;
  if (auto done = client_->message(message); !done) return close(done.error().message);
  take_encoded();
}

void Connection::update() {
  if (client_ == nullptr || over_) return;
  if (output_.size() - sent_ > kEnoughOutput) return;
  if (auto done = client_->update(); !done) return close(done.error().message);
  take_encoded();
  tell_of_pointer();
  tell_of_lights();
}

void Connection::set_pixel_format(std::span<const uint8_t> message) { to_library(message); }

void Connection::request_update(std::span<const uint8_t> message) {
  to_library(message);
  update();
}

void Connection::set_encodings(const std::vector<int32_t>& encodings) {
  using namespace encoding;
  relative_pointer_ = extended_key_ = led_state_ = false;
  Bytes known;
  unsigned count = 0;
  for (const int32_t each : encodings) {
    const bool compression = each >= kFirstCompression && each <= kLastCompression;
    const bool quality = each >= kFirstQuality && each <= kLastQuality;
    switch (each) {
      case kPointerMotionChange:
        relative_pointer_ = true;
        continue;
      case kExtendedKey:
        extended_key_ = true;
        continue;
      case kLedState:
        led_state_ = true;
        continue;
      case kRaw:
      case kCopyRect:
      case kRre:
      case kCoRre:
      case kHextile:
      case kZlib:
      case kTight:
      case kZrle:
      case kDesktopSize:
      case kLastRect:
      case kRichCursor:
      case kXCursor:
      case kExtendedDesktopSize:
        break;
      default:
        // Without a quality, Tight does not lose anything.
        if (!compression && !(quality && way_.lossy)) continue;
    }
    put32(known, static_cast<uint32_t>(each));
    ++count;
  }
  Bytes message = {2, 0};
  put16(message, count);
  message.insert(message.end(), known.begin(), known.end());
  to_library(message);
  if (extended_key_) send_rectangle(0, kExtendedKey, {});
  told_absolute_.reset();
  told_lights_.reset();
  tell_of_pointer();
  tell_of_lights();
}

void Connection::send_rectangle(unsigned x, int32_t encoding, std::span<const uint8_t> data) {
  if (client_ == nullptr || over_) return;
  Bytes message = {0, 0};
  put16(message, 1);
  put16(message, x);
  put16(message, 0);
  put16(message, host_.encoder().width());
  put16(message, host_.encoder().height());
  put32(message, static_cast<uint32_t>(encoding));
  message.insert(message.end(), data.begin(), data.end());
  send(message);
}

void Connection::tell_of_pointer() {
  const bool absolute = host_.input().absolute();
  if (!relative_pointer_ || told_absolute_ == absolute) return;
  told_absolute_ = absolute;
  has_position_ = false;
  send_rectangle(absolute ? 1 : 0, encoding::kPointerMotionChange, {});
}

void Connection::tell_of_lights() {
  const uint8_t lights = host_.input().leds();
  if (!led_state_ || told_lights_ == lights) return;
  told_lights_ = lights;
  send_rectangle(0, encoding::kLedState, std::span(&lights, 1));
}

void Connection::press(display::KeyCode code, bool down) {
  if (down)
    keys_.insert(code);
  else
    keys_.erase(code);
  host_.input().key(code, down);
}

void Connection::let_go() {
  auto& input = host_.input();
  for (const auto code : keys_) input.key(code, false);
  keys_.clear();
  symbols_.clear();
  if (buttons_ == 0) return;
  for (const auto button :
       {display::Button::kLeft, display::Button::kMiddle, display::Button::kRight})
    input.button(button, false);
  buttons_ = 0;
  input.sync();
}

void Connection::key(uint32_t symbol, bool down) {
  host_.stir();
  type_symbol(symbol, down);
}

/// A client says what is to appear, and holds Shift as its own keyboard needs it; on the guest's
/// American keyboard the same may need another Shift.
void Connection::type_symbol(uint32_t symbol, bool down) {
  constexpr display::KeyCode kShift = 0x2A, kRightShift = 0x36;
  const auto held =
      std::ranges::find(symbols_, symbol, &std::pair<uint32_t, display::KeyCode>::first);
  if (!down) {
    if (held == symbols_.end()) return;
    const auto code = held->second;
    symbols_.erase(held);
    return press(code, false);
  }
  const auto key = find_symbol(symbol);
  if (!key) {
    log::debug("VNC: no key has the symbol {:#x}", symbol);
    return;
  }
  constexpr size_t kMostHeld = 64;
  if (held == symbols_.end() && symbols_.size() < kMostHeld)
    symbols_.emplace_back(symbol, key->code);
  const bool left = keys_.contains(kShift), right = keys_.contains(kRightShift);
  // Ctrl and Alt make commands, which go by the key.
  const bool command =
      keys_.contains(0x1D) || keys_.contains(0x1D | display::kExtended) || keys_.contains(0x38);
  constexpr uint8_t kCapsLight = 4;
  const bool locked = key->letter && (host_.input().leds() & kCapsLight) != 0;
  const bool wanted = key->shift != SymbolKey::Shift::kAny && !command
                          ? (key->shift == SymbolKey::Shift::kDown) != locked
                          : left || right;
  auto& input = host_.input();
  if (wanted == (left || right)) return press(key->code, true);
  if (wanted) {
    input.key(kShift, true);
    press(key->code, true);
    input.key(kShift, false);
    return;
  }
  if (left) input.key(kShift, false);
  if (right) input.key(kRightShift, false);
  press(key->code, true);
  if (left) input.key(kShift, true);
  if (right) input.key(kRightShift, true);
}

void Connection::scan_code(uint32_t symbol, uint32_t code, bool down) {
  host_.stir();
  constexpr uint32_t kLast = 0xFF;
  if (code == 0) return type_symbol(symbol, down);  // the client does not know
  if (code <= kLast) press(static_cast<display::KeyCode>(code), down);
}

void Connection::pointer(uint8_t buttons, uint16_t x, uint16_t y) {
  using display::Button;
  host_.stir();
  auto& input = host_.input();
  const auto width = static_cast<int>(host_.encoder().width());
  const auto height = static_cast<int>(host_.encoder().height());
  const auto scaled = [](int at, int size) {
    constexpr int kScale = static_cast<int>(display::PointerSink::kScale);
    return static_cast<unsigned>(size <= 1 ? 0 : std::clamp(at, 0, size - 1) * kScale / (size - 1));
  };
  if (input.absolute()) {
    input.move_to(scaled(x, width), scaled(y, height));
    host_.encoder().move_pointer(x, y);
  } else if (relative_pointer_) {
    constexpr int kNoMovement = 0x7FFF;
    input.move_by(x - kNoMovement, y - kNoMovement);
  } else {
    if (has_position_) input.move_by(x - last_x_, y - last_y_);
    last_x_ = x;
    last_y_ = y;
    has_position_ = true;
  }
  constexpr std::array kButtons = {Button::kLeft, Button::kMiddle, Button::kRight};
  const auto changed = static_cast<uint8_t>(buttons ^ buttons_);
  for (size_t i = 0; i < kButtons.size(); ++i)
    if ((changed >> i & 1) != 0) input.button(kButtons.at(i), (buttons >> i & 1) != 0);
  // Steps of the wheel are buttons here: up, down, left, right.
  const auto pressed = static_cast<uint8_t>(changed & buttons);
  const int up = pressed >> 3 & 1, to_bottom = pressed >> 4 & 1;
  const int to_left = pressed >> 5 & 1, to_right = pressed >> 6 & 1;
  if (up != to_bottom || to_left != to_right) input.wheel(up - to_bottom, to_right - to_left);
  buttons_ = buttons;
  input.sync();
}

void Connection::set_desktop_size(uint16_t width, uint16_t height) {
  constexpr unsigned kLeast = 64, kMost = 16384;
  const bool possible = width >= kLeast && height >= kLeast && width <= kMost && height <= kMost;
  if (possible) host_.wish_size(width, height);
  // As the answer says: reason "this client", result "passed on" (QEMU's 4) or "invalid layout".
  // The size that is, with one screen of that size; a new one is told when the guest has it.
  constexpr unsigned kThisClient = 1, kPassedOn = 4, kInvalid = 3;
  Bytes message = {0, 0};
  put16(message, 1);
  put16(message, kThisClient);
  put16(message, possible ? kPassedOn : kInvalid);
  put16(message, host_.encoder().width());
  put16(message, host_.encoder().height());
  put32(message, static_cast<uint32_t>(encoding::kExtendedDesktopSize));
  put32(message, 1u << 24);  // one screen, then padding
  put32(message, 0);         // its number
  put32(message, 0);         // its place
  put16(message, host_.encoder().width());
  put16(message, host_.encoder().height());
  put32(message, 0);
  send(message);
}

}  // namespace limen::vnc
