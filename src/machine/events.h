// What happens to a machine, told to whoever listens: the events of QMP.
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/event_loop.h"

namespace limen::machine {

struct Event {
  std::string name;  ///< As QMP has it: "STOP".
  std::chrono::system_clock::time_point time;
};

class Events {
 public:
  /// `data`: an object, as QMP has it behind "data".
  using Listener = std::function<void(const Event& event, const nlohmann::json& data)>;

  explicit Events(EventLoop& loop) : loop_(loop) {}

  /// Listeners are called on the loop's thread; add and remove them there. The number is for
  /// remove().
  unsigned add(Listener listener);
  void remove(unsigned number);

  /// Tells it now. On the loop's thread.
  void emit(const std::string& name, const nlohmann::json& data);
  void emit(const std::string& name);
  /// Tells it soon, with the time of now. Thread-safe.
  void post(const std::string& name, const nlohmann::json& data);

 private:
  void tell(const Event& event, const nlohmann::json& data);

  EventLoop& loop_;
  struct Entry {
    unsigned number;
    Listener listener;
  };
  std::vector<Entry> listeners_;
  unsigned last_number_ = 0;
};

}  // namespace limen::machine
