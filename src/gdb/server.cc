#include "gdb/server.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/log.h"

namespace limen::gdb {

Result<std::unique_ptr<Server>> Server::create(machine::Machine& machine, std::string_view address,
                                               MachineTarget::Monitor monitor) {
  if (machine.vcpu_count() == 0)
    return fail("gdbstub: meaningless to attach gdb to a machine without any CPU");
  const ListenAddress place = LIMEN_TRY(parse_listen_address(address));
  std::unique_ptr<Server> server(new Server(machine, std::move(monitor)));
  LIMEN_TRY(server->open(place));
  machine.set_debug_observer(server.get());
  return server;
}

Result<> Server::open(const ListenAddress& address) {
  address_ = address;
  ::signal(SIGPIPE, SIG_IGN);
  switch (address.kind) {
    case ListenAddress::Kind::kNone:
      return {};
    case ListenAddress::Kind::kStdio:
      return begin(STDIN_FILENO, STDOUT_FILENO);
    case ListenAddress::Kind::kTcp:
    case ListenAddress::Kind::kUnix:
      break;
  }
  listener_ = LIMEN_TRY(listen_at(address));
  return machine_.loop().watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept(); });
}

Server::~Server() {
  machine_.set_debug_observer(nullptr);
  if (session_) {
    // What says that the machine has ended should still get there.
    pollfd ready{.fd = output_, .events = POLLOUT, .revents = 0};
    if (!unsent_.empty() && ::poll(&ready, 1, 100) > 0) flush();
    machine_.loop().unwatch(input_);
    if (watches_output_ && output_ != input_) machine_.loop().unwatch(output_);
  }
  if (listener_.valid()) {
    machine_.loop().unwatch(listener_.get());
    if (address_.kind == ListenAddress::Kind::kUnix) ::unlink(address_.path.c_str());
  }
}

void Server::accept() {
  UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!connection.valid()) return;  // it went away again
  const int on = 1;
  ::setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // not on unix sockets
  connection_ = std::move(connection);
  // Others wait until this one is done.
  machine_.loop().unwatch(listener_.get());
  if (const auto begun = begin(connection_.get(), connection_.get()); !begun) {
    log::warning("gdb: {}", begun.error().message);
    end();
  }
}

Result<> Server::begin(int input, int output) {
  input_ = input;
  output_ = output;
  broken_ = false;
  unsent_.clear();
  session_.emplace(target_, [this](std::string_view bytes) { send(bytes); });
  return machine_.loop().watch(input_, EPOLLIN, [this](uint32_t events) {
    if ((events & EPOLLOUT) != 0) flush();
    if ((events & ~uint32_t{EPOLLOUT}) != 0 && session_) receive();
    end_if_closed();
  });
}

void Server::receive() {
  std::array<uint8_t, 16384> bytes{};
  const ssize_t count = ::read(input_, bytes.data(), bytes.size());
  if (count > 0)
    session_->receive(std::span(bytes).first(static_cast<size_t>(count)));
  else if (count == 0 || (errno != EAGAIN && errno != EINTR))
    broken_ = true;
}

void Server::send(std::string_view bytes) {
  if (broken_) return;
  if (unsent_.size() + bytes.size() > kOutputLimit) {
    broken_ = true;
    return;
  }
  unsent_ += bytes;
  flush();
}

void Server::flush() {
  while (!unsent_.empty()) {
    const ssize_t count = ::write(output_, unsent_.data(), unsent_.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) broken_ = true;
      break;
    }
    unsent_.erase(0, static_cast<size_t>(count));
  }
  watch_output();
}

void Server::watch_output() {
  const bool wanted = !unsent_.empty() && !broken_;
  if (wanted == watches_output_) return;
  watches_output_ = wanted;
  auto& loop = machine_.loop();
  if (output_ == input_) {
    if (!loop.change(input_, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN)) broken_ = true;
  } else if (!wanted) {
    loop.unwatch(output_);
  } else if (!loop.watch(output_, EPOLLOUT, [this](uint32_t) {
               flush();
               end_if_closed();
             })) {
    broken_ = true;
  }
}

void Server::end_if_closed() {
  if (session_ && (broken_ || !session_->open())) end();
}

void Server::end() {
  machine_.loop().unwatch(input_);
  if (watches_output_ && output_ != input_) machine_.loop().unwatch(output_);
  watches_output_ = false;
  const bool vanished = session_ && session_->open();
  session_.reset();
  connection_.reset();
  if (vanished && !target_.running()) target_.forget_stops();
  if (vanished && target_.running()) {
    // Breakpoints can be taken away only while nothing runs.
    target_.stop();
    target_.let_go();
  }
  if (!listener_.valid()) return;
  if (const auto watched =
          machine_.loop().watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept(); });
      !watched)
    log::warning("gdb: {}", watched.error().message);
}

void Server::debug_stopped(unsigned vcpu, const vcpu::DebugStop& stop) {
  if (session_) return session_->debug_stopped(vcpu, stop);
  // Its debugger is gone, and with it whoever could make it go on.
  target_.let_go();
}

void Server::run_state_changed(machine::RunState state) {
  if (session_) session_->run_state_changed(state);
}

void Server::ending(int status) {
  if (session_) session_->ending(status);
}

}  // namespace limen::gdb
