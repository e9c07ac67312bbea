// Guest instructions -> host code of one block.
//
// General registers stand in the host's own, RSP among them, but for R10 and R11: these are the
// translator's, and the guest's are in Cpu::gpr. Arithmetic flags and vector registers stand in the
// host's; every other bit of RFLAGS, segments and so on in the Cpu.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "soft/cpu.h"
#include "soft/translate/assembler.h"
#include "soft/translate/block_store.h"
#include "soft/translate/item.h"
#include "soft/translate/quiet.h"
#include "soft/translate/system_layout.h"
#include "soft/translate/trampolines.h"
#include "soft/translate/windows.h"

namespace limen::soft::translate {

/// Displacements from GS of what generated code uses.
struct CpuLayout {
  explicit CpuLayout(const Cpu& of);
  [[nodiscard]] int32_t gpr(unsigned number) const {
    return gprs + static_cast<int32_t>(8 * number);
  }
  [[nodiscard]] int32_t window(unsigned number) const {
    return windows + static_cast<int32_t>(8 * number);
  }

  int32_t gprs = 0;
  int32_t rip = 0;
  int32_t flags_low = 0;
  int32_t flags_overflow = 0;
  int32_t attention = 0;
  int32_t data_bank = 0;
  int32_t fs_base = 0;
  int32_t stack_page[2];  ///< StackPage; index: CPL is 3.
  int32_t page_mask = 0;  ///< Context::page_mask
  int32_t gs_base = 0;
  int32_t local_epoch = 0;
  int32_t global_epoch = 0;
  int32_t vector = 0;
  int32_t opmask = 0;
  int32_t mxcsr = 0;
  int32_t saved_rax = 0;
  int32_t temporary = 0;
  int32_t scratch[2];
  int32_t code = 0;
  int32_t windows = 0;
  int32_t passes = 0;
  int32_t first_round = 0;
  int32_t host_rsp = 0;
  int32_t scratch_mxcsr = 0;
  int32_t default_mxcsr = 0;
  int32_t cpu = 0;
  int32_t on_miss = 0;
  int32_t on_string = 0;
  int32_t on_revalidate = 0;
  int32_t on_lookup = 0;
  int32_t flags_rest = 0;
  int32_t kernel_gs_base = 0;
  int32_t tsc_offset = 0;
  int32_t tsc_aux = 0;
  struct {
    int32_t chosen_data[2];
    int32_t chosen_view[2];
    int32_t data = 0;
    int32_t view = 0;
    int32_t alignment_check = 0;
  } ac;
  int32_t target = 0;
  int32_t onward = 0;
  int32_t payload = 0;
  int32_t reason = 0;
  int32_t segment_guards[2];  ///< Context::segment_guards
  int32_t jump_table[JumpTables::kTables];
  int32_t other_entries[JumpTables::kTables];
  struct {
    int32_t away = 0;
    int32_t site = 0;
    int32_t data = 0;
    int32_t on_load = 0;
  } x87;
  SystemLayout system;
};

class Emitter {
  /// Code off the main path, written behind it.
  struct Cold {
    enum class What : uint8_t { kSite, kLink, kRevalidate, kMiss, kAtEdge, kStackMiss, kLoadX87 };
    What what = What::kSite;
    bool restore_flags = false;  ///< RAX and flags were put aside.
    CodeOffset place = 0;        ///< The jump that leads here.
    int64_t target = 0;          ///< kLink: from the home's base.
    CodeOffset check = 0;        ///< kLink: where Link::check stands, if it does already.
    CodeOffset dispatch = 0;     ///< kLink: the jump from there to the look into the jump table.
    uint8_t index = 0;           ///< kSite.
    ExitReason reason = ExitReason::kInstruction;
    // kMiss, kAtEdge.
    CodeOffset resume = 0;
    uint16_t size = 0;
    bool write = false;
    bool faults = false;  ///< As in CallSite.
    CallSite::Of of = CallSite::Of::kAddress;
    // kStackMiss: that, and the linear address.
    bool polls = false;
    Reg base = kRsp;
    int32_t displacement = 0;
  };

 public:
  /// Memory that one emitter uses after another.
  class Scratch {
    friend class Emitter;
    std::vector<Cold> cold_;
    std::vector<Link> links_;
    std::vector<CodeOffset> link_names_;
    std::vector<Site> sites_;
    std::vector<CodeOffset> round_jumps_;
  };
  /// Where things are.
  struct Place {
    BlockId id = 0;
    bool fixed = false;  ///< Of the home; so are the others.
    bool global = false;
    uint64_t base = 0;    ///< Where it is mapped now.
    CodeOffset data = 0;  ///< Its HomeData in the code cache.
  };
  /// Code goes to `out`, what it seldom needs to `cold`.
  Emitter(const CpuLayout& layout, const Trampolines& trampolines, Assembler& out, Assembler& cold,
          const Place& place, Block& block, CodeKind kind, Scratch& scratch)
      : layout_(layout),
        trampolines_(trampolines),
        out_(out),
        cold_out_(cold),
        id_(place.id),
        place_(place),
        block_(block),
        kind_(kind),
        cold_(scratch.cold_),
        links_(scratch.links_),
        link_names_(scratch.link_names_),
        sites_(scratch.sites_),
        round_jumps_(scratch.round_jumps_) {
    cold_.clear();
    links_.clear();
    link_names_.clear();
    sites_.clear();
    round_jumps_.clear();
  }

  /// Writes the block: its entries if it is to have them, a poll before item `poll_at`, one piece
  /// of code per item, stubs. Fills in the block's sites and entries.
  void emit(std::span<Item> items, size_t poll_at, const InnerLoop& inner,
            std::span<const Window> windows, bool entries);
  /// Writes the entries of a block that is elsewhere.
  void emit_entries_alone();

 private:
  void emit_entries();
  // In emit_loop.cc.
  void begin_inner(std::span<const Window> windows, unsigned rounds);
  void begin_round();
  void end_inner();
  void hold_inner();
  void window_address(const Window& window);
  void emit_poll(bool flags_live);
  void emit_item(const Item& item, bool last);
  void emit_plain(const Item& item);
  void emit_with_high_byte(const Item& item, const HostOperand& operand);
  void emit_address_of(const Item& item);
  void emit_push(const Item& item);
  void emit_pop(const Item& item);
  void emit_leave(const Item& item);
  void emit_call(const Item& item);
  void emit_away(const Item& item);
  void emit_call_beside_r10(const Item& item);
  void emit_return(const Item& item);
  CodeOffset emit_branch(const Item& item, bool inverted);
  void emit_interpret();
  void emit_bit_test(const Item& item);
  void emit_string(const Item& item);
  void emit_push_flags();
  void emit_read_tsc(const Item& item);
  void emit_set_interrupt(const Item& item, bool last);
  void emit_set_ac(bool set);
  /// `site`: a CallSite or a WindowSite.
  static void emit_call_site(Assembler& out, const auto& site) {
    out.bytes({reinterpret_cast<const uint8_t*>(&site), sizeof site});
  }

  // In emit_system.cc.
  void emit_system(const Item& item);
  void emit_direction(bool down);
  void emit_string_once(const Item& item);
  void emit_pop_flags();
  void emit_read_control(const Item& item);
  void emit_read_selector(const Item& item);
  void emit_read_base(const Item& item);
  void emit_write_base(const Item& item);
  void emit_quiet(CodeOffset trampoline, bool flags_saved);
  void emit_quiet_and_look(const Item& item, CodeOffset trampoline);
  void load_general(Reg to, Reg from);
  void store_general(Reg to, int32_t from);
  void leave_if(Condition condition, bool restore_flags);

  // In emit_cold.cc.
  void emit_cold();
  void emit_tables();
  void emit_link_stub(const Cold& cold);
  CodeOffset emit_link_check(Assembler& out);
  [[nodiscard]] CallSite call_site(const Cold& cold) const;
  [[nodiscard]] CallSite call_site(unsigned item, bool flags_saved) const;
  void emit_revalidation();
  void emit_miss(const Cold& cold);
  void emit_edge(const Cold& cold);
  void emit_stack_miss(const Cold& cold);

  /// Of 64-bit code; otherwise of 32-bit code.
  [[nodiscard]] bool wide() const { return !kind_.code32; }
  [[nodiscard]] int32_t word() const { return kind_.word(); }
  /// Where the epoch stands that the home's key is compared with.
  [[nodiscard]] int32_t epoch() const {
    return place_.global ? layout_.global_epoch : layout_.local_epoch;
  }
  [[nodiscard]] int64_t from_base(uint64_t address) const {
    return static_cast<int64_t>(address - place_.base);
  }
  /// Loads what is the guest address `address` now.
  void load_address(Assembler& out, Reg to, uint64_t address);
  [[nodiscard]] bool is_immediate(uint64_t address) const;

  // In emit_x87.cc.
  static void place_x87_checks(std::span<Item> items, size_t poll_at,
                               std::span<const Window> windows);
  void emit_x87_check(const Item& item);
  void emit_x87_load(const Cold& cold);
  void note_x87(std::span<const Item> items, std::span<const Window> windows);

  // In emit_access.cc.
  /// R10: the linear address of the item's memory operand. May use R11.
  void linear_address(const Item& item);
  /// Its two steps.
  void effective_address(const Item& item);
  void add_segment_base(const Item& item);
  /// R10: linear address in, host address out. Uses R11. Leaves to the interpreter on a miss.
  enum class Flags : uint8_t { kDead, kLive, kSaved };
  void to_host(unsigned size, bool write, Flags flags);
  void to_host(unsigned size, bool write, bool flags_live) {
    to_host(size, write, flags_live ? Flags::kLive : Flags::kDead);
  }
  CodeOffset ask_bank(unsigned size, int32_t tag);
  void ask_whether_edge(int32_t tag);
  enum class Wanted : uint8_t { kAddress, kInTwo, kDifference, kWindow, kVarying };
  void look_up(unsigned size, bool write, Wanted wanted, Flags flags);
  HostOperand reach_base(Reg base, int32_t displacement, unsigned size, bool write,
                         bool flags_live);
  HostOperand reach_r10(unsigned size, bool write, bool flags_live, bool may_hold);
  /// Makes an access possible: where its bytes are in the host. May use R10 and R11.
  /// `may_hold`: whether R11 is free, after this too, until the item's own code is through.
  HostOperand reach_memory(const Item& item, unsigned size, bool write, bool may_hold = false);
  HostOperand reach_stack(const Item& item, Reg base, int32_t displacement, bool write,
                          bool may_hold = false);
  void open_windows(std::span<const Window> windows, bool flags_live);
  void open_window(const Window& window, Flags flags);
  void open_stack(const Window& window, bool flags_live);
  Reg hold_window(unsigned number, bool may_hold);
  void load_window(Reg reg, unsigned number);
  void jump_to_r10() { jump_to_r10(out_); }
  void jump_to_r10(Assembler& out);
  void save_flags() { save_flags(out_); }
  void save_flags(Assembler& out);
  void restore_flags() { restore_flags(out_); }
  void restore_flags(Assembler& out);
  static bool may_leave(const Item& item);
  static bool leaves_stack_pending(const Item& item);
  void add_to_stack_pointer(int32_t by);
  void settle_stack();
  void move_stack(const Item& item, int32_t by);
  void forget_spilled();
  void load_spilled(uint16_t registers);
  void store_spilled(uint16_t registers);
  static constexpr unsigned kNoRegister = 16;
  void rewrite(const Item& item, unsigned in_r11, const HostOperand& operand);
  void add_link(CodeOffset place, uint64_t target) {
    cold_.push_back({.what = Cold::What::kLink, .place = place, .target = from_base(target)});
  }
  void add_last_link(uint64_t target);  // in emit_cold.cc
  [[nodiscard]] static Reg general(const Operand& operand) {
    return static_cast<Reg>(operand.number);
  }

  const CpuLayout& layout_;
  const Trampolines& trampolines_;
  Assembler& out_;
  Assembler& cold_out_;
  BlockId id_;
  const Place place_;
  Block& block_;
  CodeKind kind_;
  std::vector<Cold>& cold_;
  std::vector<Link>& links_;
  std::vector<CodeOffset>& link_names_;  // where in the exits their ids are to stand
  std::vector<Site>& sites_;
  uint8_t index_ = 0;
  // Of the inner loop.
  CodeOffset renewal_ = 0;                // where its windows are opened
  CodeOffset pass_ = 0;                   // where a pass begins
  unsigned round_ = 0;                    // the one that is next
  std::vector<CodeOffset>& round_jumps_;  // from the renewal to rounds but the first
  std::array<unsigned, 2> inner_held_{};  // windows that R10 and R11 hold when a round begins
  /// In place of a window's number: the register holds the guest's of its name.
  static constexpr unsigned kGuests = ~0u;
  unsigned r10_window_ = 0;  // whose difference R10 holds; 0: none
  unsigned r11_window_ = 0;
  // Of windows that are open.
  std::array<bool, Context::kMostWindows> of_stack_;
  std::array<bool, Context::kMostWindows> has_base_;  // Window::has_base
  int32_t pending_rsp_ = 0;                           // what RSP is yet to be moved by
  bool faults_plainly_ = true;                        // the item's
  const Item* x87_data_ = nullptr;                    // whose memory operand is yet to be noted
};

}  // namespace limen::soft::translate
