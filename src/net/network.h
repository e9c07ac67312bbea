// The network of one machine: its back ends, and the thread on which all frames move.
//
// A card's ring is emptied and filled on that thread, not on a processor's: a guest that notifies
// goes on at once, and ports need no locks.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "memory/guest_memory.h"
#include "net/hub.h"
#include "net/options.h"
#include "net/port.h"

namespace limen::net {

class UserBackend;

class Network {
 public:
  /// `shared`: memory of the guest's that others than this process may write, the kernel for one;
  /// it outlives the network. nullptr: nobody else may.
  static Result<std::unique_ptr<Network>> create(memory::GuestMemory* shared = nullptr);
  /// Cards are gone by then.
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  /// The thread's loop: work for it, timers and descriptors on it.
  [[nodiscard]] EventLoop& loop() { return *loop_; }
  /// Runs `work` on the network's thread and waits for it. Not from that thread's own callbacks
  /// with something locked that they take.
  void run(const std::function<void()>& work);

  // What follows may be called on any thread.

  /// Makes a back end. Fails for an id that is taken, and for what the host refuses.
  Result<> add(const BackendDescription& description);
  /// Unplugs and ends a back end.
  Result<> remove(const std::string& id);
  /// Null: there is none with that id.
  [[nodiscard]] Port* find(const std::string& id);
  /// Plugs a card in; it goes with Port::disconnect(). Fails when the back end is taken.
  Result<> plug(Port& card, const std::string& id);
  /// Makes a card known to set_link() and list(), by its id or, where that is empty, as "MODEL.0"
  /// and so on; remove_card() comes before its end.
  void add_card(Port& card, const std::string& id, std::string_view model);
  void remove_card(Port& card);
  /// The machine stands still, or goes on. A card that comes later takes it to run.
  void set_running(bool runs);
  /// Sets the link of the back end or card with that name.
  Result<> set_link(const std::string& id, bool up);

  // Of user-mode networks; `netdev` "": the first. Fails where there is none.
  Result<> add_host_forward(const std::string& netdev, const std::string& rule);
  /// False: there is no such rule.
  Result<bool> remove_host_forward(const std::string& netdev, const std::string& rule);
  /// What `info usernet` shows: id and table of each.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> user_connections();

  struct Summary {
    std::string id;
    std::string description;
    bool plugged = false;
    bool card = false;
    bool link = true;
    Port::Traffic traffic = {};
    std::string peer = {};  ///< Id of the other end; "": none, or one without a name.
  };
  [[nodiscard]] std::vector<Summary> list();

 private:
  explicit Network(memory::GuestMemory* shared) : shared_(shared) {}
  [[nodiscard]] Result<UserBackend*> user_network(const std::string& netdev);
  Result<std::unique_ptr<Port>> make(const BackendDescription& description);
  Hub& hub(int number);

  memory::GuestMemory* const shared_;
  std::unique_ptr<EventLoop> loop_;
  std::map<int, std::unique_ptr<Hub>> hubs_;
  std::map<std::string, std::unique_ptr<Port>> ports_;
  std::vector<std::pair<std::string, Port*>> cards_;  ///< In the order of their coming.
  std::thread thread_;
};

}  // namespace limen::net
