#include "kvm/breakpoints.h"

#include <span>

namespace limen::kvm {

Result<> Breakpoints::insert(GuestPhysicalAddress address) {
  const std::lock_guard lock(mutex_);
  auto& place = places_[address.value];
  if (place.wanted == 0) {
    auto put = memory_.read(address, std::span(&place.own, 1));
    if (put) put = write(address, kInt3);
    if (!put) {
      places_.erase(address.value);
      return put;
    }
  }
  ++place.wanted;
  return {};
}

void Breakpoints::remove(GuestPhysicalAddress address) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find(address.value);
  if (place == places_.end() || --place->second.wanted != 0) return;
  if (place->second.lifted == 0) static_cast<void>(write(address, place->second.own));
  places_.erase(place);
}

void Breakpoints::lift(GuestPhysicalAddress address) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find(address.value);
  if (place != places_.end() && place->second.lifted++ == 0)
    static_cast<void>(write(address, place->second.own));
}

void Breakpoints::drop(GuestPhysicalAddress address) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find(address.value);
  if (place != places_.end() && --place->second.lifted == 0)
    static_cast<void>(write(address, kInt3));
}

Result<> Breakpoints::write(GuestPhysicalAddress address, std::byte value) {
  return memory_.write(address, std::span(&value, 1));
}

}  // namespace limen::kvm
