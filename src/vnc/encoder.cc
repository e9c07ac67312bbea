#include "vnc/encoder.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

// Behind the others: it defines macros with plain names.
#include <rfb/rfb.h>

namespace limen::vnc {
namespace {

constexpr int kBitsPerColour = 8, kColours = 3, kBytesPerPixel = 4;
constexpr uint8_t kOpaque = 0x80;  // a pointer's pixel shows from this alpha on
/// The library gives up a client that takes nothing for so long (milliseconds). Its client is the
/// pump, which takes everything, however busy the host is.
constexpr int kPatience = 60'000;

void set_format(rfbScreenInfo& screen) {
  screen.serverFormat.redShift = 16;
  screen.serverFormat.greenShift = 8;
  screen.serverFormat.blueShift = 0;
}

}  // namespace

/// Empties the sockets that the library writes to.
class Encoder::Pump {
 public:
  struct Outlet {
    UniqueFd fd;
    std::mutex mutex;
    Bytes data;  // guarded by mutex
    std::atomic<bool> gone = false;
  };

  Result<> start() {
    wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_.valid()) return fail_errno(errno, "eventfd");
    thread_ = std::thread([this] { run(); });
    return {};
  }
  ~Pump() {
    stopping_ = true;
    wake();
    if (thread_.joinable()) thread_.join();
  }

  void add(const std::shared_ptr<Outlet>& outlet) {
    const std::lock_guard lock(mutex_);
    outlets_.push_back(outlet);
    wake();
  }
  void remove(const std::shared_ptr<Outlet>& outlet) {
    const std::lock_guard lock(mutex_);
    std::erase(outlets_, outlet);
    wake();
  }
  /// Moves what lies in the socket to `data`; order is kept, as the lock is held for both.
  static void drain(Outlet& outlet) {
    const std::lock_guard lock(outlet.mutex);
    std::array<uint8_t, 65536> part;
    while (true) {
      const auto count = ::recv(outlet.fd.get(), part.data(), part.size(), MSG_DONTWAIT);
      if (count > 0) {
        outlet.data.insert(outlet.data.end(), part.begin(), part.begin() + count);
        continue;
      }
      if (count < 0 && errno == EINTR) continue;
      if (count == 0) outlet.gone = true;
      return;
    }
  }

 private:
  void wake() {
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
  }
  void run() {
    while (!stopping_) {
      std::vector<std::shared_ptr<Outlet>> outlets;
      {
        const std::lock_guard lock(mutex_);
        outlets = outlets_;
      }
      std::vector<pollfd> fds = {{.fd = wake_.get(), .events = POLLIN, .revents = 0}};
      for (const auto& outlet : outlets)
        fds.push_back({.fd = outlet->gone ? -1 : outlet->fd.get(), .events = POLLIN, .revents = 0});
      ::poll(fds.data(), fds.size(), -1);
      uint64_t count = 0;
      if (fds[0].revents != 0) [[maybe_unused]]
        const auto read = ::read(wake_.get(), &count, sizeof count);
      for (size_t i = 0; i < outlets.size(); ++i)
        if (fds[i + 1].revents != 0) drain(*outlets[i]);
    }
  }

  UniqueFd wake_;
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Outlet>> outlets_;  // guarded by mutex_
  std::thread thread_;
};

struct Encoder::Library {
  std::string name;
  rfbScreenInfo* screen = nullptr;
  std::vector<uint32_t> pixels;
  ~Library() {
    if (screen == nullptr) return;
    rfbSetCursor(screen, nullptr);
    screen->frameBuffer = nullptr;
    rfbScreenCleanup(screen);
  }
};

Encoder::Encoder(std::string name)
    : library_(std::make_unique<Library>()), pump_(std::make_unique<Pump>()) {
  library_->name = std::move(name);
}
Encoder::~Encoder() = default;

Result<std::unique_ptr<Encoder>> Encoder::create(const std::string& name) {
  rfbLogEnable(0);
  std::unique_ptr<Encoder> encoder(new Encoder(name));
  auto& library = *encoder->library_;
  constexpr int kWidth = 640, kHeight = 480;
  library.pixels.assign(size_t{kWidth} * kHeight, 0);
  library.screen =
      rfbGetScreen(nullptr, nullptr, kWidth, kHeight, kBitsPerColour, kColours, kBytesPerPixel);
  if (library.screen == nullptr) return fail("LibVNCServer makes no screen");
  auto& screen = *library.screen;
  set_format(screen);
  screen.frameBuffer = reinterpret_cast<char*>(library.pixels.data());
  screen.desktopName = library.name.c_str();
  screen.port = screen.ipv6port = 0;
  screen.autoPort = FALSE;
  screen.ignoreSIGPIPE = FALSE;
  screen.alwaysShared = TRUE;  // who may share is not the library's to decide
  screen.deferUpdateTime = 0;
  screen.maxClientWait = kPatience;
  rfbSetCursor(&screen, nullptr);
  LIMEN_TRY(encoder->pump_->start());
  return encoder;
}

unsigned Encoder::width() const { return static_cast<unsigned>(library_->screen->width); }
unsigned Encoder::height() const { return static_cast<unsigned>(library_->screen->height); }

void Encoder::show(const display::Frame& frame, std::span<const display::Rectangle> changed,
                   bool resized) {
  auto& screen = *library_->screen;
  if (frame.width == 0 || frame.height == 0) return;
  const int width = static_cast<int>(frame.width), height = static_cast<int>(frame.height);
  if (resized || width != screen.width || height != screen.height) {
    std::vector<uint32_t> pixels = frame.pixels;
    rfbNewFramebuffer(&screen, reinterpret_cast<char*>(pixels.data()), width, height,
                      kBitsPerColour, kColours, kBytesPerPixel);
    library_->pixels.swap(pixels);
    // The library has put its own order of colours into the format.
    set_format(screen);
    auto* const clients = rfbGetClientIterator(&screen);
    while (auto* const client = rfbClientIteratorNext(clients)) screen.setTranslateFunction(client);
    rfbReleaseClientIterator(clients);
    return;
  }
  for (const auto& part : changed) {
    const unsigned right = std::min(part.x + part.width, frame.width);
    const unsigned bottom = std::min(part.y + part.height, frame.height);
    if (part.x >= right || part.y >= bottom) continue;
    for (unsigned y = part.y; y < bottom; ++y)
      std::memcpy(library_->pixels.data() + size_t{y} * frame.width + part.x, frame.row(y) + part.x,
                  size_t{right - part.x} * sizeof(uint32_t));
    rfbMarkRectAsModified(&screen, static_cast<int>(part.x), static_cast<int>(part.y),
                          static_cast<int>(right), static_cast<int>(bottom));
  }
}

void Encoder::set_pointer(const std::shared_ptr<const display::Pointer>& pointer) {
  rfbCursor* made = nullptr;
  constexpr unsigned kMost = 512;
  if (pointer != nullptr && pointer->width != 0 && pointer->height != 0 &&
      pointer->width <= kMost && pointer->height <= kMost &&
      pointer->pixels.size() == size_t{pointer->width} * pointer->height) {
    // Allocated as the library frees it.
    made = static_cast<rfbCursor*>(std::calloc(1, sizeof(rfbCursor)));
    const size_t row_bytes = (pointer->width + 7) / 8;
    auto* const mask = static_cast<uint8_t*>(std::calloc(row_bytes, pointer->height));
    auto* const rich =
        static_cast<uint32_t*>(std::calloc(pointer->pixels.size(), sizeof(uint32_t)));
    if (made == nullptr || mask == nullptr || rich == nullptr) {
      std::free(made);
      std::free(mask);
      std::free(rich);
      return;
    }
    for (unsigned y = 0; y < pointer->height; ++y)
      for (unsigned x = 0; x < pointer->width; ++x) {
        const uint32_t pixel = pointer->pixels[size_t{y} * pointer->width + x];
        rich[size_t{y} * pointer->width + x] = pixel & 0xFF'FFFF;
        if (pixel >> 24 >= kOpaque)
          mask[y * row_bytes + x / 8] |= static_cast<uint8_t>(0x80 >> (x % 8));
      }
    made->cleanup = made->cleanupMask = made->cleanupRichSource = TRUE;
    made->width = static_cast<unsigned short>(pointer->width);
    made->height = static_cast<unsigned short>(pointer->height);
    made->xhot = static_cast<unsigned short>(std::min(pointer->hot_x, pointer->width - 1));
    made->yhot = static_cast<unsigned short>(std::min(pointer->hot_y, pointer->height - 1));
    made->mask = mask;
    made->richSource = reinterpret_cast<unsigned char*>(rich);
  }
  rfbSetCursor(library_->screen, made);  // frees the one before
}

void Encoder::move_pointer(unsigned x, unsigned y) {
  library_->screen->cursorX = static_cast<int>(std::min(x, width() - 1));
  library_->screen->cursorY = static_cast<int>(std::min(y, height() - 1));
}

struct Encoder::Client::State {
  Encoder& encoder;
  std::shared_ptr<Pump::Outlet> outlet;
  rfbClientRec* client = nullptr;

  [[nodiscard]] bool alive() const {
    return client != nullptr && client->sock != RFB_INVALID_SOCKET &&
           client->state != rfbClientRec::RFB_SHUTDOWN;
  }
};

Encoder::Client::Client(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<Encoder::Client>> Encoder::Client::create(Encoder& encoder) {
  int pair[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return fail_errno(errno, "socketpair");
  UniqueFd library_end(pair[0]);
  auto outlet = std::make_shared<Pump::Outlet>();
  outlet->fd = UniqueFd(pair[1]);
  // The library keeps its descriptors in an fd_set.
  if (library_end.get() >= FD_SETSIZE) return fail("too many open files for another VNC client");
  // The library greets, too, and is answered as a client of version 3.3 that needs no security: its
  // greeting and the security type are swallowed, what follows is the server's initialisation.
  constexpr std::string_view kHello = "RFB 003.003\n\x01";
  constexpr size_t kSwallowed = 12 + 4;
  if (::send(outlet->fd.get(), kHello.data(), kHello.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(kHello.size()))
    return fail_errno(errno, "greeting LibVNCServer");
  encoder.pump_->add(outlet);
  std::unique_ptr<Client> made(
      new Client(std::make_unique<State>(State{.encoder = encoder, .outlet = outlet})));
  auto& state = *made->state_;
  state.client = rfbNewClient(encoder.library_->screen, library_end.release());
  if (state.client == nullptr) return fail("LibVNCServer takes no more clients");
  for (int i = 0; i < 2 && state.alive(); ++i) rfbProcessClientMessage(state.client);
  Pump::drain(*outlet);
  const std::lock_guard lock(outlet->mutex);
  if (!state.alive() || state.client->state != rfbClientRec::RFB_NORMAL ||
      outlet->data.size() < kSwallowed)
    return fail("LibVNCServer does not take the client");
  outlet->data.erase(outlet->data.begin(), outlet->data.begin() + kSwallowed);
  return made;
}

Encoder::Client::~Client() {
  if (state_->client != nullptr) {
    rfbCloseClient(state_->client);
    rfbClientConnectionGone(state_->client);
  }
  state_->encoder.pump_->remove(state_->outlet);
}

Result<> Encoder::Client::message(std::span<const uint8_t> message) {
  // Fits into the socket: the library has read the one before.
  if (!state_->alive() || ::send(state_->outlet->fd.get(), message.data(), message.size(),
                                 MSG_NOSIGNAL | MSG_DONTWAIT) != std::ssize(message))
    return fail("LibVNCServer has given the client up");
  rfbProcessClientMessage(state_->client);
  if (!state_->alive()) return fail("LibVNCServer has given the client up");
  return {};
}

Result<> Encoder::Client::update() {
  if (!state_->alive()) return fail("LibVNCServer has given the client up");
  rfbUpdateClient(state_->client);
  if (!state_->alive()) return fail("LibVNCServer has given the client up");
  return {};
}

Bytes Encoder::Client::take() {
  Pump::drain(*state_->outlet);
  const std::lock_guard lock(state_->outlet->mutex);
  return std::exchange(state_->outlet->data, {});
}

}  // namespace limen::vnc
