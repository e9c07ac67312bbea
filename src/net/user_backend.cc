#include "net/user_backend.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <slirp/libslirp.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include "base/delayed_library.h"
#include "base/log.h"
#include "net/checksum.h"
#include "net/segmentation.h"

namespace limen::net {
namespace {

constexpr size_t kWireMtu = 1500;
/// What libslirp may send in one piece. Larger would leave no second segment in the 64 KiB of
/// window that it knows, and so nothing to do while the guest acknowledges the first.
constexpr size_t kSlirpMtu = 32768;
constexpr size_t kSlirpMru = 65520;
constexpr size_t kTcpIp4Headers = 40, kTcpIp6Headers = 60;
constexpr uint8_t kTcpSyn = 0x02;

struct SlirpTimer {
  SlirpTimer(EventLoop& loop, SlirpTimerId kind, void* kind_opaque, Slirp*& slirp)
      : id(kind), opaque(kind_opaque), timer(loop, [this, &slirp] {
          if (slirp != nullptr) slirp_handle_timer(slirp, id, opaque);
        }) {}
  SlirpTimerId id;
  void* opaque;
  Timer timer;
};

Result<in_addr> parse_ip4(const std::string& text, const char* what) {
  in_addr address{};
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1) return fail("Failed to parse {}", what);
  return address;
}

Result<in6_addr> parse_ip6(const std::string& text, const char* what) {
  in6_addr address{};
  if (::inet_pton(AF_INET6, text.c_str(), &address) != 1) return fail("Failed to parse {}", what);
  return address;
}

std::optional<int> parse_port(std::string_view text, int least) {
  int port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port < least || port > 65535)
    return std::nullopt;
  return port;
}

/// Cuts off what stands before `separator`; nothing if it is not there.
std::optional<std::string> take_part(std::string_view& text, char separator) {
  const auto end = text.find(separator);
  if (end == std::string_view::npos) return std::nullopt;
  std::string part(text.substr(0, end));
  text.remove_prefix(end + 1);
  return part;
}

struct Ip4Network {
  in_addr net{}, mask{}, host{}, dns{}, dhcp_start{};
};

/// The addresses of the virtual network, with QEMU's defaults and complaints.
Result<Ip4Network> read_ip4(const UserOptions& options) {
  uint32_t net = 0x0A00'0200, mask = 0xFFFF'FF00;  // 10.0.2.0/24
  if (!options.net.empty()) {
    const auto slash = options.net.find('/');
    net = ntohl(LIMEN_TRY(parse_ip4(options.net.substr(0, slash), "netmask")).s_addr);
    if (slash != std::string::npos) {
      const auto text = options.net.substr(slash + 1);
      if (const auto bits = parse_port(text, 4); bits && *bits <= 32 && !text.contains('.'))
        mask = static_cast<uint32_t>(0xFFFF'FFFFull << (32 - *bits));
      else if (bits)
        return fail("Invalid netmask provided (must be in range 4-32)");
      else
        mask = ntohl(LIMEN_TRY(parse_ip4(text, "netmask")).s_addr);
    } else if ((net & 0x8000'0000) == 0) {
      mask = 0xFF00'0000;  // classes A, B, C
    } else if ((net & 0xFFF0'0000) == 0xAC10'0000 || (net & 0xC000'0000) == 0x8000'0000) {
      mask = 0xFFFF'0000;
    }
    net &= mask;
  }
  const auto pick = [&](const std::string& text, uint32_t otherwise,
                        const char* name) -> Result<uint32_t> {
    if (text.empty()) return otherwise;
    return ntohl(LIMEN_TRY(parse_ip4(text, name)).s_addr);
  };
  const uint32_t host = LIMEN_TRY(pick(options.host, net | (0x0202 & ~mask), "host"));
  const uint32_t dns = LIMEN_TRY(pick(options.dns, net | (0x0203 & ~mask), "DNS"));
  const uint32_t start = LIMEN_TRY(pick(options.dhcp_start, net | (0x020F & ~mask), "DHCP start"));
  if ((host & mask) != net) return fail("Host doesn't belong to network");
  if (options.restricted && (dns & mask) != net) return fail("DNS doesn't belong to network");
  if (dns == host) return fail("DNS must be different from host");
  if ((start & mask) != net) return fail("DHCP doesn't belong to network");
  if (start == host || start == dns) return fail("DHCP must be different from host and DNS");
  const auto to_address = [](uint32_t value) { return in_addr{.s_addr = htonl(value)}; };
  return Ip4Network{to_address(net), to_address(mask), to_address(host), to_address(dns),
                    to_address(start)};
}

}  // namespace

/// What libslirp calls; all on the network's thread.
struct UserBackend::Callbacks {
  static UserBackend& self(void* opaque) { return *static_cast<UserBackend*>(opaque); }

  static ssize_t send_packet(const void* bytes, size_t size, void* opaque) {
    // libslirp's own buffer, which it does not look at again.
    auto* start = static_cast<std::byte*>(const_cast<void*>(bytes));
    self(opaque).frame_from_slirp({start, size});
    return static_cast<ssize_t>(size);
  }
  static void guest_error(const char* message, void*) { log::debug("user network: {}", message); }
  static int64_t clock_get_ns(void* opaque) {
    return std::chrono::nanoseconds(self(opaque).loop_.now().time_since_epoch()).count();
  }
  static void* timer_new(SlirpTimerId id, void* cb_opaque, void* opaque) {
    return new SlirpTimer(self(opaque).loop_, id, cb_opaque, self(opaque).slirp_);
  }
  static void timer_free(void* timer, void*) { delete static_cast<SlirpTimer*>(timer); }
  static void timer_mod(void* timer, int64_t milliseconds, void*) {
    static_cast<SlirpTimer*>(timer)->timer.arm(
        Clock::time_point(std::chrono::milliseconds(milliseconds)));
  }
  static void descriptor_changed(int fd, void* opaque) { self(opaque).forget_descriptor(fd); }
  static void notify(void* opaque) {
    auto& backend = self(opaque);
    backend.timer_.arm(backend.loop_.now());
  }
  static int add_descriptor(int fd, int events, void* opaque) {
    uint32_t wanted = 0;
    if ((events & SLIRP_POLL_IN) != 0) wanted |= EPOLLIN;
    if ((events & SLIRP_POLL_OUT) != 0) wanted |= EPOLLOUT;
    if ((events & SLIRP_POLL_PRI) != 0) wanted |= EPOLLPRI;
    self(opaque).watch_descriptor(fd, wanted);
    return fd;
  }
  static int ready_events(int fd, void* opaque) {
    const auto found = self(opaque).descriptors_.find(fd);
    if (found == self(opaque).descriptors_.end()) return 0;
    const uint32_t ready = found->second.ready;
    int events = 0;
    if ((ready & EPOLLIN) != 0) events |= SLIRP_POLL_IN;
    if ((ready & EPOLLOUT) != 0) events |= SLIRP_POLL_OUT;
    if ((ready & EPOLLPRI) != 0) events |= SLIRP_POLL_PRI;
    if ((ready & EPOLLERR) != 0) events |= SLIRP_POLL_ERR;
    if ((ready & EPOLLHUP) != 0) events |= SLIRP_POLL_HUP;
    return events;
  }

  static constexpr SlirpCb kTable = {
      .send_packet = send_packet,
      .guest_error = guest_error,
      .clock_get_ns = clock_get_ns,
      .timer_new = nullptr,
      .timer_free = timer_free,
      .timer_mod = timer_mod,
      // A number that was closed and given out again is not the one that was watched.
      .register_poll_fd = descriptor_changed,
      .unregister_poll_fd = descriptor_changed,
      .notify = notify,
      .init_completed = nullptr,
      .timer_new_opaque = timer_new,
  };
};

UserBackend::UserBackend(EventLoop& loop)
    : loop_(loop), timer_(loop, [this] { serve(); }), segment_bytes_(kWireMtu - kTcpIp4Headers) {}

Result<std::unique_ptr<Port>> UserBackend::create(const UserOptions& options, EventLoop& loop) {
  LIMEN_TRY(load_library(LIMEN_SLIRP_LIBRARY));
  std::unique_ptr<UserBackend> backend(new UserBackend(loop));
  LIMEN_TRY(backend->start(options));
  return backend;
}

UserBackend::~UserBackend() {
  if (epoll_.valid()) loop_.unwatch(epoll_.get());
  if (slirp_ != nullptr) slirp_cleanup(std::exchange(slirp_, nullptr));
}

Result<> UserBackend::start(const UserOptions& options) {
  SlirpConfig config{};
  config.version = 4;
  config.restricted = options.restricted;
  config.in_enabled = options.ipv4;
  const auto ip4 = LIMEN_TRY(read_ip4(options));
  config.vnetwork = ip4.net;
  config.vnetmask = ip4.mask;
  config.vhost = ip4.host;
  config.vnameserver = ip4.dns;
  config.vdhcp_start = ip4.dhcp_start;
  config.in6_enabled = options.ipv6;
  const std::string prefix = options.ipv6_prefix.empty() ? "fec0::" : options.ipv6_prefix;
  config.vprefix_addr6 = LIMEN_TRY(parse_ip6(prefix, "IPv6 prefix"));
  config.vprefix_len = static_cast<uint8_t>(options.ipv6_prefix_bits);
  config.vhost6 = config.vnameserver6 = config.vprefix_addr6;
  config.vhost6.s6_addr[15] |= 2;
  config.vnameserver6.s6_addr[15] |= 3;
  if (!options.ipv6_host.empty())
    config.vhost6 = LIMEN_TRY(parse_ip6(options.ipv6_host, "IPv6 host"));
  if (!options.ipv6_dns.empty())
    config.vnameserver6 = LIMEN_TRY(parse_ip6(options.ipv6_dns, "IPv6 DNS"));
  // libslirp copies the strings.
  const auto text = [](const std::string& value) {
    return value.empty() ? nullptr : value.c_str();
  };
  config.vhostname = text(options.host_name);
  config.vdomainname = text(options.domain_name);
  config.tftp_server_name = text(options.tftp_server_name);
  config.tftp_path = text(options.tftp);
  config.bootfile = text(options.boot_file);
  if (options.boot_file.size() > 127)
    return fail("bootfile={}: DHCP has room for 127 characters", options.boot_file);
  for (const auto* name : {&options.host_name, &options.domain_name, &options.tftp_server_name})
    if (name->size() > 255)
      return fail("'{}' is too long: DHCP has room for 255 characters", *name);
  std::vector<const char*> searches;
  searches.reserve(options.dns_search.size() + 1);
  for (const auto& search : options.dns_search) searches.push_back(search.c_str());
  searches.push_back(nullptr);
  if (!options.dns_search.empty()) config.vdnssearch = searches.data();
  config.if_mtu = kSlirpMtu;
  config.if_mru = kSlirpMru;

  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return fail_errno(errno, "epoll_create1");
  LIMEN_TRY(loop_.watch(epoll_.get(), EPOLLIN, [this](uint32_t) { serve(); }));
  slirp_ = slirp_new(&config, &Callbacks::kTable, this);
  if (slirp_ == nullptr) return fail("the user-mode network could not be started");
  for (const auto& rule : options.host_forwards) LIMEN_TRY(add_host_forward(rule));
  for (const auto& rule : options.guest_forwards) LIMEN_TRY(add_guest_forward(rule));
  std::array<char, INET_ADDRSTRLEN> net{};
  ::inet_ntop(AF_INET, &ip4.net, net.data(), net.size());
  description_ =
      fmt::format("user: net={},restrict={}", net.data(), options.restricted ? "on" : "off");
  watch_descriptors();
  return {};
}

Result<> UserBackend::add_host_forward(const std::string& rule) {
  const auto bad = [&](const char* reason) {
    return fail("Invalid host forwarding rule '{}' ({})", rule, reason);
  };
  std::string_view rest = rule;
  const auto protocol = take_part(rest, ':');
  if (!protocol) return bad("No : separators");
  if (!protocol->empty() && *protocol != "tcp" && *protocol != "udp")
    return bad("Bad protocol name");
  const auto host = take_part(rest, ':');
  if (!host) return bad("Missing : separator");
  in_addr host_address{.s_addr = INADDR_ANY};
  if (!host->empty() && ::inet_aton(host->c_str(), &host_address) == 0)
    return bad("Bad host address");
  const auto port_text = take_part(rest, '-');
  if (!port_text) return bad("Bad host port separator");
  const auto host_port = parse_port(*port_text, 0);
  if (!host_port) return bad("Bad host port");
  const auto guest = take_part(rest, ':');
  if (!guest) return bad("Missing guest address");
  in_addr guest_address{};
  if (!guest->empty() && ::inet_aton(guest->c_str(), &guest_address) == 0)
    return bad("Bad guest address");
  const auto guest_port = parse_port(rest, 1);
  if (!guest_port) return bad("Bad guest port");
  if (slirp_add_hostfwd(slirp_, *protocol == "udp", host_address, *host_port, guest_address,
                        *guest_port) < 0)
    return fail_errno(errno, fmt::format("Could not set up host forwarding rule '{}'", rule));
  timer_.arm(loop_.now());  // what listens now is watched from then on
  return {};
}

Result<bool> UserBackend::remove_host_forward(const std::string& rule) {
  std::string_view rest = rule;
  const auto protocol = take_part(rest, ':');
  const auto host = protocol ? take_part(rest, ':') : std::nullopt;
  const auto port = host ? parse_port(rest, 0) : std::nullopt;
  in_addr address{.s_addr = INADDR_ANY};
  if (!port || (!protocol->empty() && *protocol != "tcp" && *protocol != "udp") ||
      (!host->empty() && ::inet_aton(host->c_str(), &address) == 0))
    return fail("invalid format");
  const bool removed = slirp_remove_hostfwd(slirp_, *protocol == "udp", address, *port) >= 0;
  timer_.arm(loop_.now());
  return removed;
}

Result<> UserBackend::add_guest_forward(const std::string& rule) {
  const auto bad = [&] { return fail("Invalid guest forwarding rule '{}'", rule); };
  std::string_view rest = rule;
  const auto protocol = take_part(rest, ':');
  if (!protocol || (!protocol->empty() && *protocol != "tcp")) return bad();
  const auto server = take_part(rest, ':');
  const auto port_text = take_part(rest, '-');
  if (!server || !port_text || rest.empty()) return bad();
  in_addr address{};
  if (!server->empty() && ::inet_aton(server->c_str(), &address) == 0) return bad();
  const auto port = parse_port(*port_text, 1);
  if (!port) return bad();
  constexpr std::string_view kCommand = "cmd:", kUnix = "unix:";
  int added = -1;
  if (rest.starts_with(kCommand))
    added =
        slirp_add_exec(slirp_, std::string(rest.substr(kCommand.size())).c_str(), &address, *port);
  else if (rest.starts_with(kUnix))
    added = slirp_add_unix(slirp_, std::string(rest.substr(kUnix.size())).c_str(), &address, *port);
  else
    return fail(
        "guest forwarding rule '{}' leads to what is not there; valid: cmd:COMMAND, "
        "unix:PATH",
        rule);
  if (added < 0) return fail("conflicting/invalid host:port in guest forwarding rule '{}'", rule);
  return {};
}

std::string UserBackend::connections() const {
  char* text = slirp_connection_info(slirp_);
  std::string copy = text != nullptr ? text : "";
  std::free(text);
  return copy;
}

// --- Descriptors and time ------------------------------------------------------------------------

void UserBackend::serve() {
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; ++i) {
    const auto& event = events[static_cast<size_t>(i)];
    if (auto found = descriptors_.find(event.data.fd); found != descriptors_.end())
      found->second.ready = event.events;
  }
  slirp_pollfds_poll(slirp_, 0, Callbacks::ready_events, this);
  for (auto& [fd, descriptor] : descriptors_) descriptor.ready = 0;
  end_burst();
  watch_descriptors();
}

void UserBackend::watch_descriptors() {
  ++round_;
  uint32_t timeout = UINT32_MAX;
  slirp_pollfds_fill(slirp_, &timeout, Callbacks::add_descriptor, this);
  for (auto it = descriptors_.begin(); it != descriptors_.end();) {
    if (it->second.wanted_in == round_) {
      ++it;
      continue;
    }
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, it->first, nullptr);
    it = descriptors_.erase(it);
  }
  if (timeout == UINT32_MAX)
    timer_.disarm();
  else
    timer_.arm(loop_.now() + std::chrono::milliseconds(timeout));
}

void UserBackend::watch_descriptor(int fd, uint32_t events) {
  auto [found, added] = descriptors_.try_emplace(fd);
  Watched& watched = found->second;
  watched.wanted_in = round_;
  if (!added && watched.events == events) return;
  watched.events = events;
  epoll_event event{.events = events, .data = {.fd = fd}};
  if (::epoll_ctl(epoll_.get(), added ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) != 0)
    ::epoll_ctl(epoll_.get(), added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
}

void UserBackend::forget_descriptor(int fd) {
  if (descriptors_.erase(fd) != 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

// --- Frames --------------------------------------------------------------------------------------

Offloads UserBackend::offloads() const {
  return {.checksum = true, .tcp4 = true, .tcp6 = true, .ecn = true, .udp = true};
}

Delivery UserBackend::receive(const Frame& frame, unsigned) {
  const auto whole = flatten(frame, scratch_);
  if ((frame.offload.flags & kNeedsChecksum) != 0 && !complete_checksum(whole, frame.offload))
    return Delivery::kTaken;
  raise_segment_size(whole, frame.offload);
  slirp_input(slirp_, reinterpret_cast<const uint8_t*>(whole.data()),
              static_cast<int>(whole.size()));
  return Delivery::kTaken;
}

/// A SYN says how large the segments may be that the guest gets (RFC 9293 §3.7.1). Its card takes
/// larger ones, cut or not as it likes: libslirp hears of those.
void UserBackend::raise_segment_size(std::span<std::byte> frame, const OffloadHeader&) {
  constexpr size_t kTcpHeader = 20, kLongest = 256;
  if (frame.size() > kLongest) return;  // a SYN carries no data
  const auto layout = parse_packet(frame);
  if (!layout || layout->protocol != kProtocolTcp || layout->fragment ||
      layout->end - layout->transport < kTcpHeader)
    return;
  const size_t tcp = layout->transport;
  if ((static_cast<uint8_t>(frame[tcp + 13]) & kTcpSyn) == 0) return;
  const size_t options_end =
      std::min(layout->end, tcp + (static_cast<uint8_t>(frame[tcp + 12]) >> 4) * 4u);
  constexpr uint8_t kEnd = 0, kNothing = 1, kSegmentSize = 2;
  for (size_t at = tcp + kTcpHeader; at < options_end;) {
    const auto kind = static_cast<uint8_t>(frame[at]);
    if (kind == kEnd) return;
    if (kind == kNothing) {
      ++at;
      continue;
    }
    if (at + 2 > options_end) return;
    const auto length = static_cast<uint8_t>(frame[at + 1]);
    if (length < 2 || at + length > options_end) return;
    if (kind == kSegmentSize && length == 4) {
      const size_t asked = load16(frame, at + 2);
      constexpr size_t kLeast = 216;  // below, packets would be a guest's toys
      segment_bytes_ = std::min(segment_bytes_, std::max(asked, kLeast));
      const size_t headers = layout->version == 4 ? kTcpIp4Headers : kTcpIp6Headers;
      store16(frame, at + 2, static_cast<uint16_t>(kSlirpMtu - headers));
      store16(frame, tcp + 16, 0);
      const size_t bytes = layout->end - tcp;
      const uint16_t sum = finish_sum(pseudo_header_sum(frame, *layout, bytes) +
                                      partial_sum(frame.subspan(tcp, bytes)));
      std::memcpy(frame.data() + tcp + 16, &sum, sizeof sum);
      return;
    }
    at += length;
  }
}

void UserBackend::frame_from_slirp(std::span<std::byte> frame) {
  const iovec part{frame.data(), frame.size()};
  Frame whole{.parts = {&part, 1}, .bytes = frame.size(), .offload = {}};
  if (frame.size() <= kWireMtu + kEthernetHeaderBytes) return send_or_keep(whole);
  const auto layout = parse_packet(frame);
  if (!layout || layout->protocol != kProtocolTcp || layout->fragment) {
    if (!fragment_ip4(frame, kWireMtu, [this](const Frame& piece) { send_or_keep(piece); }))
      send_or_keep(whole);
    return;
  }
  const size_t tcp = layout->transport;
  if (layout->end - tcp < 20) return;
  OffloadHeader& offload = whole.offload;
  offload.flags = kNeedsChecksum;
  offload.gso_type = layout->version == 4 ? kGsoTcp4 : kGsoTcp6;
  const size_t headers = tcp + (static_cast<uint8_t>(frame[tcp + 12]) >> 4) * 4u;
  offload.header_bytes = static_cast<uint16_t>(headers);
  // Both kinds of headers, whichever was asked for.
  const size_t room = kWireMtu + kEthernetHeaderBytes - headers;
  offload.segment_bytes = static_cast<uint16_t>(std::min(segment_bytes_, room));
  offload.checksum_start = static_cast<uint16_t>(tcp);
  offload.checksum_offset = 16;
  // As for any frame that is to be finished: the sum over the pseudo header alone.
  const auto sum =
      static_cast<uint16_t>(~finish_sum(pseudo_header_sum(frame, *layout, layout->end - tcp)));
  std::memcpy(frame.data() + tcp + 16, &sum, sizeof sum);
  send_or_keep(whole);
}

}  // namespace limen::net
