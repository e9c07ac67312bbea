#include "display/input.h"

#include <algorithm>
#include <ranges>

namespace limen::display {

void Input::add(KeySink& sink) {
  const std::lock_guard lock(mutex_);
  std::erase(keyboards_, &sink);
  keyboards_.push_back(&sink);
}

void Input::remove(KeySink& sink) {
  const std::lock_guard lock(mutex_);
  std::erase(keyboards_, &sink);
}

void Input::set_aside(KeySink& sink) {
  const std::lock_guard lock(mutex_);
  const auto known = std::ranges::find(keyboards_, &sink);
  if (known != keyboards_.end()) std::rotate(keyboards_.begin(), known, known + 1);
}

void Input::add(PointerSink& sink) {
  const std::lock_guard lock(mutex_);
  unsigned index = next_index_;
  const auto known = std::ranges::find(pointers_, &sink, &NumberedPointer::sink);
  if (known == pointers_.end()) {
    ++next_index_;
  } else {
    index = known->index;
    pointers_.erase(known);
  }
  pointers_.push_back({&sink, index});
}

void Input::remove(PointerSink& sink) {
  const std::lock_guard lock(mutex_);
  std::erase_if(pointers_, [&](const auto& each) { return each.sink == &sink; });
}

void Input::set_aside(PointerSink& sink) {
  const std::lock_guard lock(mutex_);
  const auto known = std::ranges::find(pointers_, &sink, &NumberedPointer::sink);
  if (known != pointers_.end()) std::rotate(pointers_.begin(), known, known + 1);
}

void Input::key(KeyCode code, bool down) {
  const std::lock_guard lock(mutex_);
  const auto held = std::ranges::find(down_, code);
  if (down && held == down_.end())
    down_.push_back(code);
  else if (!down && held != down_.end())
    down_.erase(held);
  if (!keyboards_.empty()) keyboards_.back()->key(code, down);
}

void Input::release_keys() {
  const std::lock_guard lock(mutex_);
  if (!keyboards_.empty())
    for (const KeyCode code : std::views::reverse(down_)) keyboards_.back()->key(code, false);
  down_.clear();
}

uint8_t Input::leds() const {
  const std::lock_guard lock(mutex_);
  return keyboards_.empty() ? uint8_t{0} : keyboards_.back()->leds();
}

PointerSink* Input::last_pointer(bool absolute) const {
  for (const auto& pointer : std::views::reverse(pointers_))
    if (pointer.sink->absolute() == absolute) return pointer.sink;
  return nullptr;
}

bool Input::absolute() const {
  const std::lock_guard lock(mutex_);
  return !pointers_.empty() && pointers_.back().sink->absolute();
}

bool Input::move_by(int x, int y) {
  const std::lock_guard lock(mutex_);
  auto* pointer = last_pointer(false);
  if (pointer != nullptr) pointer->move_by(x, y);
  return pointer != nullptr;
}

bool Input::move_to(unsigned x, unsigned y) {
  const std::lock_guard lock(mutex_);
  auto* pointer = last_pointer(true);
  if (pointer != nullptr)
    pointer->move_to(std::min(x, PointerSink::kScale), std::min(y, PointerSink::kScale));
  return pointer != nullptr;
}

void Input::button(Button button, bool down) {
  const std::lock_guard lock(mutex_);
  if (!pointers_.empty()) pointers_.back().sink->button(button, down);
}

void Input::wheel(int vertical, int horizontal) {
  const std::lock_guard lock(mutex_);
  if (!pointers_.empty()) pointers_.back().sink->wheel(vertical, horizontal);
}

void Input::sync() {
  const std::lock_guard lock(mutex_);
  for (const auto& pointer : pointers_) pointer.sink->sync();
}

std::vector<Input::PointerInformation> Input::pointers() const {
  const std::lock_guard lock(mutex_);
  std::vector<PointerInformation> all;
  for (const auto& pointer : std::views::reverse(pointers_))
    all.push_back({.index = pointer.index,
                   .name = pointer.sink->name(),
                   .absolute = pointer.sink->absolute(),
                   .current = pointer.sink == pointers_.back().sink});
  return all;
}

bool Input::choose_pointer(unsigned index) {
  const std::lock_guard lock(mutex_);
  const auto chosen = std::ranges::find(pointers_, index, &NumberedPointer::index);
  if (chosen == pointers_.end()) return false;
  std::rotate(chosen, chosen + 1, pointers_.end());
  return true;
}

}  // namespace limen::display
