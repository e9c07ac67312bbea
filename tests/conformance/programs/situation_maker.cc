#include "conformance/programs/situation_maker.h"

#include <algorithm>
#include <cstring>

#include "conformance/guest_tables.h"
#include "conformance/values.h"

namespace limen::conformance {
namespace {

using namespace x86;  // NOLINT(google-build-using-namespace): register names

constexpr size_t index(Page page) { return static_cast<size_t>(page); }

std::array<Mapping, kPageCount> plain_mappings() {
  std::array<Mapping, kPageCount> mappings;
  for (size_t i = 0; i < kPageCount; ++i)
    mappings[i] = {.shows = static_cast<uint8_t>(i),
                   .writable = i != index(Page::kReadOnly),
                   .executable = i < 2};
  return mappings;
}

uint64_t choose_flags(Random& random, bool supervisor) {
  using namespace rflags;
  uint64_t flags = kAlwaysSet | kInterrupt | (random.next() & kArithmetic);
  if (random.percent(3)) flags |= kDirection;
  if (random.percent(supervisor ? 40 : 1)) flags |= kAlignmentCheck;
  if (random.percent(5)) flags |= kIdentification;
  return flags;
}

void set_registers(const Program& program, Random& random, bool shifted, Situation& situation) {
  const Expectation& expects = program.expects;
  const uint64_t base = kWindows[situation.window];
  Registers& registers = situation.before;
  const auto shift = [&]() -> int64_t {
    if (!shifted || random.percent(40)) return 0;
    const int64_t unit = int64_t{1} << (3 * random.below(3));
    return random.between(-4, 4) * unit;
  };
  for (size_t i = 0; i < 16; ++i) {
    registers.gpr[i] = random_integer(random);
    if (expects.pointers[i])
      registers.gpr[i] = base + static_cast<uint64_t>(*expects.pointers[i] + shift());
    else if (expects.small[i])
      registers.gpr[i] = static_cast<uint64_t>(int64_t{*expects.small[i]});
  }
  registers.gpr[expects.counter] = random.below(random.percent(10) ? 40 : 6);
  registers.rflags = choose_flags(random, situation.supervisor);
  registers.fs_base = static_cast<uint64_t>(int64_t{expects.fs_base});
  registers.gs_base = base + static_cast<uint64_t>(expects.gs_base);
  const uint16_t data = 0x2B;
  registers.selectors = {data, static_cast<uint16_t>(program.code32 ? 0x23 : 0x33), data, data, 0,
                         0};
  if (situation.supervisor) {
    registers.selectors[kCs] = program.code32 ? kKernelCode32 : kKernelCode;
    registers.selectors[kSs] = 0x18;
  }
  if (program.code32) {
    for (size_t i = 0; i < 16; ++i) registers.gpr[i] = i < 8 ? registers.gpr[i] & 0xFFFF'FFFF : 0;
    registers.gs_base &= 0xFFFF'FFFF;
    registers.fs_base = 0;
    // Programs of users run natively, too, where no segment has this base.
    if (situation.supervisor) registers.selectors[kGs] = data;
  }
  fill_vectors(random, static_cast<Flavour>(random.below(5)), random.percent(8), registers.vector);
}

void fill_memory(Random& random, Memory& memory) {
  for (size_t at = index(Page::kData) * kPage; at < memory.size(); at += 64)
    fill(random, random.percent(70) ? Flavour::kBits : Flavour::kDouble,
         std::span(memory).subspan(at, 64));
  for (size_t i = 0; i < kMxcsrCount; ++i) {
    const uint32_t mxcsr = random_mxcsr(random, random.percent(20));
    std::memcpy(&memory[index(Page::kLone) * kPage + (kMxcsrSlots + 4 * i) % kPage], &mxcsr, 4);
  }
}

// One of the ways in which an operating system maps pages, or a program that is not well.
void vary_mappings(Random& random, Situation& situation) {
  auto& mappings = situation.mappings;
  const auto data = index(random.percent(50) ? Page::kData : Page::kData2);
  switch (random.below(8)) {
    case 0:  // the data pages change places
      std::swap(mappings[index(Page::kData)].shows, mappings[index(Page::kData2)].shows);
      break;
    case 1:  // one page twice
      mappings[data].shows = static_cast<uint8_t>(Page::kLone);
      break;
    case 2:
      mappings[data].writable = false;
      break;
    case 3:
      mappings[data].present = false;
      break;
    case 4:  // code seen as data
      mappings[index(Page::kLone)].shows = static_cast<uint8_t>(random.below(2));
      break;
    case 5:
      mappings[random.below(2)].writable = false;
      break;
    case 6:
      for (auto& mapping : mappings) mapping.present = false;
      situation.demand = true;
      break;
    default:
      for (auto& mapping : mappings) mapping.writable = false;
      situation.demand = true;
      break;
  }
  if (random.percent(50)) situation.demand = true;
}

unsigned choose_window(const Program& program, Random& random) {
  const auto window = static_cast<unsigned>(random.below(kWindows.size()));
  return program.code32 && window == kHighWindow ? kTopWindow : window;
}

}  // namespace

std::vector<Situation> make_situations(const Program& program, Random& random, size_t count) {
  std::vector<Situation> situations(count);
  Memory memory{};
  fill_memory(random, memory);
  const bool varies = random.percent(70);
  for (size_t i = 0; i < count; ++i) {
    Situation& situation = situations[i];
    situation.memory = memory;
    situation.supervisor = program.supervisor;
    situation.code32 = program.code32;
    situation.mappings = plain_mappings();
    if (i != 0) {
      if (random.percent(40)) situation.window = choose_window(program, random);
      if (varies && random.percent(45)) vary_mappings(random, situation);
      if (random.percent(20))
        situation.entry = static_cast<int32_t>(random.below(program.pieces.size()));
    }
    if (program.supervisor) {
      situation.smap = random.percent(75);
      const unsigned users = std::array{0u, 0u, 20u, 60u}[random.below(4)];
      for (size_t page = 0; page < kPageCount; ++page)
        situation.mappings[page].user = page >= 2 ? random.percent(users) : !situation.smap;
    }
    set_registers(program, random, i != 0, situation);
  }
  return situations;
}

void bind(const Program& program, Situation& situation) {
  const auto offsets = program.offsets();
  const uint64_t code = kWindows[situation.window] + kCodeOffset;
  situation.before.rip = code + offsets.at(static_cast<size_t>(situation.entry));
  for (size_t i = 0; i < program.slots.size(); ++i) {
    const uint64_t address = code + offsets.at(static_cast<size_t>(program.slots[i]));
    std::memcpy(&situation.memory[index(Page::kLone) * kPage + (kSlots + 8 * i) % kPage], &address,
                8);
  }
}

bool is_native(const Situation& situation) {
  return situation.window == 0 && !situation.supervisor && !situation.demand &&
         situation.mappings == plain_mappings();
}

}  // namespace limen::conformance
