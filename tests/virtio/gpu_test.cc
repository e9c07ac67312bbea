#include "virtio/gpu/gpu.h"

#include "test_driver.h"

namespace limen::virtio {
namespace {

using namespace gpu;
using testing::ElementsAre;
using testing::IsEmpty;

class GpuTest : public VirtioTest {
 protected:
  static constexpr uint64_t kRequest = 0x10'0000, kAnswer = 0x11'0000, kPixels = 0x20'0000;
  static constexpr uint32_t kFormat = 2;  // B8G8R8X8

  void create(const GpuProperties& properties = {}) {
    auto device = std::make_unique<Gpu>(properties, *memory_);
    gpu_ = device.get();
    plug(std::move(device));
    enable_msix();
    start();
  }
  void start() {
    ASSERT_TRUE(negotiate(feature::kVersion1 | 2));
    control_ = std::make_unique<DriverQueue>(enable_queue(0, 16));
    cursor_ = std::make_unique<DriverQueue>(enable_queue(1, 16));
    set_common(0x10, 2, 0);  // the vector of configuration changes
    driver_ok();
  }
  /// Has `command` carried out, with `rest` behind it, and returns the answer's type.
  template <typename T>
  Response run(Command type, T command, std::span<const std::byte> rest = {}) {
    command.header.type = static_cast<uint32_t>(type);
    control_->put(kRequest, command);
    std::ranges::copy(rest, memory_->span({kRequest + sizeof command}, 1 << 16).begin());
    control_->write_chain(0, {{kRequest, static_cast<uint32_t>(sizeof command + rest.size())},
                              {kAnswer, 4096, DriverQueue::kWrite}});
    control_->offer(0);
    const auto index = control_->used_index();
    kick(0);
    EXPECT_EQ(control_->used_index(), static_cast<uint16_t>(index + 1));
    return static_cast<Response>(control_->get<Header>(kAnswer).type);
  }
  Response create_resource(uint32_t id, uint32_t width, uint32_t height,
                           uint32_t format = kFormat) {
    return run(Command::kResourceCreate2d, ResourceCreate2d{{}, id, format, width, height});
  }
  Response attach(uint32_t id, std::vector<ResourceAttachBacking::Entry> entries) {
    return run(Command::kResourceAttachBacking,
               ResourceAttachBacking{{}, id, static_cast<uint32_t>(entries.size())},
               std::as_bytes(std::span(entries)));
  }
  /// Resource 1 of 64 by 32 with memory behind it, shown.
  void show() {
    ASSERT_EQ(create_resource(1, 64, 32), Response::kOkNoData);
    ASSERT_EQ(attach(1, {{kPixels, 64 * 32 * 4}}), Response::kOkNoData);
    ASSERT_EQ(run(Command::kSetScanout, SetScanout{{}, {0, 0, 64, 32}, 0, 1}), Response::kOkNoData);
  }
  Response transfer(Area area, uint64_t offset, uint32_t id = 1) {
    return run(Command::kTransferToHost2d, TransferToHost2d{{}, area, offset, id});
  }
  Response flush(Area area, uint32_t id = 1) {
    return run(Command::kResourceFlush, ResourceFlush{{}, area, id});
  }
  void set_pixel(unsigned x, unsigned y, uint32_t value) {
    control_->put(kPixels + 4 * (64 * y + x), value);
  }
  std::vector<display::Rectangle> update() {
    std::vector<display::Rectangle> changed;
    gpu_->update(frame_, false, changed);
    return changed;
  }

  Gpu* gpu_ = nullptr;
  std::unique_ptr<DriverQueue> control_, cursor_;
  display::Frame frame_;
};

TEST_F(GpuTest, IsAGraphicsCardWithOneScreen) {
  create();
  EXPECT_EQ(function_->config_read(2, 2), 0x1050u);
  EXPECT_EQ(function_->config_read(8, 4) >> 8, 0x038000u);
  EXPECT_EQ(device_config(8, 4), 1u);
  EXPECT_EQ(device_config(12, 4), 0u);
  EXPECT_EQ(offered() & 3, 2u);
}

TEST_F(GpuTest, ShowsNothingBeforeAScanoutIsSet) {
  create();
  EXPECT_THAT(update(), IsEmpty());
  EXPECT_EQ(frame_.width, 0u);
}

TEST_F(GpuTest, ShowsWhatWasTransferredAndFlushed) {
  create();
  show();
  set_pixel(3, 2, 0xFF12'3456);
  EXPECT_THAT(update(), ElementsAre(display::Rectangle{0, 0, 64, 32}));
  EXPECT_EQ(frame_.width, 64u);
  EXPECT_EQ(frame_.row(2)[3], 0u) << "not transferred";
  EXPECT_EQ(transfer({2, 1, 8, 4}, 4 * (64 + 2)), Response::kOkNoData);
  EXPECT_THAT(update(), IsEmpty());
  EXPECT_EQ(flush({2, 1, 8, 4}), Response::kOkNoData);
  EXPECT_THAT(update(), ElementsAre(display::Rectangle{2, 1, 8, 4}));
  EXPECT_EQ(frame_.row(2)[3], 0x12'3456u);
  EXPECT_THAT(update(), IsEmpty());
}

TEST_F(GpuTest, FormatsDifferInTheOrderOfColours) {
  create();
  const std::array<std::pair<uint32_t, uint32_t>, 4> kFormats = {
      {{1, 0x030201}, {4, 0x020304}, {134, 0x010203}, {68, 0x040302}}};
  for (const auto& [format, seen] : kFormats) {
    start();
    ASSERT_EQ(create_resource(1, 64, 32, format), Response::kOkNoData);
    ASSERT_EQ(attach(1, {{kPixels, 64 * 32 * 4}}), Response::kOkNoData);
    ASSERT_EQ(run(Command::kSetScanout, SetScanout{{}, {0, 0, 64, 32}, 0, 1}), Response::kOkNoData);
    set_pixel(0, 0, 0x0403'0201);  // bytes 1, 2, 3, 4
    transfer({0, 0, 64, 32}, 0);
    flush({0, 0, 64, 32});
    update();
    EXPECT_EQ(frame_.row(0)[0], seen) << format;
  }
}

TEST_F(GpuTest, BackingMayLieInPieces) {
  create();
  ASSERT_EQ(create_resource(1, 16, 16), Response::kOkNoData);
  // 1000 and 24 bytes: a piece ends within a row.
  ASSERT_EQ(attach(1, {{kPixels, 1000}, {kPixels + 0x1'0000, 24}}), Response::kOkNoData);
  ASSERT_EQ(run(Command::kSetScanout, SetScanout{{}, {0, 0, 16, 16}, 0, 1}), Response::kOkNoData);
  control_->put(kPixels + 996, uint32_t{0x111111});
  control_->put(kPixels + 0x1'0000, uint32_t{0x222222});
  EXPECT_EQ(transfer({0, 0, 16, 16}, 0), Response::kOkNoData);
  update();
  EXPECT_EQ(frame_.row(15)[9], 0x111111u);
  EXPECT_EQ(frame_.row(15)[10], 0x222222u);
}

TEST_F(GpuTest, AScanoutMayBeAPartOfAResource) {
  create();
  show();
  set_pixel(40, 20, 0xABCDEF);
  transfer({0, 0, 64, 32}, 0);
  ASSERT_EQ(run(Command::kSetScanout, SetScanout{{}, {32, 16, 32, 16}, 0, 1}), Response::kOkNoData);
  update();
  EXPECT_EQ(frame_.width, 32u);
  EXPECT_EQ(frame_.row(4)[8], 0xABCDEFu);
  flush({0, 0, 40, 18});
  EXPECT_THAT(update(), ElementsAre(display::Rectangle{0, 0, 8, 2}));
  flush({0, 0, 8, 8});
  EXPECT_THAT(update(), IsEmpty());
  ASSERT_EQ(run(Command::kSetScanout, SetScanout{}), Response::kOkNoData);
  update();
  EXPECT_EQ(frame_.width, 0u);
}

TEST_F(GpuTest, RefusesWhatIsWrong) {
  create({.max_hostmem = 1 << 20});
  EXPECT_EQ(create_resource(0, 64, 32), Response::kErrorInvalidResourceId);
  EXPECT_EQ(create_resource(1, 64, 32, 5), Response::kErrorInvalidParameter);
  EXPECT_EQ(create_resource(1, 0, 32), Response::kErrorInvalidParameter);
  EXPECT_EQ(create_resource(1, 1024, 1024), Response::kErrorOutOfMemory);
  EXPECT_EQ(create_resource(1, UINT32_MAX, UINT32_MAX), Response::kErrorOutOfMemory);
  show();
  EXPECT_EQ(create_resource(1, 64, 32), Response::kErrorInvalidResourceId);
  EXPECT_EQ(attach(1, {{kPixels, 64}}), Response::kErrorUnspecified) << "it has a backing";
  EXPECT_EQ(attach(9, {{kPixels, 64}}), Response::kErrorInvalidResourceId);
  ASSERT_EQ(create_resource(2, 16, 16), Response::kOkNoData);
  EXPECT_EQ(attach(2, {{kRamSize, 64}}), Response::kErrorUnspecified) << "not RAM";
  EXPECT_EQ(run(Command::kResourceAttachBacking, ResourceAttachBacking{{}, 2, 1000}),
            Response::kErrorUnspecified);
  EXPECT_EQ(transfer({0, 0, 16, 16}, 0, 2), Response::kErrorInvalidResourceId);
  EXPECT_EQ(transfer({60, 0, 5, 1}, 0), Response::kErrorInvalidParameter);
  EXPECT_EQ(transfer({UINT32_MAX, 0, 2, 1}, 0), Response::kErrorInvalidParameter);
  EXPECT_EQ(transfer({0, 0, 64, 32}, UINT64_MAX), Response::kErrorInvalidParameter);
  EXPECT_EQ(transfer({0, 0, 64, 32}, 1 << 30), Response::kOkNoData) << "beyond its end is nothing";
  EXPECT_EQ(flush({0, 31, 1, 2}), Response::kErrorInvalidParameter);
  EXPECT_EQ(flush({0, 0, 1, 1}, 9), Response::kErrorInvalidResourceId);
  EXPECT_EQ(run(Command::kSetScanout, SetScanout{{}, {0, 0, 64, 32}, 1, 1}),
            Response::kErrorInvalidScanoutId);
  EXPECT_EQ(run(Command::kSetScanout, SetScanout{{}, {0, 0, 65, 32}, 0, 1}),
            Response::kErrorInvalidParameter);
  EXPECT_EQ(run(Command::kSetScanout, SetScanout{{}, {0, 0, 8, 8}, 0, 1}),
            Response::kErrorInvalidParameter);
  EXPECT_EQ(run(static_cast<Command>(0x777), ResourceUnref{}), Response::kErrorUnspecified);
}

TEST_F(GpuTest, GivesMemoryBack) {
  create({.max_hostmem = 64 << 10});
  for (uint32_t id = 1; id < 100; ++id) {
    ASSERT_EQ(create_resource(id, 100, 100), Response::kOkNoData);
    ASSERT_EQ(attach(id, {{kPixels, 64}}), Response::kOkNoData);
    ASSERT_EQ(create_resource(id + 1000, 100, 100), Response::kErrorOutOfMemory);
    if (id % 2 == 0) {
      ASSERT_EQ(run(Command::kResourceDetachBacking, ResourceUnref{{}, id}), Response::kOkNoData);
    }
    ASSERT_EQ(run(Command::kResourceUnref, ResourceUnref{{}, id}), Response::kOkNoData);
  }
  EXPECT_EQ(run(Command::kResourceUnref, ResourceUnref{{}, 5}), Response::kErrorInvalidResourceId);
}

TEST_F(GpuTest, ARemovedResourceShowsNoLonger) {
  create();
  show();
  update();
  EXPECT_EQ(run(Command::kResourceUnref, ResourceUnref{{}, 1}), Response::kOkNoData);
  update();
  EXPECT_EQ(frame_.width, 0u);
}

TEST_F(GpuTest, FencesComeBack) {
  create();
  ResourceUnref command;
  command.header.flags = kFlagFence;
  command.header.fence = 0x1234'5678'9ABC;
  run(Command::kResourceUnref, command);
  const auto header = control_->get<Header>(kAnswer);
  EXPECT_EQ(header.flags, kFlagFence);
  EXPECT_EQ(header.fence, 0x1234'5678'9ABCu);
}

TEST_F(GpuTest, TellsWhatSizeIsWished) {
  create({.width = 1000, .height = 700});
  EXPECT_EQ(run(Command::kGetDisplayInfo, ResourceUnref{}), Response::kOkDisplayInfo);
  auto info = control_->get<DisplayInfo>(kAnswer);
  EXPECT_EQ(info.modes[0].area.width, 1000u);
  EXPECT_EQ(info.modes[0].enabled, 1u);
  EXPECT_EQ(info.modes[1].enabled, 0u);

  gpu_->wish_size(1234, 567);
  EXPECT_EQ(msi_.received(0), 1u);
  EXPECT_EQ(device_config(0, 4), 1u);
  mmio_.write(kRegisters + 0x2004, 4, 1);
  EXPECT_EQ(device_config(0, 4), 0u);
  run(Command::kGetDisplayInfo, ResourceUnref{});
  info = control_->get<DisplayInfo>(kAnswer);
  EXPECT_EQ(info.modes[0].area.width, 1234u);
  EXPECT_EQ(info.modes[0].area.height, 567u);

  EXPECT_EQ(run(Command::kGetEdid, GetEdid{}), Response::kOkEdid);
  const auto edid = control_->get<Edid>(kAnswer);
  EXPECT_EQ(edid.size, 128u);
  EXPECT_EQ(edid.bytes[56] | (edid.bytes[58] >> 4) << 8, 1234);
  EXPECT_EQ(run(Command::kGetEdid, GetEdid{{}, 1}), Response::kErrorInvalidParameter);
}

TEST_F(GpuTest, CursorBecomesThePointer) {
  create();
  ASSERT_EQ(create_resource(7, 64, 64, 1), Response::kOkNoData);
  ASSERT_EQ(attach(7, {{kPixels, 64 * 64 * 4}}), Response::kOkNoData);
  set_pixel(1, 2, 0x80AA'BBCC);
  transfer({0, 0, 64, 64}, 0, 7);
  const auto send = [&](Command type, uint32_t resource) {
    UpdateCursor command{.header = {}, .resource = resource, .hot_x = 3, .hot_y = 400};
    command.header.type = static_cast<uint32_t>(type);
    cursor_->put(kRequest, command);
    cursor_->write_chain(0, {{kRequest, sizeof command}});
    cursor_->offer(0);
    kick(1);
  };
  EXPECT_EQ(gpu_->pointer(), nullptr);
  send(Command::kUpdateCursor, 7);
  const auto pointer = gpu_->pointer();
  ASSERT_NE(pointer, nullptr);
  EXPECT_EQ(pointer->width, 64u);
  EXPECT_EQ(pointer->hot_x, 3u);
  EXPECT_EQ(pointer->hot_y, 63u);
  EXPECT_EQ(pointer->pixels[2 * 64 + 1], 0x80AA'BBCCu);
  send(Command::kMoveCursor, 0);
  EXPECT_EQ(gpu_->pointer(), pointer);
  send(Command::kUpdateCursor, 0);
  EXPECT_EQ(gpu_->pointer(), nullptr);
  EXPECT_EQ(cursor_->used_index(), 3);
}

TEST_F(GpuTest, ResetForgetsEverything) {
  create();
  show();
  update();
  set_status(0);
  update();
  EXPECT_EQ(frame_.width, 0u);
  start();
  EXPECT_EQ(flush({0, 0, 1, 1}), Response::kErrorInvalidResourceId);
}

TEST_F(GpuTest, VirtioVgaShowsTheVgaUntilThereIsAScanout) {
  struct PlainSource : display::Source {
    void update(display::Frame& frame, bool all, std::vector<display::Rectangle>&) override {
      if (frame.width != 5) frame.resize(5, 5);
      asked_for_all = all;
    }
    bool asked_for_all = false;
  } vga;
  create({.vga = &vga});
  EXPECT_EQ(function_->config_read(8, 4) >> 8, 0x030000u);
  update();
  EXPECT_EQ(frame_.width, 5u);
  show();
  update();
  EXPECT_EQ(frame_.width, 64u);
  set_status(0);
  update();
  EXPECT_EQ(frame_.width, 5u);
  EXPECT_TRUE(vga.asked_for_all);
}

}  // namespace
}  // namespace limen::virtio
