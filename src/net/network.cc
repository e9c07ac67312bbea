#include "net/network.h"

#include <pthread.h>

#include <condition_variable>
#include <mutex>
#include <utility>

#include "base/nearest.h"
#include "net/datagram_backend.h"
#include "net/stream_backend.h"
#include "net/tap_backend.h"
#include "net/user_backend.h"

namespace limen::net {

Result<std::unique_ptr<Network>> Network::create() {
  std::unique_ptr<Network> network(new Network);
  network->loop_ = LIMEN_TRY(EventLoop::create());
  network->thread_ = std::thread([loop = network->loop_.get()] {
    ::pthread_setname_np(::pthread_self(), "network");
    loop->run();
  });
  return network;
}

Network::~Network() {
  if (!thread_.joinable()) return;
  run([this] {
    // Ports of hubs before the hubs.
    ports_.clear();
    hubs_.clear();
  });
  loop_->stop();
  thread_.join();
}

void Network::run(const std::function<void()>& work) {
  if (std::this_thread::get_id() == thread_.get_id()) return work();
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  loop_->post([&] {
    work();
    const std::lock_guard lock(mutex);
    done = true;
    changed.notify_one();
  });
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return done; });
}

Hub& Network::hub(int number) {
  auto& hub = hubs_[number];
  if (hub == nullptr) hub = std::make_unique<Hub>(number);
  return *hub;
}

Result<std::unique_ptr<Port>> Network::make(const BackendDescription& description) {
  struct Maker {
    Network& network;
    const std::string& id;
    Result<std::unique_ptr<Port>> operator()(const UserOptions& options) const {
      return UserBackend::create(options, network.loop());
    }
    Result<std::unique_ptr<Port>> operator()(const TapOptions& options) const {
      return TapBackend::create(options, id, network.loop());
    }
    Result<std::unique_ptr<Port>> operator()(const StreamOptions& options) const {
      return StreamBackend::create(options, id, network.loop());
    }
    Result<std::unique_ptr<Port>> operator()(const DatagramOptions& options) const {
      return create_socket_backend(options, id, network.loop());
    }
    Result<std::unique_ptr<Port>> operator()(const HubOptions& options) const {
      auto port = std::make_unique<HubPort>(network.hub(options.hub));
      if (!options.netdev.empty()) {
        const auto found = network.ports_.find(options.netdev);
        if (found == network.ports_.end()) return fail("netdev '{}' not found", options.netdev);
        if (found->second->peer() != nullptr)
          return fail("netdev '{}' is in use already", options.netdev);
        Port::connect(*port, *found->second);
      }
      return port;
    }
  };
  return std::visit(Maker{*this, description.id}, description.options);
}

Result<> Network::add(const BackendDescription& description) {
  Result<> outcome;
  run([&] {
    if (ports_.contains(description.id)) {
      outcome = fail("Duplicate ID '{}' for netdev", description.id);
      return;
    }
    auto port = make(description);
    if (port)
      ports_[description.id] = *std::move(port);
    else
      outcome = std::unexpected(std::move(port).error());
  });
  return outcome;
}

Result<> Network::remove(const std::string& id) {
  Result<> outcome;
  run([&] {
    if (ports_.erase(id) == 0) outcome = fail("Device '{}' not found", id);
  });
  return outcome;
}

Port* Network::find(const std::string& id) {
  Port* port = nullptr;
  run([&] {
    const auto found = ports_.find(id);
    if (found != ports_.end()) port = found->second.get();
  });
  return port;
}

Result<> Network::plug(Port& card, const std::string& id) {
  Result<> outcome;
  run([&] {
    const auto found = ports_.find(id);
    if (found == ports_.end()) {
      std::vector<std::string_view> ids;
      ids.reserve(ports_.size());
      for (const auto& [name, port] : ports_) ids.push_back(name);
      outcome = fail("can't find value '{}'{}", id, choice_hint(id, ids));
    } else if (found->second->peer() != nullptr) {
      outcome = fail("can't take value '{}', it's in use", id);
    } else {
      Port::connect(card, *found->second);
    }
  });
  return outcome;
}

Result<> Network::set_link(const std::string& id, bool up) {
  Result<> outcome;
  run([&] {
    const auto found = ports_.find(id);
    if (found == ports_.end())
      outcome = fail("Device '{}' not found", id);
    else
      found->second->set_link(up);
  });
  return outcome;
}

std::vector<Network::Summary> Network::list() {
  std::vector<Summary> summaries;
  run([&] {
    for (const auto& [id, port] : ports_)
      summaries.push_back({id, port->describe(), port->peer() != nullptr});
  });
  return summaries;
}

}  // namespace limen::net
