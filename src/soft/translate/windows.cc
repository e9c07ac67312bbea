#include "soft/translate/windows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "soft/interpret/native/host.h"

namespace limen::soft::translate {
namespace {

/// Bytes. The larger, the more often a window reaches over the end of its page.
constexpr int64_t kMostBytes = 512;
/// Farther from its root than this a register is not followed.
constexpr int64_t kFarthest = int64_t{1} << 29;
constexpr uint16_t kElsewhere = (1u << 10) | (1u << 11);  // R10, R11: in memory
constexpr uint8_t kCounter = 1, kStackPointer = 4, kFramePointer = 5;

constexpr int64_t kFarthestDisplacement = int64_t{1} << 30;

/// What is known of a register: `offset` more than something unknown, which has a number.
struct Value {
  uint32_t root = 0;
  int64_t offset = 0;
};
using Values = std::array<Value, 16>;

/// What addresses have in common that differ by what is known.
struct Root {
  uint32_t base = 0;  ///< 0: none.
  uint32_t index = 0;
  uint8_t scale = 0;  ///< A shift.
  bool operator==(const Root&) const = default;
};

/// Where flags are dead and registers hold these.
struct Place {
  bool known = false;
  size_t item = 0;
  Values values;
};

/// A window that may yet grow.
struct Open {
  Root root;
  int64_t from = 0, to = 0;     ///< Offsets from the root.
  int64_t register_offset = 0;  ///< Of the opening registers' sum from the root.
  Window window;
  bool passed_branch = false;  ///< Since its first access.
  size_t first_access = 0, last_item = 0;
  std::vector<uint8_t*> uses;  ///< Where its number goes.
};

class Search {
 public:
  Search(std::span<Item> items, size_t poll_at, std::vector<Window>& windows)
      : items_(items), poll_at_(poll_at), windows_(windows) {
    forget_all();
  }

  void run() {
    windows_.clear();
    for (at_ = 0; at_ < items_.size(); ++at_) {
      if (at_ == poll_at_) close_all();
      Item& item = items_[at_];
      item.window = item.stack_window = 0;
      item.inside_window = false;
      if (!item.flags_live) dead_ = dead_for_stack_ = {true, at_, registers_};
      note_accesses(item);
      follow(item);
    }
    close_all();
    std::ranges::sort(windows_, {}, [](const Window& window) { return window.item; });
    int last_of_stack = -1;
    for (Window& window : windows_) {
      // Without PEXT there is no check of the stack's page that keeps flags.
      window.stack = window.stack && window.item > last_of_stack &&
                     (!items_[window.item].flags_live || interpret::native::host_features().bmi2);
      if (window.stack) last_of_stack = window.last;
    }
  }

 private:
  void forget(unsigned number) { registers_[number] = {.root = ++last_root_}; }
  void forget_all() {
    for (unsigned i = 0; i < registers_.size(); ++i) forget(i);
  }
  void add(unsigned number, int64_t offset) {
    Value& value = registers_[number];
    value.offset += offset;
    if (value.offset > kFarthest || value.offset < -kFarthest) forget(number);
  }

  void note_accesses(Item& item) {
    if (item.has_memory && (item.kind == Kind::kPlain || item.kind == Kind::kPush ||
                            item.kind == Kind::kCallAway || item.kind == Kind::kJumpAway))
      note_operand(item);
    switch (item.kind) {
      case Kind::kPush:
      case Kind::kCall:
      case Kind::kCallAway:
        return note_stack(kStackPointer, -8, true, item);
      case Kind::kPop:
      case Kind::kReturn:
        return note_stack(kStackPointer, 0, false, item);
      case Kind::kLeave:
        return note_stack(kFramePointer, 0, false, item);
      default:
        return;
    }
  }

  void note_stack(uint8_t base, int64_t displacement, bool write, Item& item) {
    const Value& value = registers_[base];
    note({.base = value.root}, {.base = base}, value.offset + displacement, 8, write,
         item.stack_window);
  }

  void note_operand(Item& item) {
    const Address& memory = item.address;
    if (!memory.wide || memory.segment != Address::Segment::kFlat || memory.relative) return;
    if ((kElsewhere >> memory.base & 1) != 0 || (kElsewhere >> memory.index & 1) != 0) return;
    if (memory.base == kNoGeneral && memory.index == kNoGeneral) return;
    if (item.displacement > kFarthest || item.displacement < -kFarthest) return;
    Root root;
    Window through;
    int64_t offset = item.displacement;
    if (memory.base != kNoGeneral) {
      through.base = memory.base;
      root.base = registers_[through.base].root;
      offset += registers_[through.base].offset;
    }
    if (memory.index != kNoGeneral) {
      through.index = memory.index;
      through.scale = root.scale = memory.scale;
      root.index = registers_[through.index].root;
      offset += registers_[through.index].offset << root.scale;
    }
    note(root, through, offset, item.memory_size, item.writes_memory, item.window);
  }

  /// An access to `size` bytes at `root` and `offset`, made through registers that `through` names.
  void note(const Root& root, const Window& through, int64_t offset, int64_t size, bool write,
            uint8_t& use) {
    const auto found = std::ranges::find(open_, root, &Open::root);
    if (found != open_.end()) {
      Open& open = *found;
      const int64_t from = std::min(open.from, offset);
      const int64_t to = std::max(open.to, offset + size);
      // A page must not become dirty for a store that is behind a way out.
      if (to - from <= kMostBytes && (!write || open.window.write || !open.passed_branch)) {
        open.from = from;
        open.to = to;
        open.window.write = open.window.write || write;
        open.last_item = at_;
        open.uses.push_back(&use);
        return;
      }
      close(open);
      open_.erase(found);
    }
    Open open;
    open.root = root;
    open.from = offset;
    open.to = offset + size;
    open.window = through;
    open.window.write = write;
    open.first_access = open.last_item = at_;
    open.uses.push_back(&use);
    choose_place(open);
    open_.push_back(std::move(open));
  }

  /// Where it is opened: with its first access, which is the running item's, or, if flags are live
  /// there, at the last place before it where they are dead. Not before a branch, but for the
  /// stack's: what a branch keeps the program from may be an address of nothing.
  void choose_place(Open& open) {
    const Values* values = &registers_;
    open.window.item = static_cast<uint8_t>(at_);
    const bool stack = open.root.index == 0 && open.root.base == registers_[kStackPointer].root;
    open.window.stack = stack;
    const Place& place = stack ? dead_for_stack_ : dead_;
    if (items_[at_].flags_live && place.known) {
      Window moved = open.window;
      if (find_root(place.values, open.root.base, moved.base) &&
          find_root(place.values, open.root.index, moved.index)) {
        moved.item = static_cast<uint8_t>(place.item);
        open.window = moved;
        values = &place.values;
      }
    }
    const auto offset_of = [&](uint8_t number) {
      return number == Window::kNone ? 0 : (*values)[number].offset;
    };
    open.register_offset =
        offset_of(open.window.base) + (offset_of(open.window.index) << open.window.scale);
  }

  /// A register that holds `root` and something, the one that did later if it can be.
  static bool find_root(const Values& values, uint32_t root, uint8_t& number) {
    if (number == Window::kNone || values[number].root == root) return true;
    for (unsigned i = 0; i < values.size(); ++i)
      if (values[i].root == root && (kElsewhere >> i & 1) == 0 && i != kStackPointer) {
        number = static_cast<uint8_t>(i);
        return true;
      }
    return false;
  }

  void close(Open& open) {
    Window& window = open.window;
    const int64_t displacement = open.from - open.register_offset;
    const bool moved = window.item < open.first_access;
    window.stack = window.stack && (window.base == kStackPointer || window.base == kFramePointer);
    if (open.uses.size() < 2 && !moved && !window.stack) return;
    if (displacement > kFarthestDisplacement || displacement < -kFarthestDisplacement) return;
    window.number = static_cast<uint8_t>(++made_);
    window.size = static_cast<uint16_t>(open.to - open.from);
    window.displacement = static_cast<int32_t>(displacement);
    window.last = static_cast<uint8_t>(open.last_item);
    for (uint8_t* use : open.uses) *use = window.number;
    for (size_t i = window.item + 1u; i <= open.last_item; ++i) items_[i].inside_window = true;
    windows_.push_back(window);
  }
  void close_all() {
    for (Open& open : open_) close(open);
    open_.clear();
    dead_.known = dead_for_stack_.known = false;
  }

  /// What the item does to registers and windows.
  void follow(const Item& item) {
    switch (item.kind) {
      case Kind::kNothing:
      case Kind::kJump:
        return;
      case Kind::kBranch:
        for (Open& open : open_) open.passed_branch = true;
        dead_.known = false;
        if (item.counter == Counter::kLoop) add(kCounter, -1);
        return;
      case Kind::kPush:
      case Kind::kCall:
      case Kind::kCallAway:
        return add(kStackPointer, -8);
      case Kind::kPop:
        add(kStackPointer, 8);
        return forget(item.operands[0].number);
      case Kind::kLeave:
        registers_[kStackPointer] = registers_[kFramePointer];
        add(kStackPointer, 8);
        return forget(kFramePointer);
      case Kind::kPlain:
      case Kind::kAddress:
        return follow_plain(item);
      default:
        close_all();
        forget_all();
    }
  }

  void follow_plain(const Item& item) {
    const Operand& to = item.operands[0];
    const Operand& from = item.operands[1];
    if (to.is_general64()) {
      const unsigned number = to.number;
      const bool immediate = from.type == Operand::Type::kImmediate;
      switch (item.mnemonic) {
        case ZYDIS_MNEMONIC_ADD:
          if (immediate) return add(number, item.immediate);
          break;
        case ZYDIS_MNEMONIC_SUB:
          if (immediate) return add(number, -item.immediate);
          break;
        case ZYDIS_MNEMONIC_INC:
          return add(number, 1);
        case ZYDIS_MNEMONIC_DEC:
          return add(number, -1);
        case ZYDIS_MNEMONIC_MOV:
          if (!from.is_general64()) break;
          registers_[number] = registers_[from.number];
          return;
        case ZYDIS_MNEMONIC_LEA: {
          const Address& memory = item.address;
          if (memory.index != kNoGeneral || memory.base == kNoGeneral || !memory.wide) break;
          registers_[number] = registers_[memory.base];
          return add(number, item.displacement);
        }
        default:
          break;
      }
    }
    for (unsigned i = 0; i < registers_.size(); ++i)
      if (item.registers_written >> i & 1) forget(i);
  }

  std::span<Item> items_;
  size_t poll_at_;
  std::vector<Window>& windows_;
  size_t at_ = 0;
  Values registers_;
  uint32_t last_root_ = 0;
  std::vector<Open> open_;
  Place dead_;            // since the last branch or whatever ends windows
  Place dead_for_stack_;  // since the last of the latter
  unsigned made_ = 0;
};

}  // namespace

void find_windows(std::span<Item> items, size_t poll_at, std::vector<Window>& windows) {
  Search(items, poll_at, windows).run();
}

}  // namespace limen::soft::translate
