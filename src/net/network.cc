#include "net/network.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "base/nearest.h"
#include "net/datagram_backend.h"
#include "net/stream_backend.h"
#include "net/tap_backend.h"
#include "net/user_backend.h"

namespace limen::net {

Result<std::unique_ptr<Network>> Network::create(memory::GuestMemory* shared) {
  std::unique_ptr<Network> network(new Network(shared));
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
      return TapBackend::create(options, id, network.loop(), network.shared_);
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
    if (const auto found = ports_.find(id); found != ports_.end())
      found->second->set_link(up);
    else if (const auto card = std::ranges::find(cards_, id, &std::pair<std::string, Port*>::first);
             card != cards_.end())
      card->second->set_link(up);
    else
      outcome = fail("Device '{}' not found", id);
  });
  return outcome;
}

void Network::add_card(Port& card, const std::string& id, std::string_view model) {
  run([&] {
    std::string name = id;
    for (unsigned i = 0; name.empty(); ++i) {
      name = fmt::format("{}.{}", model, i);
      if (std::ranges::find(cards_, name, &std::pair<std::string, Port*>::first) != cards_.end())
        name.clear();
    }
    cards_.emplace_back(std::move(name), &card);
  });
}

void Network::remove_card(Port& card) {
  run([&] { std::erase_if(cards_, [&](const auto& each) { return each.second == &card; }); });
}

void Network::set_running(bool runs) {
  run([&] {
    for (const auto& [name, card] : cards_) card->set_running(runs);
  });
}

Result<UserBackend*> Network::user_network(const std::string& netdev) {
  if (netdev.empty()) {
    for (const auto& [id, port] : ports_)
      if (auto* user = dynamic_cast<UserBackend*>(port.get())) return user;
    return fail("user mode network stack not in use");
  }
  const auto found = ports_.find(netdev);
  if (found == ports_.end()) return fail("unrecognized netdev id '{}'", netdev);
  if (auto* user = dynamic_cast<UserBackend*>(found->second.get())) return user;
  return fail("invalid device specified");
}

Result<> Network::add_host_forward(const std::string& netdev, const std::string& rule) {
  Result<> outcome;
  run([&] {
    auto user = user_network(netdev);
    outcome = user ? (*user)->add_host_forward(rule) : std::unexpected(std::move(user).error());
  });
  return outcome;
}

Result<bool> Network::remove_host_forward(const std::string& netdev, const std::string& rule) {
  Result<bool> outcome = false;
  run([&] {
    auto user = user_network(netdev);
    outcome = user ? (*user)->remove_host_forward(rule)
                   : Result<bool>(std::unexpected(std::move(user).error()));
  });
  return outcome;
}

std::vector<std::pair<std::string, std::string>> Network::user_connections() {
  std::vector<std::pair<std::string, std::string>> tables;
  run([&] {
    for (const auto& [id, port] : ports_)
      if (const auto* user = dynamic_cast<UserBackend*>(port.get()))
        tables.emplace_back(id, user->connections());
  });
  return tables;
}

std::vector<Network::Summary> Network::list() {
  std::vector<Summary> summaries;
  run([&] {
    const auto name_of = [&](const Port* wanted) -> std::string {
      if (wanted == nullptr) return {};
      for (const auto& [id, port] : ports_)
        if (port.get() == wanted) return id;
      for (const auto& [name, card] : cards_)
        if (card == wanted) return name;
      return {};
    };
    const auto add = [&](const std::string& id, const Port& port, bool card) {
      summaries.push_back({.id = id,
                           .description = port.describe(),
                           .plugged = port.peer() != nullptr,
                           .card = card,
                           .link = port.link_up(),
                           .traffic = port.traffic(),
                           .peer = name_of(port.peer())});
    };
    for (const auto& [name, card] : cards_) add(name, *card, true);
    for (const auto& [id, port] : ports_) add(id, *port, false);
  });
  return summaries;
}

}  // namespace limen::net
