#include "device/tpm/swtpm.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace limen::device {
namespace {

/// Nobody makes an orderly process wait so long; a command may, on a slow host.
constexpr int kControlPatience = 10'000, kCommandPatience = 600'000;  // milliseconds
/// Capabilities (tpm_ioctl.h) that this needs: init, shutdown, locality, cancel, stop, data
/// channel, size of the buffer.
constexpr uint32_t kCanInit = 1, kCanShutdown = 1 << 1, kCanSetLocality = 1 << 3, kCanStop = 1 << 9,
                   kCanSetDataFd = 1 << 12, kCanSetBufferSize = 1 << 13,
                   kNeeded = kCanInit | kCanShutdown | kCanSetLocality | kCanStop | kCanSetDataFd;
constexpr uint16_t kNoSessions = 0x8001;  ///< Of a response of a TPM 2.0 (Part 2, 6.9).
constexpr uint32_t kMostResponse = 1 << 20;

std::array<uint8_t, 4> word(uint32_t value) {
  return {static_cast<uint8_t>(value >> 24), static_cast<uint8_t>(value >> 16),
          static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
}

uint32_t word_at(std::span<const uint8_t> bytes, size_t offset) {
  return uint32_t{bytes[offset]} << 24 | uint32_t{bytes[offset + 1]} << 16 |
         uint32_t{bytes[offset + 2]} << 8 | bytes[offset + 3];
}

Result<> wait_for(int fd, short events, int patience) {
  pollfd waiting{.fd = fd, .events = events, .revents = 0};
  int ready = 0;
  do {
    ready = ::poll(&waiting, 1, patience);
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) return fail_errno(errno, "poll");
  if (ready == 0) return fail("no answer within {} s", patience / 1000);
  return {};
}

Result<> send_all(int fd, std::span<const uint8_t> bytes, int passed = -1) {
  while (!bytes.empty()) {
    iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (passed >= 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      auto* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(header), &passed, sizeof passed);
    }
    const ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent > 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
      passed = -1;
    } else if (errno == EAGAIN) {
      LIMEN_TRY(wait_for(fd, POLLOUT, kControlPatience));
    } else if (errno != EINTR) {
      return fail_errno(errno, "send");
    }
  }
  return {};
}

Result<> receive_all(int fd, std::span<uint8_t> into, int patience) {
  while (!into.empty()) {
    LIMEN_TRY(wait_for(fd, POLLIN, patience));
    const ssize_t got = ::recv(fd, into.data(), into.size(), 0);
    if (got == 0) return fail("it closed the connection");
    if (got > 0)
      into = into.subspan(static_cast<size_t>(got));
    else if (errno != EINTR && errno != EAGAIN)
      return fail_errno(errno, "receive");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Swtpm>> Swtpm::connect(const SocketAddress& address) {
  const auto where = describe(address, "tcp");
  auto control = connect_to(address);
  if (!control) {
    Error error = std::move(control).error();
    error.message = "no swtpm at " + where + ": " + error.message;
    return std::unexpected(std::move(error));
  }
  std::unique_ptr<Swtpm> tpm(new Swtpm(std::move(*control), where));
  const auto explained = [&](Result<> result) -> Result<> {
    if (result) return result;
    Error error = std::move(result).error();
    error.message = "what listens at " + where + " does not answer as swtpm: " + error.message;
    return std::unexpected(std::move(error));
  };
  LIMEN_TRY(explained(tpm->open_data_channel()));
  LIMEN_TRY(tpm->check_version());
  tpm->thread_ = std::thread([raw = tpm.get()] { raw->run(); });
  return tpm;
}

Swtpm::~Swtpm() {
  if (thread_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      // A process that hangs does not hold up the machine's end.
      if (busy_) ::shutdown(data_.get(), SHUT_RDWR);
    }
    changed_.notify_all();
    thread_.join();
  }
  if (lost_) return;
  [[maybe_unused]] const auto told = order(Control::kShutdown);
}

// --- The control channel ------------------------------------------------------------------------

Result<std::vector<uint8_t>> Swtpm::ask(Control command, std::span<const uint8_t> arguments,
                                        size_t reply_bytes, int fd) {
  const std::lock_guard lock(control_mutex_);
  const auto code = word(static_cast<uint32_t>(command));
  std::vector<uint8_t> message(code.begin(), code.end());
  message.insert(message.end(), arguments.begin(), arguments.end());
  LIMEN_TRY(send_all(control_.get(), message, fd));
  std::vector<uint8_t> reply(reply_bytes);
  LIMEN_TRY(receive_all(control_.get(), reply, kControlPatience));
  return reply;
}

Result<std::vector<uint8_t>> Swtpm::order(Control command, std::span<const uint8_t> arguments,
                                          size_t reply_bytes, int fd) {
  auto reply = LIMEN_TRY(ask(command, arguments, reply_bytes, fd));
  if (const auto result = word_at(reply, 0); result != 0)
    return fail("command {} of its control channel failed with {:#x}",
                static_cast<uint32_t>(command), result);
  return reply;
}

Result<> Swtpm::open_data_channel() {
  // 64 bits, of which the upper half is a result.
  const auto reply = LIMEN_TRY(order(Control::kGetCapability, {}, 8));
  capabilities_ = word_at(reply, 4);
  if ((capabilities_ & kNeeded) != kNeeded)
    return fail("its capabilities are {:#x}, of which {:#x} are needed", capabilities_, kNeeded);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return fail_errno(errno, "socketpair");
  data_ = UniqueFd(ends[0]);
  const UniqueFd theirs(ends[1]);
  static_cast<void>(LIMEN_TRY(order(Control::kSetDataFd, {}, 4, theirs.get())));
  return {};
}

/// A command that every TPM refuses in its own way before it was started: the tag of the response
/// tells the versions apart.
Result<> Swtpm::check_version() {
  LIMEN_TRY(power_on());
  constexpr std::array<uint8_t, 10> kReadClock = {0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x81};
  const auto response = LIMEN_TRY(exchange(0, kReadClock));
  if (response[0] != kNoSessions >> 8 || response[1] != (kNoSessions & 0xFF))
    return fail("the TPM at {} is not a TPM 2.0; start swtpm with --tpm2", where_);
  return {};
}

Result<> Swtpm::power_on() {
  locality_ = 0xFF;
  static_cast<void>(LIMEN_TRY(order(Control::kStop)));
  if ((capabilities_ & kCanSetBufferSize) != 0) {
    const auto reply = LIMEN_TRY(order(Control::kSetBufferSize, word(wanted_bytes_), 16));
    buffer_bytes_ = std::clamp(word_at(reply, 4), 1024u, 4096u);
  }
  static_cast<void>(LIMEN_TRY(order(Control::kInit, word(0))));
  return {};
}

void Swtpm::lost(const Error& why) {
  if (!lost_.exchange(true)) log::error("the TPM at {} is lost: {}", where_, why.message);
}

// --- Commands -----------------------------------------------------------------------------------

Result<TpmBackend::Response> Swtpm::exchange(uint8_t locality, std::span<const uint8_t> command) {
  if (locality != locality_) {
    const std::array<uint8_t, 4> argument = {locality, 0, 0, 0};
    static_cast<void>(LIMEN_TRY(order(Control::kSetLocality, argument)));
    locality_ = locality;
  }
  LIMEN_TRY(send_all(data_.get(), command));
  Response response(kTpmHeaderBytes);
  LIMEN_TRY(receive_all(data_.get(), response, kCommandPatience));
  const auto size = tpm_size(response.data());
  if (size < kTpmHeaderBytes || size > kMostResponse) return fail("a response of {} bytes", size);
  response.resize(size);
  LIMEN_TRY(
      receive_all(data_.get(), std::span(response).subspan(kTpmHeaderBytes), kCommandPatience));
  return response;
}

void Swtpm::execute(uint8_t locality, std::vector<uint8_t> command,
                    std::function<void(Response)> done) {
  {
    const std::lock_guard lock(mutex_);
    job_ = Job{.locality = locality, .command = std::move(command), .done = std::move(done)};
  }
  changed_.notify_all();
}

void Swtpm::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || job_; });
    if (stopping_) return;
    const Job job = *std::exchange(job_, std::nullopt);
    busy_ = true;
    lock.unlock();
    Response response = tpm_error(kTpmFailure);
    if (!lost_) {
      if (auto got = exchange(job.locality, job.command))
        response = std::move(*got);
      else
        lost(got.error());
    }
    job.done(std::move(response));
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

void Swtpm::start() {
  {
    std::unique_lock lock(mutex_);
    if (busy_ || job_) {
      lock.unlock();
      cancel();
      lock.lock();
    }
    changed_.wait(lock, [this] { return !busy_ && !job_; });
  }
  if (lost_) return;
  if (auto started = power_on(); !started) lost(started.error());
}

void Swtpm::cancel() {
  if (lost_) return;
  if (auto ordered = order(Control::kCancel); !ordered)
    log::warning("the TPM at {}: {}", where_, ordered.error().message);
}

bool Swtpm::established() {
  if (lost_) return false;
  constexpr size_t kReplyBytes = 8;
  const auto reply = order(Control::kGetEstablished, {}, kReplyBytes);
  return reply.has_value() && (*reply)[4] != 0;
}

void Swtpm::reset_established(uint8_t locality) {
  const std::array<uint8_t, 4> argument = {locality, 0, 0, 0};
  if (lost_) return;
  [[maybe_unused]] const auto reset = order(Control::kResetEstablished, argument);
}

}  // namespace limen::device
