#include "net/tap_backend.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/log.h"
#include "net/host_program.h"

namespace limen::net {
namespace {

/// Frames taken in a row before others have a turn.
constexpr unsigned kBurst = 64;
constexpr size_t kHeaderBytes = sizeof(OffloadHeader);
/// With num_buffers, as it is in a ring (virtio 1.2 §5.1.6).
constexpr size_t kRingHeaderBytes = kHeaderBytes + sizeof(uint16_t);

void copy_name(ifreq& request, const std::string& name) {
  std::memcpy(request.ifr_name, name.data(), std::min(name.size(), sizeof request.ifr_name - 1));
}

Result<UniqueFd> take_descriptor(const std::string& text, const std::string& id) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0)
    return fail("'{}' is not the number of a file descriptor", text);
  if (::fcntl(number, F_GETFL) < 0)
    return fail_errno(errno, fmt::format("{}: Can't use file descriptor {}", id, number));
  ::fcntl(number, F_SETFD, FD_CLOEXEC);
  return UniqueFd(number);
}

/// All that are open are taken, whatever is wrong with one.
Result<std::vector<UniqueFd>> take_descriptors(const std::vector<std::string>& texts,
                                               const std::string& id) {
  std::vector<UniqueFd> taken;
  Result<> outcome;
  for (const auto& text : texts) {
    auto fd = take_descriptor(text, id);
    if (fd)
      taken.push_back(*std::move(fd));
    else if (outcome)
      outcome = std::unexpected(std::move(fd).error());
  }
  if (!outcome) return std::unexpected(std::move(outcome).error());
  return taken;
}

}  // namespace

Result<std::unique_ptr<Port>> TapBackend::create(const TapOptions& options, const std::string& id,
                                                 EventLoop& loop,
                                                 const memory::GuestMemory* shared) {
  std::unique_ptr<TapBackend> backend(new TapBackend(loop, id));
  // What was handed over goes with a failure.
  auto taps = take_descriptors(options.fds, id), vhosts = take_descriptors(options.vhost_fds, id);
  if (options.vhost) {
    const Result<> opened = vhosts ? backend->open_vhost(options, *std::move(vhosts), shared)
                                   : std::unexpected(vhosts.error());
    if (!opened) {
      backend->vhosts_.clear();
      if (options.vhost_required) return std::unexpected(opened.error());
      log::warning("{}: {}; frames go through this process", id, opened.error().message);
    }
  }
  if (!options.helper.empty())
    LIMEN_TRY(backend->set_up(
        LIMEN_TRY(ask_bridge_helper(options.helper, options.bridge, options.header))));
  else if (options.fds.empty())
    LIMEN_TRY(backend->open(options));
  else
    LIMEN_TRY(backend->adopt(LIMEN_TRY(std::move(taps))));
  backend->set_offloads();
  for (unsigned i = 0; i < backend->queues_.size(); ++i) backend->watch(i);
  return backend;
}

TapBackend::~TapBackend() {
  disconnect();  // while the kernel can still be stopped
  for (const auto& queue : queues_) loop_.unwatch(queue.fd.get());
  if (!down_script_.empty())
    if (auto ran = run_host_program("network script", {down_script_, interface_}); !ran)
      log::warning("{}", ran.error().message);
}

Result<> TapBackend::open(const TapOptions& options) {
  if (options.interface.size() >= IFNAMSIZ)
    return fail("ifname={}: an interface's name has at most {} characters", options.interface,
                IFNAMSIZ - 1);
  interface_ = options.interface.empty() ? "tap%d" : options.interface;
  for (unsigned i = 0; i < options.queues; ++i) {
    UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!fd.valid()) return fail_errno(errno, "could not open /dev/net/tun");
    unsigned features = 0;
    if (::ioctl(fd.get(), TUNGETFEATURES, &features) != 0) features = 0;
    const bool can_header = (features & IFF_VNET_HDR) != 0;
    if (options.header && options.header_required && !can_header)
      return fail("vnet_hdr=1 requested, but no kernel support for IFF_VNET_HDR available");
    ifreq request{};
    copy_name(request, interface_);
    unsigned flags = IFF_TAP | IFF_NO_PI;
    if (options.header && can_header) flags |= IFF_VNET_HDR;
    if (options.queues > 1) flags |= IFF_MULTI_QUEUE;
    request.ifr_flags = static_cast<short>(flags);
    if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) {
      const int error = errno;
      return fail_errno(error,
                        fmt::format("could not configure /dev/net/tun ({})",
                                    options.interface.empty() ? "tap%d" : options.interface));
    }
    request.ifr_name[IFNAMSIZ - 1] = '\0';
    interface_ = request.ifr_name;
    LIMEN_TRY(set_up(std::move(fd)));
    if (i == 0 && !options.script.empty() && options.script != "no")
      LIMEN_TRY(run_host_program("network script", {options.script, interface_}));
  }
  if (options.down_script != "no") down_script_ = options.down_script;
  return {};
}

Result<> TapBackend::adopt(std::vector<UniqueFd> queues) {
  for (auto& fd : queues) LIMEN_TRY(set_up(std::move(fd)));
  return {};
}

Result<> TapBackend::set_up(UniqueFd fd) {
  ifreq request{};
  if (::ioctl(fd.get(), TUNGETIFF, &request) != 0)
    return fail_errno(errno, fmt::format("file descriptor {} is not a tap device", fd.get()));
  const auto flags = static_cast<unsigned short>(request.ifr_flags);
  if ((flags & IFF_TAP) == 0)
    return fail("'{}' is a tun device: frames need a tap device", request.ifr_name);
  const bool header = (flags & IFF_VNET_HDR) != 0;
  if (!queues_.empty() && header != header_)
    return fail("vnet_hdr not consistent across given tap fds");
  header_ = header;
  interface_ = request.ifr_name;
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
  if (header) {
    const int size = static_cast<int>(kHeaderBytes);
    if (::ioctl(fd.get(), TUNSETVNETHDRSZ, &size) != 0) return fail_errno(errno, "TUNSETVNETHDRSZ");
    // UFO is gone from Linux; a kernel that lacks it says EINVAL.
    accepted_ = {.checksum = true, .tcp4 = true, .tcp6 = true, .ecn = true, .udp = true};
  }
  Queue queue;
  queue.fd = std::move(fd);
  queue.buffer.resize(kHeaderBytes + kMaximumFrame);
  queues_.push_back(std::move(queue));
  return {};
}

std::string TapBackend::describe() const {
  return fmt::format("tap: ifname={},queues={},vnet_hdr={}{}", interface_, queues_.size(),
                     header_ ? "on" : "off", vhosts_.empty() ? "" : ",vhost=on");
}

/// Tells the kernel what the card takes unfinished.
void TapBackend::set_offloads() {
  const Offloads wanted = peer_offloads();
  if (!header_ || (set_known_ && wanted == set_)) return;
  unsigned bits = 0;
  if (wanted.checksum) {
    bits |= TUN_F_CSUM;
    if (wanted.tcp4) bits |= TUN_F_TSO4;
    if (wanted.tcp6) bits |= TUN_F_TSO6;
    if (wanted.ecn && (wanted.tcp4 || wanted.tcp6)) bits |= TUN_F_TSO_ECN;
    if (wanted.udp) bits |= TUN_F_UFO;
  }
  for (const auto& queue : queues_)
    if (::ioctl(queue.fd.get(), TUNSETOFFLOAD, bits) != 0 && errno == EINVAL)
      ::ioctl(queue.fd.get(), TUNSETOFFLOAD, bits & ~static_cast<unsigned>(TUN_F_UFO));
  set_ = wanted;
  set_known_ = true;
}

void TapBackend::peer_changed() {
  set_offloads();
  if (peer() == nullptr) release();
}

void TapBackend::set_queues(unsigned pairs) {
  if (queues_.size() < 2) return;
  for (unsigned i = 0; i < queues_.size(); ++i) {
    const bool attach = i < std::max(pairs, 1u);
    if (queues_[i].attached == attach) continue;
    ifreq request{};
    request.ifr_flags = static_cast<short>(attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE);
    if (::ioctl(queues_[i].fd.get(), TUNSETQUEUE, &request) == 0) queues_[i].attached = attach;
  }
}

// --- Rings that the kernel serves ----------------------------------------------------------------

/// Before anything of the host's is changed.
Result<> TapBackend::open_vhost(const TapOptions& options, std::vector<UniqueFd> devices,
                                const memory::GuestMemory* shared) {
  // It writes guest memory past an engine that must hear of what overwrites code.
  if (shared == nullptr) return fail("vhost=on takes -accel kvm");
  poll_microseconds_ = options.poll_microseconds;
  for (unsigned i = 0; i < options.queues; ++i) {
    auto device = devices.empty() ? VhostNet::open(*shared)
                                  : VhostNet::create(std::move(devices[i]), *shared);
    if (!device) return fail("vhost=on: {}", device.error().message);
    vhosts_.push_back(*std::move(device));
  }
  return {};
}

void TapBackend::set_header_bytes(size_t bytes) {
  const int size = static_cast<int>(bytes);
  for (const auto& queue : queues_)
    if (header_) ::ioctl(queue.fd.get(), TUNSETVNETHDRSZ, &size);
}

Result<> TapBackend::start(uint64_t features, std::span<const KernelRingPair> pairs) {
  in_kernel_ = true;
  set_header_bytes(kRingHeaderBytes);
  for (unsigned i = 0; i < queues_.size(); ++i) {
    queues_[i].waiting = 0;
    queues_[i].read_blocked = queues_[i].write_blocked = false;
    update_watch(i);
  }
  // All of them before the first one runs.
  for (size_t i = 0; i < pairs.size(); ++i)
    LIMEN_TRY(vhosts_[i].prepare(header_, poll_microseconds_, features, pairs[i]));
  kernel_serves_ = pairs.size();
  for (size_t i = 0; i < pairs.size(); ++i) LIMEN_TRY(vhosts_[i].start(queues_[i].fd.get()));
  return {};
}

std::vector<KernelRings::Next> TapBackend::stop() {
  std::vector<Next> next;
  next.reserve(kernel_serves_);
  for (size_t i = 0; i < kernel_serves_; ++i) next.push_back(vhosts_[i].stop());
  kernel_serves_ = 0;
  return next;
}

void TapBackend::release() {
  if (!in_kernel_) return;
  in_kernel_ = false;
  set_header_bytes(kHeaderBytes);
  for (unsigned i = 0; i < queues_.size(); ++i) update_watch(i);
}

// --- Frames --------------------------------------------------------------------------------------

void TapBackend::watch(unsigned index) {
  const auto watched =
      loop_.watch(queues_[index].fd.get(), EPOLLIN, [this, index](uint32_t events) {
        if ((events & EPOLLOUT) != 0 && queues_[index].write_blocked) {
          queues_[index].write_blocked = false;
          update_watch(index);
          ready();
        }
        if ((events & (EPOLLIN | EPOLLERR)) != 0) read_frames(index);
      });
  if (!watched) log::warning("{}: {}", id_, watched.error().message);
}

void TapBackend::update_watch(unsigned index) {
  const Queue& queue = queues_[index];
  uint32_t events = 0;
  if (!queue.read_blocked && !in_kernel_) events |= EPOLLIN;
  if (queue.write_blocked) events |= EPOLLOUT;
  [[maybe_unused]] const auto changed = loop_.change(queue.fd.get(), events);
}

Delivery TapBackend::receive(const Frame& frame, unsigned index) {
  Queue& queue = queues_[index % queues_.size()];
  OffloadHeader header = frame.offload;
  std::array<iovec, 64> parts;
  std::vector<iovec> many;
  std::span<iovec> all;
  const size_t count = frame.parts.size() + (header_ ? 1 : 0);
  if (count <= parts.size()) {
    all = std::span(parts).first(count);
  } else {
    many.resize(count);
    all = many;
  }
  if (header_) all[0] = {&header, sizeof header};
  std::ranges::copy(frame.parts, all.begin() + (header_ ? 1 : 0));
  if (all.size() > IOV_MAX) return Delivery::kTaken;
  while (::writev(queue.fd.get(), all.data(), static_cast<int>(all.size())) < 0) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN) break;  // the interface is down, or the frame is none: lost, as on a wire
    queue.write_blocked = true;
    update_watch(index % static_cast<unsigned>(queues_.size()));
    return Delivery::kFull;
  }
  return Delivery::kTaken;
}

/// Gives what was read to the card. False: it has no room.
bool TapBackend::deliver(unsigned index) {
  Queue& queue = queues_[index];
  Frame frame;
  const size_t skip = header_ ? kHeaderBytes : 0;
  if (queue.waiting > skip) {
    const iovec part{queue.buffer.data() + skip, queue.waiting - skip};
    frame.parts = {&part, 1};
    frame.bytes = part.iov_len;
    if (header_) std::memcpy(&frame.offload, queue.buffer.data(), kHeaderBytes);
    if (send(frame, index) == Delivery::kFull) return false;
  }
  queue.waiting = 0;
  return true;
}

void TapBackend::read_frames(unsigned index) {
  if (in_kernel_) return;
  Queue& queue = queues_[index];
  bool blocked = queue.waiting != 0 && !deliver(index);
  for (unsigned i = 0; i < kBurst && !blocked; ++i) {
    const ssize_t got = ::read(queue.fd.get(), queue.buffer.data(), queue.buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    queue.waiting = static_cast<size_t>(got);
    blocked = !deliver(index);
  }
  end_burst();
  if (blocked == queue.read_blocked) return;
  queue.read_blocked = blocked;
  update_watch(index);
}

void TapBackend::peer_ready() {
  for (unsigned i = 0; i < queues_.size(); ++i)
    if (queues_[i].read_blocked) read_frames(i);
}

}  // namespace limen::net
