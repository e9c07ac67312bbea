#include "display/screen.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace limen::display {
namespace {

using testing::ElementsAre;

/// Fills its frame with a colour and says what the test told it to.
struct PlainSource : Source {
  void update(Frame& frame, bool all, std::vector<Rectangle>& changed) override {
    asked_for_all = all;
    ++updates;
    if (frame.width != width || frame.height != height) frame.resize(width, height);
    std::ranges::fill(frame.pixels, colour);
    changed.insert(changed.end(), changes.begin(), changes.end());
    changes.clear();
  }
  std::shared_ptr<const Pointer> pointer() override { return its_pointer; }
  void wish_size(unsigned wished_width, unsigned) override { wished = wished_width; }

  unsigned width = 8, height = 4, wished = 0;
  uint32_t colour = 0x123456;
  int updates = 0;
  bool asked_for_all = false;
  std::vector<Rectangle> changes;
  std::shared_ptr<const Pointer> its_pointer;
};

struct RecordingViewer : Viewer {
  void frame_changed(const Frame& frame, std::span<const Rectangle> changed, bool was) override {
    ++calls;
    last = frame;
    rectangles.assign(changed.begin(), changed.end());
    resized = was;
  }
  void pointer_changed(const std::shared_ptr<const Pointer>& now) override { pointer = now; }

  int calls = 0;
  Frame last;
  std::vector<Rectangle> rectangles;
  bool resized = false;
  std::shared_ptr<const Pointer> pointer;
};

size_t lit(const Frame& frame) {
  return static_cast<size_t>(
      std::ranges::count_if(frame.pixels, [](uint32_t pixel) { return pixel != 0; }));
}

TEST(Screen, SaysThatNoGuestHasDrawn) {
  Screen screen;
  const auto frame = screen.snapshot();
  EXPECT_EQ(frame.width, 640u);
  EXPECT_EQ(frame.height, 480u);
  EXPECT_GT(lit(frame), 300u);   // the line of text,
  EXPECT_LT(lit(frame), 3000u);  // and nothing else
}

TEST(Screen, ShowsThePlaceholderWhileTheSourceHasNothing) {
  Screen screen;
  PlainSource source;
  source.width = source.height = 0;
  screen.connect(source);
  EXPECT_EQ(screen.snapshot().width, 640u);
  source.width = 8;
  source.height = 4;
  EXPECT_EQ(screen.snapshot().width, 8u);
}

TEST(Screen, DrawsNothingWhileNobodyLooks) {
  Screen screen;
  PlainSource source;
  screen.connect(source);
  screen.update();
  EXPECT_EQ(source.updates, 0);
  RecordingViewer viewer;
  screen.add_viewer(viewer);
  EXPECT_TRUE(screen.has_viewers());
  screen.update();
  EXPECT_EQ(source.updates, 1);
  screen.remove_viewer(viewer);
  EXPECT_FALSE(screen.has_viewers());
}

TEST(Screen, ShowsAViewerEverythingFirstAndThenWhatChanged) {
  Screen screen;
  PlainSource source;
  screen.connect(source);
  RecordingViewer first, second;
  screen.add_viewer(first);
  screen.update();
  EXPECT_TRUE(source.asked_for_all);
  EXPECT_TRUE(first.resized);
  EXPECT_THAT(first.rectangles, ElementsAre(Rectangle{0, 0, 8, 4}));
  EXPECT_EQ(first.last.pixels[5], 0x123456u);

  screen.update();  // nothing new
  EXPECT_FALSE(source.asked_for_all);
  EXPECT_EQ(first.calls, 1);

  screen.add_viewer(second);
  source.changes = {{1, 2, 3, 1}};
  screen.update();
  EXPECT_THAT(first.rectangles, ElementsAre(Rectangle{1, 2, 3, 1}));
  EXPECT_FALSE(first.resized);
  EXPECT_THAT(second.rectangles, ElementsAre(Rectangle{0, 0, 8, 4}));
}

TEST(Screen, TellsOfANewSize) {
  Screen screen;
  PlainSource source;
  screen.connect(source);
  RecordingViewer viewer;
  screen.add_viewer(viewer);
  screen.update();
  source.width = 16;
  screen.update();
  EXPECT_TRUE(viewer.resized);
  EXPECT_THAT(viewer.rectangles, ElementsAre(Rectangle{0, 0, 16, 4}));
}

TEST(Screen, ASnapshotDoesNotKeepNewsFromViewers) {
  Screen screen;
  PlainSource source;
  screen.connect(source);
  RecordingViewer viewer;
  screen.add_viewer(viewer);
  screen.update();
  source.colour = 7;
  source.changes = {{0, 0, 1, 1}};
  EXPECT_EQ(screen.snapshot().pixels[0], 7u);
  screen.update();
  EXPECT_EQ(viewer.calls, 2);
  EXPECT_EQ(viewer.last.pixels[0], 7u);
}

TEST(Screen, TheSourceThatWasConnectedLastShows) {
  Screen screen;
  PlainSource below, above;
  above.width = 2;
  screen.connect(below);
  screen.connect(above);
  EXPECT_EQ(screen.snapshot().width, 2u);
  screen.wish_size(99, 1);
  EXPECT_EQ(above.wished, 99u);
  EXPECT_EQ(below.wished, 0u);
  screen.disconnect(above);
  EXPECT_EQ(screen.snapshot().width, 8u);
  EXPECT_TRUE(below.asked_for_all);
}

TEST(Screen, PassesThePointerOn) {
  Screen screen;
  PlainSource source;
  screen.connect(source);
  RecordingViewer viewer;
  screen.add_viewer(viewer);
  screen.update();
  EXPECT_EQ(viewer.pointer, nullptr);
  source.its_pointer = std::make_shared<Pointer>(Pointer{.width = 1, .height = 1, .pixels = {1}});
  screen.update();
  EXPECT_EQ(viewer.pointer, source.its_pointer);
  RecordingViewer late;
  screen.add_viewer(late);
  screen.update();
  EXPECT_EQ(late.pointer, source.its_pointer);
}

TEST(Screen, AViewerMayLeaveWhileItIsShownSomething) {
  struct Leaving : RecordingViewer {
    void frame_changed(const Frame& frame, std::span<const Rectangle> changed, bool was) override {
      RecordingViewer::frame_changed(frame, changed, was);
      screen->remove_viewer(*this);
    }
    Screen* screen = nullptr;
  };
  Screen screen;
  Leaving viewer;
  viewer.screen = &screen;
  screen.add_viewer(viewer);
  screen.update();
  screen.update();
  EXPECT_EQ(viewer.calls, 1);
}

}  // namespace
}  // namespace limen::display
