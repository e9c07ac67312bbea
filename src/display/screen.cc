#include "display/screen.h"

#include <algorithm>
#include <utility>

#include "display/placeholder.h"

namespace limen::display {

struct Screen::State {
  struct Look {
    Viewer* viewer;
    bool fresh = true;  ///< Has not been shown anything.
  };

  // Recursive: a viewer may call the screen. Held while a source draws and viewers are told, so
  // that neither goes away meanwhile.
  mutable std::recursive_mutex mutex;
  std::vector<Source*> sources;
  std::vector<Look> looks;
  Frame frame;                     ///< What the source that shows has drawn.
  bool stale = true;               ///< Another source's, or never drawn.
  Frame placeholder = {};          ///< Made when it is needed.
  unsigned width = 0, height = 0;  ///< Of what viewers were shown last.
  std::shared_ptr<const Pointer> pointer;
  std::vector<Rectangle> changed;

  [[nodiscard]] Source* source() const { return sources.empty() ? nullptr : sources.back(); }

  /// Has the source draw, and returns what is to be seen.
  const Frame& draw() {
    changed.clear();
    const unsigned old_width = frame.width, old_height = frame.height;
    auto* const its = source();
    if (its == nullptr)
      frame = {};
    else
      its->update(frame, stale, changed);
    const bool whole = stale || frame.width != old_width || frame.height != old_height;
    stale = false;
    if (frame.width != 0 && frame.height != 0) {
      if (whole) changed.assign(1, {0, 0, frame.width, frame.height});
      return frame;
    }
    changed.clear();
    if (placeholder.width == 0) placeholder = placeholder_frame();
    if (whole) changed.push_back({0, 0, placeholder.width, placeholder.height});
    return placeholder;
  }

  void source_changed() {
    stale = true;
    frame = {};
  }
};

Screen::Screen() : state_(std::make_unique<State>()) {}
Screen::~Screen() = default;

void Screen::connect(Source& source) {
  const std::lock_guard lock(state_->mutex);
  state_->sources.push_back(&source);
  state_->source_changed();
}

void Screen::disconnect(Source& source) {
  const std::lock_guard lock(state_->mutex);
  std::erase(state_->sources, &source);
  state_->source_changed();
}

void Screen::add_viewer(Viewer& viewer) {
  const std::lock_guard lock(state_->mutex);
  state_->looks.push_back({&viewer});
}

void Screen::remove_viewer(Viewer& viewer) {
  const std::lock_guard lock(state_->mutex);
  std::erase_if(state_->looks, [&](const State::Look& look) { return look.viewer == &viewer; });
}

bool Screen::has_viewers() const {
  const std::lock_guard lock(state_->mutex);
  return !state_->looks.empty();
}

void Screen::update() {
  const std::lock_guard lock(state_->mutex);
  auto& state = *state_;
  if (state.looks.empty()) return;
  const Frame& seen = state.draw();
  const bool resized = seen.width != state.width || seen.height != state.height;
  state.width = seen.width;
  state.height = seen.height;
  auto* const source = state.source();
  auto pointer = source != nullptr ? source->pointer() : nullptr;
  const bool pointer_changed = pointer != state.pointer;
  state.pointer = pointer;

  // A viewer may add and remove viewers, itself among them: one is told only if it is still there.
  const Rectangle everything{0, 0, seen.width, seen.height};
  const auto looks = state.looks;
  for (const auto& look : looks) {
    const auto now = std::ranges::find(state.looks, look.viewer, &State::Look::viewer);
    if (now == state.looks.end()) continue;
    const bool fresh = std::exchange(now->fresh, false);
    if (fresh || resized)
      look.viewer->frame_changed(seen, std::span(&everything, 1), true);
    else if (!state.changed.empty())
      look.viewer->frame_changed(seen, state.changed, false);
    const bool there =
        std::ranges::find(state.looks, look.viewer, &State::Look::viewer) != state.looks.end();
    if (there && (pointer_changed || (fresh && pointer != nullptr)))
      look.viewer->pointer_changed(pointer);
  }
}

Frame Screen::snapshot() {
  const std::lock_guard lock(state_->mutex);
  auto& state = *state_;
  const Frame seen = state.draw();
  // What changed is still news to the viewers: the next update shows them everything.
  if (!state.changed.empty())
    for (auto& look : state.looks) look.fresh = true;
  return seen;
}

std::optional<TextFrame> Screen::text() {
  const std::lock_guard lock(state_->mutex);
  auto* const source = state_->source();
  return source != nullptr ? source->text() : std::nullopt;
}

void Screen::wish_size(unsigned width, unsigned height) {
  const std::lock_guard lock(state_->mutex);
  if (auto* const source = state_->source()) source->wish_size(width, height);
}

}  // namespace limen::display
