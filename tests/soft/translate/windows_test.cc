// Which accesses share a check of the soft TLB.
#include "soft/translate/windows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "soft/system/guest.h"
#include "soft/translate/form_cache.h"

namespace limen::soft::translate {
namespace {

std::vector<Item> items_of(std::initializer_list<uint8_t> code, bool code32 = false) {
  std::vector<uint8_t> bytes(code);
  bytes.resize(bytes.size() + decode::kMaxInstructionLength, 0xCC);
  soft::testing::Guest guest;
  FormCache forms(*guest.cpu);
  std::vector<Item> items;
  for (size_t at = 0; at < code.size(); at += items.back().length) {
    Item item;
    item.rip = 0x1000 + at;
    std::copy_n(&bytes[at], decode::kMaxInstructionLength, item.bytes.begin());
    const CodeKind kind{.user = true, .sse = true, .code32 = code32};
    EXPECT_EQ(forms.find(kind, decode::kMaxInstructionLength, item), decode::Outcome::kOk);
    items.push_back(item);
  }
  return items;
}

std::vector<Window> windows_of(std::vector<Item>& items, const InnerLoop& inner) {
  std::vector<Window> windows;
  WindowSearch().run(items, 0, inner, windows);
  return windows;
}

TEST(Windows, OfAnInnerLoopMoveAsTheirPointersDo) {
  // MOV EDX, [RSI]; ADD RSI, 4; MOV [RDI - 8], EDX; SUB RDI, 8; DEC RCX; JNZ
  auto items = items_of({0x8B, 0x16, 0x48, 0x83, 0xC6, 0x04, 0x89, 0x57, 0xF8, 0x48, 0x83, 0xEF,
                         0x08, 0x48, 0xFF, 0xC9, 0x75, 0xEF});
  const auto windows = windows_of(items, {.at = 0, .round = items.size()});
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_TRUE(windows[0].inner);
  EXPECT_EQ(windows[0].step, 4);
  EXPECT_EQ(windows[0].displacement, 0);
  EXPECT_FALSE(windows[0].write);
  EXPECT_EQ(windows[1].step, -8);
  EXPECT_EQ(windows[1].displacement, -8);
  EXPECT_EQ(windows[1].size, 4);
  EXPECT_TRUE(windows[1].write);
}

TEST(Windows, OfAnInnerLoopHaveTheBaseThatStays) {
  // MOV EDX, [RSI + RCX * 4]; DEC RCX; JNZ
  auto items = items_of({0x8B, 0x14, 0x8E, 0x48, 0xFF, 0xC9, 0x75, 0xF8});
  const auto windows = windows_of(items, {.at = 0, .round = items.size()});
  ASSERT_EQ(windows.size(), 1u);
  EXPECT_EQ(windows[0].step, -4);
  EXPECT_TRUE(windows[0].has_base);
}

TEST(Windows, OfAnInnerLoopDoNotFollowWhatIsLoaded) {
  // MOV RSI, [RSI]; DEC RCX; JNZ
  auto items = items_of({0x48, 0x8B, 0x36, 0x48, 0xFF, 0xC9, 0x75, 0xF8});
  EXPECT_TRUE(windows_of(items, {.at = 0, .round = items.size()}).empty());
}

TEST(Windows, OfAnInnerLoopAreTheSameInEachRound) {
  // MOV EDX, [RSI]; ADD RSI, 4; DEC RCX; JNZ: twice
  auto items = items_of({0x8B, 0x16, 0x48, 0x83, 0xC6, 0x04, 0x48, 0xFF, 0xC9, 0x75, 0xF5,
                         0x8B, 0x16, 0x48, 0x83, 0xC6, 0x04, 0x48, 0xFF, 0xC9, 0x75, 0xF5});
  const auto windows = windows_of(items, {.at = 0, .round = items.size() / 2});
  ASSERT_EQ(windows.size(), 1u);
  EXPECT_EQ(windows[0].size, 4);
  EXPECT_EQ(windows[0].step, 4);
  EXPECT_EQ(items[0].window, windows[0].number);
  EXPECT_EQ(items[4].window, windows[0].number);
}

TEST(Windows, Of32BitCodeKnowWhetherRegistersChange) {
  // MOV EDX, [ESI]; MOV ECX, [ESI + 4]
  auto same = items_of({0x8B, 0x16, 0x8B, 0x4E, 0x04}, true);
  auto windows = windows_of(same, {});
  ASSERT_EQ(windows.size(), 1u);
  EXPECT_FALSE(windows[0].varies);
  // MOV EDX, [ESI]; ADD ESI, 4; MOV ECX, [ESI]
  auto moved = items_of({0x8B, 0x16, 0x83, 0xC6, 0x04, 0x8B, 0x0E}, true);
  windows = windows_of(moved, {});
  ASSERT_EQ(windows.size(), 1u);
  EXPECT_TRUE(windows[0].varies);
  EXPECT_EQ(windows[0].size, 8);
}

TEST(Windows, Of32BitCodeAreNotReachedByTwoRegistersThatChange) {
  // MOV EDX, [ESI + ECX * 4]; INC ECX; MOV EAX, [ESI + ECX * 4]
  auto items = items_of({0x8B, 0x14, 0x8E, 0x41, 0x8B, 0x04, 0x8E}, true);
  EXPECT_TRUE(windows_of(items, {}).empty());
  // Without INC ECX between them
  auto same = items_of({0x8B, 0x14, 0x8E, 0x8B, 0x04, 0x8E}, true);
  EXPECT_EQ(windows_of(same, {}).size(), 1u);
}

TEST(Windows, Of32BitCodeAreNotReachedFromFarAway) {
  // MOV EDX, [ESI + 1000H]; ADD ESI, 4; MOV ECX, [ESI + 1008H]
  auto items =
      items_of({0x8B, 0x96, 0, 0x10, 0, 0, 0x83, 0xC6, 4, 0x8B, 0x8E, 8, 0x10, 0, 0}, true);
  EXPECT_TRUE(windows_of(items, {}).empty());
}

}  // namespace
}  // namespace limen::soft::translate
