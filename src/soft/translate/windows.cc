#include "soft/translate/windows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "soft/interpret/native/host.h"
#include "soft/translate/context.h"

namespace limen::soft::translate {
namespace {

/// Bytes. The larger, the more often a window reaches over the end of its page.
constexpr int64_t kMostBytes = 512;
/// Farther from its root than this a register is not followed.
constexpr int64_t kFarthest = int64_t{1} << 29;
constexpr uint16_t kElsewhere = (1u << 10) | (1u << 11);  // R10, R11: in memory
constexpr uint8_t kCounter = 1, kStackPointer = 4, kFramePointer = 5;

constexpr int64_t kFarthestDisplacement = int64_t{1} << 30;
/// Bytes. A round of an inner loop that goes farther is soon at the end of its page.
constexpr int64_t kFarthestStep = 1024;

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

/// Where flags were dead last, and what registers held there.
class Place {
 public:
  explicit Place(const Values& now) : now_(now) {}

  void set(size_t item) {
    item_ = item;
    changed_ = 0;
  }
  [[nodiscard]] size_t item() const { return item_; }
  [[nodiscard]] const Value& operator[](unsigned number) const { return value(number); }
  [[nodiscard]] const Value& value(unsigned number) const {
    return (changed_ >> number & 1) != 0 ? before_[number] : now_[number];
  }
  /// To be called before a register is given another value.
  void note_change(unsigned number) {
    if ((changed_ >> number & 1) != 0) return;
    changed_ |= uint32_t{1} << number;
    before_[number] = now_[number];
  }

 private:
  const Values& now_;
  size_t item_ = 0;
  uint32_t changed_ = 0;  // a bit for each register that had another value
  Values before_;         // of these
};

/// What an access reaches.
struct Bytes {
  int64_t offset = 0;  ///< From a root.
  uint16_t size = 0;
  bool write = false;
  int32_t displacement = 0;  ///< As the instruction has it.
};

/// How far the registers of an access are from their roots.
struct Offsets {
  int64_t base = 0;
  int64_t index = 0;
  bool operator==(const Offsets&) const = default;
};

/// A window that may yet grow.
struct Open {
  Root root;
  Offsets offsets;              ///< Of the first access.
  bool far = false;             ///< Some displacement is not small.
  int64_t from = 0, to = 0;     ///< Offsets from the root.
  int64_t register_offset = 0;  ///< Of the opening registers' sum from the root.
  Window window;
  bool passed_branch = false;  ///< Since its first access.
  bool shares_save = false;    ///< Another one is opened with it, where flags are live.
  size_t first_access = 0, last_item = 0;
  uint8_t candidate = 0;  ///< In place of its number, until it has one.
  unsigned uses = 0;
};

}  // namespace

class WindowSearch::State {
 public:
  void run(std::span<Item> items, size_t poll_at, const InnerLoop& inner,
           std::vector<Window>& windows) {
    begin(items, poll_at, inner);
    for (at_ = 0; at_ < items_.size(); ++at_) {
      if (at_ == poll_at_) close_all();
      if (at_ == inner_.at) begin_inner();
      if (inner_.begins_round(at_)) begin_round();
      Item& item = items_[at_];
      item.window = item.stack_window = 0;
      item.inside_window = false;
      if (!item.flags_live) {
        dead_.set(at_);
        dead_known_ = dead_known_for_stack_ = true;
      }
      note_accesses(item);
      follow(item);
    }
    close_all();
    for (Open& open : inner_open_) close_inner(open);
    for (Item& item : items_) {
      item.window = numbers_[item.window];
      item.stack_window = numbers_[item.stack_window];
    }
    std::ranges::sort(windows_, {},
                      [](const Window& window) { return std::pair(window.item, !window.inner); });
    windows.swap(windows_);
    int last_of_stack = -1;
    for (Window& window : windows) {
      // Without PEXT there is no check of the stack's page that keeps flags.
      window.stack = window.stack && window.item > last_of_stack &&
                     (!items_[window.item].flags_live || interpret::native::host_features().bmi2);
      if (window.stack) last_of_stack = window.last;
    }
  }

 private:
  void begin(std::span<Item> items, size_t poll_at, const InnerLoop& inner) {
    items_ = items;
    code32_ = !items.empty() && items[0].code32;
    word_ = code32_ ? 4 : 8;
    poll_at_ = poll_at;
    inner_ = inner;
    windows_.clear();
    open_.clear();
    inner_open_.clear();
    dead_known_ = dead_known_for_stack_ = saved_known_ = false;
    candidates_ = 0;
    made_ = 0;
    last_root_ = 0;
    for (Value& value : registers_) value = {.root = ++last_root_};
  }
  [[nodiscard]] uint8_t new_candidate() {
    numbers_[++candidates_] = 0;
    return candidates_;
  }

  void set(unsigned number, const Value& value) {
    dead_.note_change(number);
    saved_.note_change(number);
    registers_[number] = value;
  }
  void forget(unsigned number) { set(number, {.root = ++last_root_}); }
  void forget_all() {
    for (unsigned i = 0; i < registers_.size(); ++i) forget(i);
  }
  void add(unsigned number, int64_t offset) {
    Value value = registers_[number];
    value.offset += offset;
    if (value.offset > kFarthest || value.offset < -kFarthest) return forget(number);
    set(number, value);
  }

  void note_accesses(Item& item) {
    if (item.has_memory && (item.kind == Kind::kPlain || item.kind == Kind::kPush ||
                            item.kind == Kind::kCallAway || item.kind == Kind::kJumpAway))
      note_operand(item);
    switch (item.kind) {
      case Kind::kPush:
      case Kind::kCall:
      case Kind::kCallAway:
        return note_stack(kStackPointer, -word_, true, item);
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
    note({.base = value.root}, {.base = base},
         {.offset = value.offset + displacement,
          .size = word_,
          .write = write,
          .displacement = static_cast<int32_t>(displacement)},
         item.stack_window);
  }

  void note_operand(Item& item) {
    const Address& memory = item.address;
    if ((!memory.wide && !code32_) || memory.segment != Address::Segment::kFlat || memory.relative)
      return;
    if ((kElsewhere >> memory.base & 1) != 0 || (kElsewhere >> memory.index & 1) != 0) return;
    if (memory.base == kNoGeneral && memory.index == kNoGeneral) return;
    if (item.displacement > kFarthest || item.displacement < (code32_ ? -kFarFromEdge : -kFarthest))
      return;
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
    note(root, through,
         {.offset = offset,
          .size = item.memory_size,
          .write = item.writes_memory,
          .displacement = item.displacement},
         item.window);
  }

  /// Finds out how far a round of the inner loop moves each register.
  void begin_inner() {
    close_all();
    forget_all();
    round_start_ = registers_;
    steps_ = {};
    inner_written_ = 0;
    const auto round = std::span<const Item>(items_).subspan(inner_.at, inner_.round);
    const bool simple = std::ranges::all_of(round, [](const Item& item) {
      return item.kind == Kind::kPlain || item.kind == Kind::kAddress ||
             item.kind == Kind::kNothing || item.kind == Kind::kJump || item.kind == Kind::kBranch;
    });
    if (!simple) return;
    for (const Item& item : round) {
      follow(item);
      inner_written_ |= item.registers_written;
    }
    for (unsigned i = 0; i < steps_.size(); ++i)
      if (registers_[i].root == round_start_[i].root && (kElsewhere >> i & 1) == 0)
        steps_[i] = registers_[i];
  }

  /// All rounds are alike, as seen from their start: each may be the first one.
  void begin_round() {
    close_all();
    registers_ = round_start_;
  }

  /// The register that holds the root when a round begins; kNone if there is none, or if it is
  /// not known how far a round moves it.
  [[nodiscard]] uint8_t inner_register(uint32_t root) const {
    for (unsigned i = 0; i < steps_.size(); ++i)
      if (root != 0 && steps_[i].root == root) return static_cast<uint8_t>(i);
    return Window::kNone;
  }

  /// Like note(), for an access that each round of the inner loop moves by what is known. Opening
  /// such a window asks no more than whether the bank has its page: ways out do not matter.
  bool note_inner(const Root& root, uint8_t base, const Bytes& bytes, uint8_t& use) {
    const auto [offset, size, write, displacement] = bytes;
    Window through{.base = inner_register(root.base), .index = inner_register(root.index)};
    through.scale = root.scale;
    const auto lacks = [](uint32_t part, uint8_t number) {
      return part != 0 && number == Window::kNone;
    };
    if (lacks(root.base, through.base) || lacks(root.index, through.index)) return false;
    int64_t step = 0;
    if (root.base != 0) step += steps_[through.base].offset;
    if (root.index != 0) step += steps_[through.index].offset * (int64_t{1} << root.scale);
    if (step > kFarthestStep || step < -kFarthestStep) return false;
    if (code32_ && (displacement > kFarFromEdge || (root.base != 0 && root.index != 0)))
      return false;
    const bool has_base = root.base != 0 && root.index != 0 && base == through.base &&
                          (inner_written_ >> base & 1) == 0;
    for (Open& open : inner_open_) {
      const int64_t from = std::min(open.from, offset);
      const int64_t to = std::max(open.to, offset + size);
      if (open.root != root || to - from > kMostBytes) continue;
      open.from = from;
      open.to = to;
      open.window.write = open.window.write || write;
      open.window.has_base = open.window.has_base && has_base;
      use = open.candidate;
      return true;
    }
    Open open;
    open.root = root;
    open.from = offset;
    open.to = offset + size;
    open.window = through;
    open.window.write = write;
    open.window.has_base = has_base;
    open.window.step = static_cast<int32_t>(step);
    open.window.varies = code32_;
    use = open.candidate = new_candidate();
    inner_open_.push_back(open);
    return true;
  }

  void close_inner(Open& open) {
    if (open.from < -kFarthestDisplacement || open.to > kFarthestDisplacement) return;
    Window& window = open.window;
    window.inner = true;
    window.item = static_cast<uint8_t>(inner_.at);
    window.last = static_cast<uint8_t>(items_.size() - 1);
    window.number = static_cast<uint8_t>(++made_);
    window.size = static_cast<uint16_t>(open.to - open.from);
    window.displacement = static_cast<int32_t>(open.from);
    numbers_[open.candidate] = window.number;
    for (Item& item : items_.subspan(inner_.at)) item.inside_window = true;
    windows_.push_back(window);
  }

  [[nodiscard]] Offsets offsets_of(const Window& through, const auto& values) const {
    const auto offset_of = [&](uint8_t number) {
      return number == Window::kNone ? 0 : values[number].offset;
    };
    return {.base = offset_of(through.base), .index = offset_of(through.index)};
  }

  /// Whether an access through registers with these offsets can be made through the window; notes
  /// what it takes.
  [[nodiscard]] bool may_join(Open& open, const Offsets& offsets, bool far) const {
    if (!code32_) return true;
    const bool varies = open.window.varies || offsets != open.offsets;
    if (varies && (open.far || far || (open.root.base != 0 && open.root.index != 0))) return false;
    open.window.varies = varies;
    open.far = open.far || far;
    return true;
  }

  /// An access to bytes at `root` and an offset, made through registers that `through` names.
  void note(const Root& root, const Window& through, const Bytes& bytes, uint8_t& use) {
    if (at_ >= inner_.at && note_inner(root, through.base, bytes, use)) return;
    const auto [offset, size, write, displacement] = bytes;
    const Offsets offsets = offsets_of(through, registers_);
    const bool far = displacement > kFarFromEdge;
    const auto found = std::ranges::find(open_, root, &Open::root);
    if (found != open_.end()) {
      Open& open = *found;
      const int64_t from = std::min(open.from, offset);
      const int64_t to = std::max(open.to, offset + size);
      // A page must not become dirty for a store that is behind a way out.
      if (to - from <= kMostBytes && (!write || open.window.write || !open.passed_branch) &&
          may_join(open, offsets, far)) {
        open.from = from;
        open.to = to;
        open.window.write = open.window.write || write;
        open.last_item = at_;
        ++open.uses;
        use = open.candidate;
        return;
      }
      close(open);
      open_.erase(found);
    }
    Open open;
    open.root = root;
    open.offsets = offsets;
    open.far = far;
    open.from = offset;
    open.to = offset + size;
    open.window = through;
    open.window.write = write;
    open.first_access = open.last_item = at_;
    open.uses = 1;
    use = open.candidate = new_candidate();
    choose_place(open);
    open_.push_back(open);
  }

  /// Where it is opened: with its first access, which is the running item's, or, if flags are
  /// live there, at the last place before it where they are dead. Not before a branch, but for
  /// the stack's: what a branch keeps the program from may be an address of nothing.
  void choose_place(Open& open) {
    bool earlier = false;
    open.window.item = static_cast<uint8_t>(at_);
    const bool stack = open.root.index == 0 && open.root.base == registers_[kStackPointer].root;
    open.window.stack = stack;
    const bool live = items_[at_].flags_live;
    if (live && !stack && !dead_known_ && !saved_known_) {
      saved_.set(at_);
      saved_known_ = true;
    }
    const bool by_save = !stack && !dead_known_;
    const Place& place = by_save ? saved_ : dead_;
    const bool known = stack ? dead_known_for_stack_ : dead_known_ || saved_known_;
    if (live && known && place.item() != at_) {
      Window moved = open.window;
      if (find_root(place, open.root.base, moved.base) &&
          find_root(place, open.root.index, moved.index) &&
          may_join(open, offsets_of(moved, place), open.far)) {
        moved.varies = open.window.varies;
        moved.item = static_cast<uint8_t>(place.item());
        open.window = moved;
        earlier = true;
        if (by_save)
          for (Open& other : open_)
            if (other.window.item == place.item()) other.shares_save = true;
      }
    }
    const auto offset_of = [&](uint8_t number) {
      if (number == Window::kNone) return int64_t{0};
      return (earlier ? place.value(number) : registers_[number]).offset;
    };
    open.register_offset =
        offset_of(open.window.base) + (offset_of(open.window.index) << open.window.scale);
  }

  /// A register that held `root` and something where flags were dead, the one that did later if
  /// it can be.
  static bool find_root(const Place& place, uint32_t root, uint8_t& number) {
    if (number == Window::kNone || place.value(number).root == root) return true;
    for (unsigned i = 0; i < std::tuple_size_v<Values>; ++i)
      if (place.value(i).root == root && (kElsewhere >> i & 1) == 0 && i != kStackPointer) {
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
    if (open.uses < 2 && !moved && !window.stack && !open.shares_save) return;
    if (displacement > kFarthestDisplacement || displacement < -kFarthestDisplacement) return;
    window.number = static_cast<uint8_t>(++made_);
    window.size = static_cast<uint16_t>(open.to - open.from);
    window.displacement = static_cast<int32_t>(displacement);
    window.last = static_cast<uint8_t>(open.last_item);
    numbers_[open.candidate] = window.number;
    for (size_t i = window.item + 1u; i <= open.last_item; ++i) items_[i].inside_window = true;
    windows_.push_back(window);
  }
  void close_all() {
    for (Open& open : open_) close(open);
    open_.clear();
    dead_known_ = dead_known_for_stack_ = saved_known_ = false;
  }

  /// What the item does to registers and windows.
  void follow(const Item& item) {
    switch (item.kind) {
      case Kind::kNothing:
      case Kind::kJump:
        return;
      case Kind::kBranch:
        for (Open& open : open_) open.passed_branch = true;
        dead_known_ = saved_known_ = false;
        if (item.counter == Counter::kLoop) add(kCounter, -1);
        return;
      case Kind::kPush:
      case Kind::kCall:
      case Kind::kCallAway:
        return add(kStackPointer, -word_);
      case Kind::kPop:
        add(kStackPointer, word_);
        return forget(item.operands[0].number);
      case Kind::kLeave:
        set(kStackPointer, registers_[kFramePointer]);
        add(kStackPointer, word_);
        return forget(kFramePointer);
      case Kind::kPlain:
      case Kind::kAddress:
        return follow_plain(item);
      default:
        close_all();
        forget_all();
    }
  }

  [[nodiscard]] bool is_word(const Operand& operand) const {
    return operand.is_general() && operand.size == word_;
  }
  void follow_plain(const Item& item) {
    const Operand& to = item.operands[0];
    const Operand& from = item.operands[1];
    if (is_word(to)) {
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
          if (!is_word(from)) break;
          set(number, registers_[from.number]);
          return;
        case ZYDIS_MNEMONIC_LEA: {
          const Address& memory = item.address;
          if (memory.index != kNoGeneral || memory.base == kNoGeneral || memory.wide == code32_)
            break;
          set(number, registers_[memory.base]);
          return add(number, item.displacement);
        }
        default:
          break;
      }
    }
    for (uint32_t written = item.registers_written; written != 0; written &= written - 1)
      forget(static_cast<unsigned>(std::countr_zero(written)));
  }

  std::span<Item> items_;
  bool code32_ = false;
  uint16_t word_ = 8;  // bytes of an address
  size_t poll_at_ = 0;
  InnerLoop inner_;
  std::vector<Window> windows_;
  size_t at_ = 0;
  Values registers_;
  uint32_t last_root_ = 0;
  std::vector<Open> open_;
  // Of the inner loop.
  std::vector<Open> inner_open_;
  Values round_start_;
  Values steps_;                // roots when a round begins, and how far it moves them; 0: unknown
  uint16_t inner_written_ = 0;  // general registers
  Place dead_{registers_};
  bool dead_known_ = false;            // and it is behind the last branch or whatever ends windows
  bool dead_known_for_stack_ = false;  // and it is behind the last of the latter
  /// Where flags are live, and a window is opened all the same: others can be while they are aside.
  Place saved_{registers_};
  bool saved_known_ = false;
  uint8_t candidates_ = 0;
  unsigned made_ = 0;
  // The number of a candidate's window; 0: it has not become one.
  std::array<uint8_t, 2 * kMaxItems + 1> numbers_{};
};

WindowSearch::WindowSearch() : state_(std::make_unique<State>()) {}
WindowSearch::~WindowSearch() = default;

void WindowSearch::run(std::span<Item> items, size_t poll_at, const InnerLoop& inner,
                       std::vector<Window>& windows) {
  state_->run(items, poll_at, inner, windows);
}

}  // namespace limen::soft::translate
