#include "machine/events.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace limen::machine {

unsigned Events::add(Listener listener) {
  listeners_.push_back({++last_number_, std::move(listener)});
  return last_number_;
}

void Events::remove(unsigned number) {
  std::erase_if(listeners_, [&](const Entry& entry) { return entry.number == number; });
}

void Events::emit(const std::string& name, const nlohmann::json& data) {
  tell({name, std::chrono::system_clock::now()}, data);
}

void Events::emit(const std::string& name) { emit(name, nlohmann::json::object()); }

void Events::post(const std::string& name, const nlohmann::json& data) {
  loop_.post(
      [this, event = Event{name, std::chrono::system_clock::now()}, data] { tell(event, data); });
}

void Events::tell(const Event& event, const nlohmann::json& data) {
  // A listener may remove itself.
  const auto listeners = listeners_;
  for (const auto& entry : listeners) entry.listener(event, data);
}

}  // namespace limen::machine
