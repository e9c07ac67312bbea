#include "kvm/breakpoints.h"

namespace limen::kvm {

Result<> Breakpoints::insert(GuestPhysicalAddress address) {
  const std::lock_guard lock(mutex_);
  auto& place = places_[address.value];
  if (place.wanted == 0) {
    const auto byte = memory_.span(address, 1);
    if (byte.empty()) {
      places_.erase(address.value);
      return fail("{:#x} is not memory that can be written", address.value);
    }
    place.own = byte[0];
    write(address, kInt3);
  }
  ++place.wanted;
  return {};
}

void Breakpoints::remove(GuestPhysicalAddress address) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find(address.value);
  if (place == places_.end() || --place->second.wanted != 0) return;
  if (place->second.lifted == 0) restore(address, place->second);
  places_.erase(place);
}

void Breakpoints::lift(GuestPhysicalAddress address) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find(address.value);
  if (place != places_.end() && place->second.lifted++ == 0) restore(address, place->second);
}

void Breakpoints::drop(GuestPhysicalAddress address) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find(address.value);
  if (place == places_.end() || place->second.lifted == 0) return;
  if (--place->second.lifted != 0) return;
  if (const auto byte = memory_.span(address, 1); !byte.empty()) place->second.own = byte[0];
  write(address, kInt3);
}

void Breakpoints::restore(GuestPhysicalAddress address, const Place& place) {
  const auto byte = memory_.span(address, 1);
  if (!byte.empty() && byte[0] == kInt3) write(address, place.own);
}

void Breakpoints::write(GuestPhysicalAddress address, std::byte value) {
  const auto byte = memory_.span(address, 1);
  if (byte.empty()) return;  // what was mapped there has gone
  byte[0] = value;
  memory_.note_written(address, 1);
}

}  // namespace limen::kvm
