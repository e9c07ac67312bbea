#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "memory/io_space.h"

namespace limen::memory {
namespace {

struct Constant final : IoHandler {
  explicit Constant(uint64_t v) : value(v) {}
  uint64_t io_read(uint64_t, unsigned) override { return value; }
  void io_write(uint64_t, unsigned, uint64_t) override {}
  uint64_t value;
};

/// Moves itself when written, as a PCI function does from within a configuration access.
struct Mover final : IoHandler {
  explicit Mover(IoSpace& s) : space(s) {}
  uint64_t io_read(uint64_t, unsigned) override { return 7; }
  void io_write(uint64_t, unsigned, uint64_t to) override {
    space.release(at, *this);
    at = to;
    space.claim(at, 0x100, *this, "mover");
  }
  IoSpace& space;
  uint64_t at = 0;
};

TEST(IoSpaceClaims, AHandlerMayMoveItselfDuringAnAccess) {
  IoSpace space("test");
  Mover mover(space);
  space.claim(0, 0x100, mover, "mover");
  for (uint64_t i = 1; i <= 1000; ++i) {
    space.write(mover.at, 4, i * 0x1000);
    ASSERT_EQ(space.read(i * 0x1000, 4), 7u);
    ASSERT_EQ(space.read((i - 1) * 0x1000, 4), 0xFFFF'FFFFu);
  }
}

TEST(IoSpaceClaims, ComeAndGoWhileOthersRead) {
  IoSpace space("test");
  Constant fixed(1), moving(2);
  space.claim(0x1000, 0x100, fixed, "fixed");
  std::atomic<bool> stop = false;
  std::atomic<unsigned> wrong = 0;
  const auto look = [&] {
    while (!stop) {
      if (space.read(0x1000, 1) != 1) ++wrong;
      const uint64_t value = space.read(0x2000, 1);
      if (value != 2 && value != 0xFF) ++wrong;
    }
  };
  std::thread first(look), second(look);
  for (int i = 0; i < 5000; ++i) {
    space.claim(0x2000, 0x100, moving, "moving");
    space.release(0x2000, moving);
  }
  stop = true;
  first.join();
  second.join();
  EXPECT_EQ(wrong, 0u);
}

/// Has one doorbell and one place for late writes, until it has no more to say.
struct Belled final : IoHandler {
  uint64_t io_read(uint64_t, unsigned) override { return 0; }
  void io_write(uint64_t, unsigned, uint64_t) override {}
  [[nodiscard]] std::span<const Doorbell> doorbells() const override { return bells; }
  [[nodiscard]] std::span<const LateWrites> late_writes() const override { return late; }
  std::vector<Doorbell> bells = std::vector(1, Doorbell{.offset = 0x10, .size = 2, .event = 5});
  std::vector<LateWrites> late = std::vector(1, LateWrites{.offset = 0x20, .size = 8});
};

struct Counter final : DoorbellTaker {
  void take(uint64_t address, const Doorbell&) override { at.insert(address); }
  void give_back(uint64_t address, const Doorbell& doorbell) override {
    EXPECT_EQ(doorbell.event, 5);
    at.erase(address);
  }
  std::set<uint64_t> at;
};

struct Late final : LateWriteTaker {
  void take(uint64_t address, uint64_t size) override {
    EXPECT_EQ(size, 8u);
    at.insert(address);
  }
  void give_back(uint64_t address, uint64_t) override { at.erase(address); }
  void deliver() override { ++delivered; }
  std::set<uint64_t> at;
  int delivered = 0;
};

TEST(IoSpaceClaims, LateWritesGoWithTheirClaimToo) {
  Late taker;
  IoSpace space("test");
  space.deliver_late_writes();  // nobody has any
  space.set_late_write_taker(&taker);
  Belled one, other;
  space.claim(0x1000, 0x100, one, "one");
  space.claim(0x2000, 0x100, other, "other");
  EXPECT_EQ(taker.at, (std::set<uint64_t>{0x1020, 0x2020}));
  one.late.clear();
  space.release(0x1000, one);
  EXPECT_EQ(taker.at, (std::set<uint64_t>{0x2020}));
  space.deliver_late_writes();
  EXPECT_EQ(taker.delivered, 1);
}

TEST(IoSpaceClaims, DoorbellsGoWithTheirClaimThoughTheHandlerIsNotAsked) {
  Counter taker;
  IoSpace space("test");
  space.set_doorbell_taker(&taker);
  Belled belled, other;
  space.claim(0x1000, 0x100, belled, "belled");
  space.claim(0x2000, 0x100, other, "other");
  EXPECT_EQ(taker.at, (std::set<uint64_t>{0x1010, 0x2010}));
  belled.bells.clear();  // as one at its end, of which only the base is left
  space.release(0x1000, belled);
  EXPECT_EQ(taker.at, (std::set<uint64_t>{0x2010}));
  space.release(0x1000, other);  // it has no such claim
  EXPECT_EQ(taker.at, (std::set<uint64_t>{0x2010}));
}

}  // namespace
}  // namespace limen::memory
