#include "soft/translate/windows.h"

#include <algorithm>
#include <array>
#include <vector>

namespace limen::soft::translate {
namespace {

/// Bytes. The larger, the more often a window reaches over the end of its page.
constexpr int64_t kMostBytes = 512;
/// Farther from its root than this a register is not followed.
constexpr int64_t kFarthest = int64_t{1} << 29;
constexpr uint16_t kElsewhere = (1u << 10) | (1u << 11);  // R10, R11: in memory

/// What is known of a register: `offset` more than something unknown, which has a number.
struct Value {
  uint32_t root = 0;
  int64_t offset = 0;
};

/// What addresses have in common that differ by what is known.
struct Root {
  uint32_t base = 0;  ///< 0: none.
  uint32_t index = 0;
  uint8_t scale = 0;
  bool operator==(const Root&) const = default;
};

struct Window {
  Root root;
  int64_t from = 0, to = 0;  ///< Offsets from the root.
  bool write = false;
  bool passed_branch = false;  ///< Since it was opened.
  size_t first_item = 0, last_item = 0;
  std::vector<WindowUse*> uses;
  int64_t opened_at = 0;  ///< Offset of the first access.
};

class Search {
 public:
  Search(std::span<Item> items, size_t poll_at) : items_(items), poll_at_(poll_at) { forget_all(); }

  void run() {
    for (at_ = 0; at_ < items_.size(); ++at_) {
      if (at_ == poll_at_) close_all();
      Item& item = items_[at_];
      item.window = item.stack_window = {};
      item.inside_window = false;
      note_accesses(item);
      follow(item);
    }
    close_all();
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
    const Value& stack = registers_[4];
    switch (item.kind) {
      case Kind::kPush:
      case Kind::kCall:
      case Kind::kCallAway:
        return note({.base = stack.root}, stack.offset - 8, 8, true, item.stack_window);
      case Kind::kPop:
      case Kind::kReturn:
        return note({.base = stack.root}, stack.offset, 8, false, item.stack_window);
      case Kind::kLeave:
        return note({.base = registers_[5].root}, registers_[5].offset, 8, false,
                    item.stack_window);
      default:
        return;
    }
  }

  void note_operand(Item& item) {
    const auto& memory = item.memory().mem;
    if (item.instruction.raw.address_width != 64 || memory.segment == ZYDIS_REGISTER_FS ||
        memory.segment == ZYDIS_REGISTER_GS || memory.base == ZYDIS_REGISTER_RIP)
      return;
    Root root;
    int64_t offset = memory.disp.value;
    const auto take = [&](ZydisRegister reg, unsigned scale) -> uint32_t {
      if (reg == ZYDIS_REGISTER_NONE) return 0;
      const Value& value = registers_[general_number(reg)];
      offset += value.offset * static_cast<int64_t>(scale);
      return value.root;
    };
    const auto elsewhere = [](ZydisRegister reg) {
      return reg != ZYDIS_REGISTER_NONE && (kElsewhere >> general_number(reg) & 1) != 0;
    };
    if (elsewhere(memory.base) || elsewhere(memory.index)) return;
    root.base = take(memory.base, 1);
    root.index = take(memory.index, memory.scale);
    root.scale = root.index != 0 ? memory.scale : 0;
    if (root.base == 0 && root.index == 0) return;
    if (memory.disp.value > kFarthest || memory.disp.value < -kFarthest) return;
    note(root, offset, item.memory_size, item.writes_memory, item.window);
  }

  void note(const Root& root, int64_t offset, int64_t size, bool write, WindowUse& use) {
    const auto open = std::ranges::find(open_, root, &Window::root);
    if (open != open_.end()) {
      Window& window = *open;
      const int64_t from = std::min(window.from, offset);
      const int64_t to = std::max(window.to, offset + size);
      // A page must not become dirty for a store that is behind a way out.
      if (to - from <= kMostBytes && (!write || window.write || !window.passed_branch)) {
        window.from = from;
        window.to = to;
        window.write = window.write || write;
        window.last_item = at_;
        window.uses.push_back(&use);
        return;
      }
      close(window);
      open_.erase(open);
    }
    Window window;
    window.root = root;
    window.from = offset;
    window.to = offset + size;
    window.write = write;
    window.first_item = window.last_item = at_;
    window.uses.push_back(&use);
    window.opened_at = offset;
    open_.push_back(std::move(window));
  }

  void close(Window& window) {
    if (window.uses.size() < 2) return;
    const auto number = static_cast<uint8_t>(++made_);
    for (WindowUse* use : window.uses) use->number = number;
    WindowUse& first = *window.uses.front();
    first.opens = true;
    first.write = window.write;
    first.size = static_cast<uint16_t>(window.to - window.from);
    first.first = static_cast<int32_t>(window.from - window.opened_at);
    for (size_t i = window.first_item + 1; i <= window.last_item; ++i)
      items_[i].inside_window = true;
  }
  void close_all() {
    for (Window& window : open_) close(window);
    open_.clear();
  }

  /// What the item does to registers and windows.
  void follow(const Item& item) {
    switch (item.kind) {
      case Kind::kNothing:
      case Kind::kJump:
        return;
      case Kind::kBranch:
        for (Window& window : open_) window.passed_branch = true;
        return;
      case Kind::kPush:
      case Kind::kCall:
      case Kind::kCallAway:
        return add(4, -8);
      case Kind::kPop:
        add(4, 8);
        return forget(general_number(item.instruction.operands[0].reg.value));
      case Kind::kLeave:
        registers_[4] = registers_[5];
        add(4, 8);
        return forget(5);
      case Kind::kPlain:
      case Kind::kAddress:
        return follow_plain(item);
      default:
        close_all();
        forget_all();
    }
  }

  void follow_plain(const Item& item) {
    const auto& instruction = item.instruction;
    const auto& to = instruction.operands[0];
    const auto& from = instruction.operands[1];
    const auto is_wide = [](const ZydisDecodedOperand& operand) {
      return operand.type == ZYDIS_OPERAND_TYPE_REGISTER &&
             ZydisRegisterGetClass(operand.reg.value) == ZYDIS_REGCLASS_GPR64;
    };
    if (is_wide(to)) {
      const unsigned number = general_number(to.reg.value);
      const bool immediate = from.type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
      switch (instruction.mnemonic()) {
        case ZYDIS_MNEMONIC_ADD:
          if (immediate) return add(number, from.imm.value.s);
          break;
        case ZYDIS_MNEMONIC_SUB:
          if (immediate) return add(number, -from.imm.value.s);
          break;
        case ZYDIS_MNEMONIC_INC:
          return add(number, 1);
        case ZYDIS_MNEMONIC_DEC:
          return add(number, -1);
        case ZYDIS_MNEMONIC_MOV:
          if (!is_wide(from)) break;
          registers_[number] = registers_[general_number(from.reg.value)];
          return;
        case ZYDIS_MNEMONIC_LEA: {
          const auto& memory = from.mem;
          if (memory.index != ZYDIS_REGISTER_NONE ||
              ZydisRegisterGetClass(memory.base) != ZYDIS_REGCLASS_GPR64)
            break;
          registers_[number] = registers_[general_number(memory.base)];
          return add(number, memory.disp.value);
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
  size_t at_ = 0;
  std::array<Value, 16> registers_;
  uint32_t last_root_ = 0;
  std::vector<Window> open_;
  unsigned made_ = 0;
};

}  // namespace

void find_windows(std::span<Item> items, size_t poll_at) { Search(items, poll_at).run(); }

}  // namespace limen::soft::translate
