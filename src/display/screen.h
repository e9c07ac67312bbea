// What a guest shows and who looks at it: a source draws a frame, viewers show or send it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace limen::display {

struct Rectangle {
  unsigned x = 0, y = 0, width = 0, height = 0;
  bool operator==(const Rectangle&) const = default;
};

/// A picture: row by row, without gaps, a pixel as 00RRGGBBh.
struct Frame {
  unsigned width = 0, height = 0;
  std::vector<uint32_t> pixels = {};

  void resize(unsigned new_width, unsigned new_height) {
    width = new_width;
    height = new_height;
    pixels.assign(size_t{width} * height, 0);
  }
  [[nodiscard]] uint32_t* row(unsigned y) { return pixels.data() + size_t{y} * width; }
  [[nodiscard]] const uint32_t* row(unsigned y) const { return pixels.data() + size_t{y} * width; }
};

/// A mouse pointer that the guest leaves to the viewer: pixels as AARRGGBBh.
struct Pointer {
  unsigned width = 0, height = 0, hot_x = 0, hot_y = 0;
  std::vector<uint32_t> pixels = {};
};

/// A text mode's characters: what a terminal can show. Attributes as VGA has them: bits 0 to 3
/// foreground, 4 to 6 background, 7 blinking or bright background.
struct TextFrame {
  struct Cell {
    uint8_t character = ' ';  ///< Code page 437.
    uint8_t attribute = 7;
    bool operator==(const Cell&) const = default;
  };
  unsigned columns = 0, rows = 0;
  std::vector<Cell> cells = {};
  struct Cursor {
    unsigned column = 0, row = 0;
  };
  std::optional<Cursor> cursor = {};
};

/// A device that makes a picture. Called on any thread, one at a time for a screen.
class Source {
 public:
  virtual ~Source() = default;
  /// Brings `frame`, which the source alone draws in, up to date: resizes it where the guest
  /// changed the resolution, and appends the parts that changed since the last call; with `all`,
  /// or after a change of size, that is the whole. A frame that it leaves empty (0 by 0) stands for
  /// a guest that has not set up the display yet: the screen says so in its place.
  virtual void update(Frame& frame, bool all, std::vector<Rectangle>& changed) = 0;
  /// The characters, while a text mode shows.
  virtual std::optional<TextFrame> text() { return {}; }
  /// The guest's own pointer image; nullptr: none, or part of the picture.
  virtual std::shared_ptr<const Pointer> pointer() { return {}; }
  /// A viewer would like this size (0, 0: has no wish). Guests may follow.
  virtual void wish_size(unsigned /*width*/, unsigned /*height*/) {}
};

/// Somebody who looks. Called on the thread that called Screen::update(), one viewer at a time:
/// what it does must be short. It may call the screen.
class Viewer {
 public:
  virtual ~Viewer() = default;
  /// `changed` is not empty. `resized`: the frame has another size than the last time.
  virtual void frame_changed(const Frame& frame, std::span<const Rectangle> changed,
                             bool resized) = 0;
  virtual void pointer_changed(const std::shared_ptr<const Pointer>& /*pointer*/) {}
};

/// One picture of the machine's: the source that draws it (the first that was connected last shows)
/// and those who look. Nobody looks, nothing is drawn. Thread-safe.
class Screen {
 public:
  Screen();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  /// The source outlives its connection. A screen without source shows a frame of 640 by 480 with a
  /// line of text that says so.
  void connect(Source& source);
  void disconnect(Source& source);

  void add_viewer(Viewer& viewer);  ///< Its first frame_changed() has everything.
  void remove_viewer(Viewer& viewer);
  [[nodiscard]] bool has_viewers() const;

  /// Has the source draw and tells the viewers: a viewer's timer calls it, 30 times a second, say.
  void update();
  /// An up-to-date copy, for screendump.
  [[nodiscard]] Frame snapshot();
  [[nodiscard]] std::optional<TextFrame> text();
  void wish_size(unsigned width, unsigned height);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace limen::display
