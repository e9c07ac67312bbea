#include "soft/translate/translator.h"

#include <fmt/format.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <functional>

#include "base/host_tsc.h"
#include "soft/interpret/block_cache.h"
#include "soft/interpret/native/code_area.h"
#include "soft/interpret/native/fault_signals.h"
#include "soft/translate/host_thread.h"
#include "soft/translate/quiet.h"
#include "soft/translate/trace_block.h"
#include "soft/translate/windows.h"

namespace limen::soft::translate {
namespace {

constexpr unsigned kMaxFollowed = 4;    // jumps inside a block
constexpr unsigned kMaxStraight = 116;  // instructions of a block that is no loop
constexpr unsigned kMaxShort = 9;       // of one that others take in
// Of a loop that has an inner loop: instructions before it and in it, unless they are one round,
// and rounds in it.
constexpr unsigned kMaxOuter = 32, kMaxInner = 64, kMaxRounds = 8;
static_assert(kMaxOuter + kMaxInner <= kMaxItems);
/// No block's code is larger, on either side: what an item and its exits may take, the entries, and
/// what is written beyond the end.
constexpr size_t kMaxBlockCode = kMaxItems * 300 + 512 + Assembler::kMostBeyond;

/// Of 32-bit addresses.
constexpr uint64_t kLastPage = 0xFFFF'F000;

/// No block takes so long: cycles of the TSC, 1 ms at 3 GHz. Another process had the processor.
constexpr uint64_t kInterruptedCycles = 3'000'000;

}  // namespace

Translator::Translator(Cpu& cpu, size_t code_size)
    : cpu_(cpu),
      layout_(cpu),
      cache_(code_size, BlockStore::data_size(code_size), &cpu),
      first_free_(write_trampolines()),
      blocks_(cache_, first_free_, cpu.generated.jump_tables),
      forms_(cpu),
      items_(kMaxItems),
      interpreted_by_mnemonic_(ZYDIS_MNEMONIC_MAX_VALUE + 1) {
  static_cast<void>(interpret::native::CodeArea::instance());  // the fault handlers
  Context& context = cpu_.generated;
  context.jump_tables.clear(cache_.executable(0), trampolines_.lookup);
  context.cpu = &cpu_;
  context.on_miss = reinterpret_cast<const void*>(&on_miss);
  context.translator = this;
  context.on_string = reinterpret_cast<const void*>(&on_string);
  context.on_lookup = reinterpret_cast<const void*>(&on_lookup);
  context.on_revalidate = reinterpret_cast<const void*>(&on_revalidate);
  context.exit_poll = cache_.executable(trampolines_.exit_poll);
  context.exit_poll_restoring = cache_.executable(trampolines_.exit_poll_restoring);
  context.exit_split = cache_.executable(trampolines_.exit_split);
  context.exit_split_restoring = cache_.executable(trampolines_.exit_split_restoring);
  context.go_on_onward_restoring = cache_.executable(trampolines_.go_on_onward_restoring);
  context.go_on_restoring = cache_.executable(trampolines_.go_on_restoring);
  context.exit_lookup = cache_.executable(trampolines_.exit_lookup);
  context.exit_lookup_restoring = cache_.executable(trampolines_.exit_lookup_restoring);
  context.on_interrupt_return = reinterpret_cast<const void*>(&on_interrupt_return);
  context.on_load_cr3 = reinterpret_cast<const void*>(&on_load_cr3);
  context.on_invalidate_page = reinterpret_cast<const void*>(&on_invalidate_page);
  context.on_load_x87 = reinterpret_cast<const void*>(&on_load_x87);
  context.on_pause = reinterpret_cast<const void*>(&on_pause);
  context.go_on_inside = cache_.executable(trampolines_.go_on_inside);
  context.go_on_inside_restoring = cache_.executable(trampolines_.go_on_inside_restoring);
  context.go_on_outside_restoring = cache_.executable(trampolines_.go_on_outside_restoring);
  context.code = cache_.executable(0);
  context.exit_instruction = cache_.executable(trampolines_.exit_instruction);
  context.exit_instruction_restoring = cache_.executable(trampolines_.exit_instruction_restoring);
  cpu_.mmu.set_epoch_listener(
      {this, [](void* self) noexcept { static_cast<Translator*>(self)->forget_epochs(); }});
}

Assembler Translator::assembler(CodeOffset offset) const {
  constexpr int64_t kReach = int64_t{1} << 31;
  const auto distance = static_cast<int64_t>(reinterpret_cast<uintptr_t>(&cpu_) -
                                             reinterpret_cast<uintptr_t>(cache_.executable(0)));
  const auto code_size = static_cast<int64_t>(cache_.code().size());
  const bool near =
      distance - code_size > -kReach && distance + static_cast<int64_t>(sizeof cpu_) < kReach;
  return {cache_.code(), offset, {.near = near, .distance = distance}};
}

CodeOffset Translator::write_trampolines() {
  const CodeCache::Edit edit(cache_);
  Assembler out = assembler(0);
  trampolines_ = emit_trampolines(out, layout_);
  return out.here();
}

Translator::~Translator() = default;

Translator::Outcome Translator::run() {
  if (cpu_.ram.code_changes() != seen_changes_) drop_changed_code();
  if (cpu_.debugger.additions() != seen_breakpoints_) [[unlikely]]
    drop_code_at_breakpoints();
  cpu_.generated.calls.update(cpu_.system);
  const bool code32 = cpu_.mode == decode::CodeMode::k32;
  if (code32) prepare_32_bit_code();
  const uint8_t* code = nullptr;
  const bool resumes = resume_.code != nullptr && resume_.rip == cpu_.rip &&
                       resume_.stamp == cpu_.mmu.fetch_stamp() &&
                       resume_.kind == code_kind().bits();
  if (resumes) code = resume_.code;
  resume_.code = nullptr;
  Seeker seeker = Seeker::kBody;
  for (;;) {
    if (code == nullptr) code = code_for_rip(std::exchange(seeker, Seeker::kBody));
    if (code == nullptr) return Outcome::kInterpret;
    if (code32) forget_upper_halves();
    Context& context = cpu_.generated;
    context.target = code;
    reinterpret_cast<void (*)()>(
        reinterpret_cast<uintptr_t>(cache_.executable(trampolines_.enter)))();
    if (context.x87.away == 0) store_x87();
    const uint64_t payload = context.payload;
    switch (static_cast<ExitReason>(context.reason)) {
      case ExitReason::kLookup:
        ++statistics_.lookups;
        cpu_.rip = payload;
        code = nullptr;
        seeker = Seeker::kEntry;
        break;
      case ExitReason::kLink:
        ++statistics_.links;
        code = follow_link(static_cast<LinkId>(payload));
        break;
      case ExitReason::kInstruction: {
        ++statistics_.interpreted;
        Outcome outcome = Outcome::kInterpret;
        code = interpret(static_cast<uint32_t>(payload), outcome);
        if (outcome != Outcome::kInterpret) return outcome;
        break;
      }
      case ExitReason::kSplit:
        ++statistics_.splits;
        code = split(static_cast<CodeOffset>(payload));
        break;
      case ExitReason::kPoll: {
        ++statistics_.polls;
        const auto site = static_cast<uint32_t>(payload);
        const Block& block = block_of_site(site);
        const Site& at = site_at(block, site_index(site));
        cpu_.rip = blocks_.data(block.home).base + at.offset;
        // Code may have gone from one privilege level to another since the last look-up.
        resume_ = {cpu_.rip, cache_.executable(block.body + at.code), cpu_.mmu.fetch_stamp(),
                   blocks_.home(block.home).kind};
        return Outcome::kAttention;
      }
    }
    if (cpu_.attention.is_called()) return Outcome::kAttention;
  }
}

const uint8_t* Translator::code_for_rip(Seeker seeker) {
  const BlockId id = find(seeker);
  if (id == 0) return nullptr;
  const Block& block = blocks_[id];
  if (seeker == Seeker::kEntry)

    cpu_.generated.jump_tables.enter(CodeKind::table_of(blocks_.home(block.home).kind), cpu_.rip,
                                     block.indirect, block.body);
  return cache_.executable(block.body);
}

const uint8_t* Translator::follow_link(LinkId id) {
  const uint64_t evictions = blocks_.evictions();
  const Link link = blocks_.link(id);
  cpu_.rip = (blocks_.data(blocks_[link.from].home).base + static_cast<uint64_t>(link.target)) &
             cpu_.rip_mask;
  const BlockId to = find(Seeker::kBody);
  if (to == 0) return nullptr;
  if (blocks_.evictions() == evictions) blocks_.connect(id, to);
  return cache_.executable(blocks_[to].body);
}

interpret::Operation& Translator::operation_at(uint32_t site) {
  if (const auto found = operations_.find(site); found != operations_.end()) return found->second;
  // The bytes are those that were translated, or the block would not run.
  const uint64_t rip = cpu_.rip;
  std::array<uint8_t, decode::kMaxInstructionLength> bytes{};
  const uint64_t in_page = std::min<uint64_t>(bytes.size(), 4096 - (rip & 4095));
  const FetchResult page = cpu_.mmu.fetch(rip);
  std::copy_n(page.host_page + (rip & 4095), in_page, bytes.begin());
  decode::Instruction instruction;
  if (decode::decode(cpu_.mode, std::span(bytes).first(in_page), instruction) !=
      decode::Outcome::kOk) {
    const FetchResult second = cpu_.mmu.fetch(rip + in_page);
    std::copy_n(second.host_page, bytes.size() - in_page,
                bytes.begin() + static_cast<ptrdiff_t>(in_page));
    static_cast<void>(decode::decode(cpu_.mode, bytes, instruction));
  }
  interpret::Operation operation;
  interpret::make_operation(cpu_, instruction, operation);
  return operations_.emplace(site, operation).first->second;
}

const uint8_t* Translator::interpret(uint32_t site, Outcome& outcome) {
  const Block& block = block_of_site(site);
  const unsigned index = site_index(site);
  const uint64_t base = blocks_.data(block.home).base;
  cpu_.rip = base + site_at(block, index).offset;
  const interpret::Operation& operation = operation_at(site);
  ++interpreted_by_mnemonic_[operation.mnemonic];
  const uint64_t next = cpu_.rip + operation.length;
  const uint8_t* resume = nullptr;
  if (index + 1 < block.site_count)
    if (const Site& behind = site_at(block, index + 1);
        base + behind.offset == next && behind.enterable)
      resume = cache_.executable(block.body + behind.code);
  cpu_.leave_block = false;
  cpu_.gpr[interpret::kNextRip] = next;
  operation.handler(cpu_, operation);
  cpu_.rip = cpu_.gpr[interpret::kNextRip];
  if (operation.flags & interpret::Operation::kSystem) {
    outcome = Outcome::kLookAround;
    return nullptr;
  }
  if (cpu_.leave_block) {
    drop_changed_code();
    if (!handles_mode() || cpu_.mmu.has_debugger_hits()) outcome = Outcome::kLookAround;
    return nullptr;
  }
  return cpu_.rip == next ? resume : nullptr;
}

const uint8_t* Translator::split(CodeOffset call_site) {
  WindowSite at{};
  uint8_t* const place = &cache_.code()[call_site];
  std::memcpy(&at, place, sizeof at);
  const HomeId home = block_of_site(at.site).home;
  cpu_.rip = blocks_.data(home).base + site_at(block_of_site(at.site), site_index(at.site)).offset;
  const uint64_t evictions = blocks_.evictions();
  const BlockId id = find(Seeker::kSplitOff);
  if (id == 0) return nullptr;
  if (blocks_.evictions() == evictions && blocks_[id].home == home) {
    at.split = blocks_[id].body;
    const CodeCache::Edit edit(cache_);
    std::memcpy(place, &at, sizeof at);
  }
  return cache_.executable(blocks_[id].body);
}

BlockId Translator::find(Seeker seeker) {
  const CodeKind kind = code_kind();
  if (kind.bits() != last_kind_) {
    if (CodeKind::common(kind.bits() ^ last_kind_) != 0)
      cpu_.generated.jump_tables.clear(cache_.executable(0), trampolines_.lookup);
    last_kind_ = kind.bits();
  }
  const uint64_t rip = cpu_.rip;
  // Before the fetch, which may fault.
  if (cpu_.debugger.has_breakpoints() && cpu_.debugger.stops_at(rip)) [[unlikely]]
    return 0;
  if (kind.code32 && rip >= kLastPage) return 0;  // where EIP may wrap around
  const FetchResult page = cpu_.mmu.fetch(rip);
  if (page.host_page == nullptr) return 0;
  const uint64_t offset = rip & kPageOffset;
  BlockId id = blocks_.first_at(page.ram_page, offset);
  for (; id != 0; id = blocks_[id].next) {
    const Block& block = blocks_[id];
    if (block.offset != offset || block.split != (seeker == Seeker::kSplitOff)) continue;
    const Home& home = blocks_.home(block.home);
    if (home.kind == kind.bits() && home.ram_pages[0] == page.ram_page &&
        bind(block.home, rip - offset))
      break;
  }
  if (id != 0 && seeker == Seeker::kEntry && blocks_[id].indirect == 0 && !make_entries(id, kind))
    id = 0;
  return id != 0 ? id : translate(page, kind, seeker);
}

/// False where there was no room for them but that of other blocks, this one perhaps among them.
bool Translator::make_entries(BlockId id, CodeKind kind) {
  const uint64_t evictions = blocks_.evictions();
  const BlockStore::Room room = make_room();
  if (blocks_.evictions() != evictions) return false;
  Block& block = blocks_[id];
  const CodeCache::Edit edit(cache_);
  Assembler out = assembler(room.often);
  Assembler cold = assembler(room.seldom);
  Emitter emitter(layout_, trampolines_, out, cold, place_of(id, block.home), block, kind,
                  scratch_);
  emitter.emit_entries_alone();
  statistics_.host_bytes += out.here() - room.often;
  statistics_.cold_bytes += cold.here() - room.seldom;
  blocks_.add_entries(id, {.often = out.here(), .seldom = cold.here()});
  return true;
}

/// Whether the home, unchanged, is what is mapped at `base`; notes that it is there.
bool Translator::bind(HomeId id, uint64_t base) {
  Home& home = blocks_.home(id);
  HomeData& place = blocks_.data(id);
  if (home.fixed && place.base != base) return false;
  for (unsigned i = 0; i < home.page_count; ++i) {
    const uint64_t linear = base + 4096 * i;
    FetchResult now;
    try {
      now = cpu_.mmu.fetch(linear);
    } catch (const x86::Exception&) {
      return false;  // if it is the first page, whoever asked will fetch from it and see
    }
    if (now.ram_page != home.ram_pages[i] || (home.global && !now.global)) return false;
    if (cpu_.code_generation(now.ram_page) != home.generations[i]) {
      blocks_.invalidate_blocks(home);
      return false;
    }
    cpu_.mmu.rely_on_code_page(linear, now);
  }
  const auto& epochs = cpu_.mmu.code_epochs();
  place = HomeData::at(base, home.global ? epochs.global : epochs.local);
  return true;
}

void Translator::drop_changed_code() {
  seen_changes_ = cpu_.ram.code_changes();
  resume_.code = nullptr;
  blocks_.invalidate_changed([this](uint64_t ram_page) { return cpu_.code_generation(ram_page); });
}

/// Blocks that hold an instruction at which a debugger stops, and what shares their page.
void Translator::drop_code_at_breakpoints() {
  seen_breakpoints_ = cpu_.debugger.additions();
  resume_.code = nullptr;
  for (HomeId id = 0; id < blocks_.home_count(); ++id) {
    Home& home = blocks_.home(id);
    const uint64_t base = blocks_.data(id).base;
    const auto holds_breakpoint = [&](BlockId block) {
      for (unsigned i = 0; i < blocks_[block].site_count; ++i)
        if (cpu_.debugger.may_stop_at(base + site_at(blocks_[block], i).offset, !home.fixed))
          return true;
      return false;
    };
    if (std::ranges::any_of(home.blocks, holds_breakpoint)) blocks_.invalidate_blocks(home);
  }
}

/// Only the block's first instruction may reach into a second page.
bool Translator::decode_next(Source& source, CodeKind kind, Item& item) {
  const FetchResult& page = source.pages[0];
  const uint64_t offset = item.rip - source.base;
  const auto rest = std::span(page.host_page + offset, 4096 - offset);
  // A copy, so that what is decoded is what mark_code() is told of.
  const size_t here = std::min<size_t>(rest.size(), item.bytes.size());
  if (here == item.bytes.size())
    std::copy_n(rest.begin(), item.bytes.size(), item.bytes.begin());  // at once
  else
    std::copy_n(rest.begin(), here, item.bytes.begin());
  size_t given = std::min<size_t>(here, decode::kMaxInstructionLength);
  auto outcome = forms_.find(kind, static_cast<unsigned>(given), item);
  if (outcome == decode::Outcome::kNeedMoreBytes && item_count_ == 0) {
    FetchResult& second = source.pages[1];
    try {
      second = cpu_.mmu.fetch(source.base + 4096);
    } catch (const x86::Exception&) {
      return false;
    }
    if (second.host_page == nullptr) return false;
    source.page_count = 2;
    source.generations[1] = cpu_.mmu.watch_code(second.ram_page, 0);
    std::copy_n(second.host_page, decode::kMaxInstructionLength - here,
                item.bytes.begin() + static_cast<ptrdiff_t>(here));
    outcome = forms_.find(kind, decode::kMaxInstructionLength, item);
    if (outcome == decode::Outcome::kOk)
      cpu_.mmu.mark_code(second.ram_page, 0, item.code().subspan(here));
  }
  if (outcome != decode::Outcome::kOk) return false;
  cpu_.mmu.mark_code(page.ram_page, static_cast<uint32_t>(offset),
                     item.code().first(std::min<size_t>(item.length, here)));
  return true;
}

/// Another block begins there, and is worth a jump. A short one, as the end of a function, is not:
/// behind other items its flags are dead and its windows open.
bool Translator::must_end_at(HomeId home, uint64_t offset) const {
  const BlockId id = blocks_.at(home, offset);
  return id != 0 && !blocks_[id].is_short;
}

/// Up to an instruction that a block of the home begins with.
bool Translator::form(Source& source, CodeKind kind, HomeId home, bool split) {
  const uint64_t start = cpu_.rip;
  uint64_t rip = start;
  item_count_ = 0;
  unsigned followed = 0;
  unsigned round = 0;          // items of the loop that the block is
  bool shares_checks = false;  // has accesses that the next round makes beside them
  inner_ = {};
  while (item_count_ < (round == 0 ? kMaxStraight : kMaxItems) && rip - source.base < 4096 &&
         source.page_count == 1) {
    if (item_count_ != 0 && round == 0 && must_end_at(home, rip - source.base)) break;
    if (cpu_.debugger.may_stop_at(rip, kind.user)) break;
    Item& item = items_[item_count_];
    item.rip = rip;
    if (!decode_next(source, kind, item)) break;
    ++item_count_;
    shares_checks = shares_checks || (item.has_memory && item.kind == Kind::kPlain);
    if (item.kind == Kind::kReturn || item.kind == Kind::kCallAway ||
        item.kind == Kind::kJumpAway || item.kind == Kind::kCall || item.ends_block)
      break;
    rip = item.next();
    item.loops = false;
    if (item.kind == Kind::kBranch && item.target() == start && round == 0) {
      round = item_count_;
      if (shares_checks && 2 * round <= kMaxItems) repeat_round(split);
      if (inner_.at != SIZE_MAX) break;
    }
    if (item.kind == Kind::kJump) {
      rip = item.target();
      const auto known = [&](const Item& other) { return other.rip == rip; };
      if (++followed > kMaxFollowed ||
          std::any_of(items_.begin(), items_.begin() + item_count_, known))
        break;
    }
    if (rip == start) break;
  }
  // STI wants the instruction behind it in its own block, where no interrupt can come between.
  if (item_count_ == kMaxStraight && items_[kMaxStraight - 1].kind == Kind::kSetInterrupt)
    --item_count_;
  return item_count_ > 0;
}

/// Whether the items, a round of a loop, would be faster in an inner loop: if they walk through
/// memory, and no more of their accesses than not have to ask anyway.
bool Translator::suits_inner_loop() {
  const auto round = std::span(items_).first(item_count_);
  if (round[0].flags_live) return false;
  window_search_.run(round, 0, {.at = 0, .round = round.size()}, windows_);
  std::erase_if(windows_, [](const Window& window) { return !window.inner; });
  const auto in_windows = std::ranges::count_if(round, [&](const Item& item) {
    return std::ranges::find(windows_, item.window, &Window::number) != windows_.end();
  });
  const auto accesses =
      std::ranges::count_if(round, [](const Item& item) { return item.has_memory; });
  return 2 * in_windows >= accesses &&
         std::ranges::any_of(windows_, [](const Window& window) { return window.step != 0; });
}

/// The items are a round of a loop: adds more of them, which share checks with each other, and, if
/// it is worth it, an inner loop of them. Where a window reaches over its page's end, one round
/// without windows is what is wanted.
void Translator::repeat_round(bool split) {
  const unsigned round = item_count_;
  unsigned rounds = kMaxItems / round;
  find_live_flags();
  const bool has_inner = suits_inner_loop();
  if (has_inner && split) return;
  if (has_inner) {
    rounds = std::bit_floor(std::max(kMaxOuter / round, 1u));
    inner_ = {.at = rounds * round, .round = round};
    rounds += std::bit_floor(std::clamp(kMaxInner / round, 1u, kMaxRounds));
  }
  const unsigned count = rounds * round;
  for (; item_count_ < count; ++item_count_) items_[item_count_] = items_[item_count_ - round];
  for (unsigned last = round; last <= count; last += round)
    items_[last - 1].loops = last < count || has_inner;
}

void Translator::find_live_flags() {
  uint8_t live = kAllFlags;
  for (unsigned i = item_count_; i-- > 0;) {
    Item& item = items_[i];
    if (item.kind == Kind::kBranch) live = kAllFlags;
    live = static_cast<uint8_t>((live & ~item.flags_written) | item.flags_read);
    item.flags_live = live != 0 || keeps_dead_flags_;
  }
}

HomeId Translator::home_for(const Source& source, CodeKind kind) {
  Home wanted{.page_count = static_cast<uint8_t>(source.page_count),
              .kind = kind.bits(),
              .global = source.pages[0].global,
              .fixed = !kind.user,
              .blocks = {}};
  for (unsigned i = 0; i < source.page_count; ++i) {
    wanted.ram_pages[i] = source.pages[i].ram_page;
    wanted.generations[i] = source.generations[i];
    wanted.global = wanted.global && source.pages[i].global;
  }
  return blocks_.home_for(wanted, source.base);
}

BlockStore::Room Translator::make_room() {
  const uint64_t evictions = blocks_.evictions();
  const BlockStore::Room room = blocks_.make_room(kMaxBlockCode);
  if (blocks_.evictions() != evictions) operations_.clear();
  return room;
}

Emitter::Place Translator::place_of(BlockId id, HomeId home_id) const {
  const Home& home = blocks_.home(home_id);
  return {.id = id,
          .fixed = home.fixed,
          .global = home.global,
          .base = blocks_.data(home_id).base,
          .data = blocks_.data_offset(home_id)};
}

/// Whether the block has a way out that a cycle needs: back, or to an address that memory or a
/// register holds. It is enough if one block of each cycle polls.
bool Translator::may_be_in_cycle() const {
  return std::any_of(items_.begin(), items_.begin() + item_count_, [](const Item& item) {
    switch (item.kind) {
      case Kind::kJump:
      case Kind::kBranch:
      case Kind::kCall:
        return item.target() <= item.rip;
      case Kind::kReturn:
      case Kind::kCallAway:
      case Kind::kJumpAway:
      case Kind::kSystemCall:
      case Kind::kSystemReturn:
      case Kind::kInterruptReturn:
        return true;
      default:
        return false;
    }
  });
}

/// Whether a window of the stack that is opened before the first way out polls for the block: where
/// the code may be entered again, and not in the shadow of STI.
bool Translator::poll_with_stack() {
  const auto is_way_out = [](const Item& item) { return item.kind == Kind::kBranch; };
  for (Window& window : windows_) {
    const auto before = std::span(items_).first(window.item);
    if (std::ranges::any_of(before, is_way_out)) return false;
    window.polls = window.stack && !items_[window.item].inside_window &&
                   (before.empty() || before.back().kind != Kind::kSetInterrupt);
    if (window.polls) return true;
  }
  return false;
}

/// Where the poll costs no flags, if there is such a place before the first way out.
size_t Translator::place_for_poll() const {
  size_t at = 0;
  while (at < item_count_ && items_[at].flags_live && items_[at].kind != Kind::kBranch) ++at;
  if (at == item_count_ || items_[at].flags_live ||
      (at > 0 && items_[at - 1].kind == Kind::kSetInterrupt))  // its shadow
    return 0;
  return at;
}

/// Returns the item before which the block polls; behind all of them if none must.
size_t Translator::place_windows(std::span<Item> items, bool split) {
  const bool polls = may_be_in_cycle();
  windows_.clear();
  if (split) {
    for (Item& item : items) item.window = item.stack_window = 0, item.inside_window = false;
    return polls ? place_for_poll() : items.size();
  }
  window_search_.run(items, items.size(), inner_, windows_);
  if (!polls || poll_with_stack()) return items.size();
  const size_t poll_at = place_for_poll();
  window_search_.run(items, poll_at, inner_, windows_);
  return poll_at;
}

BlockId Translator::translate(const FetchResult& first, CodeKind kind, Seeker seeker) {
  const uint64_t started = __builtin_ia32_rdtsc();
  const bool split = seeker == Seeker::kSplitOff;
  const BlockStore::Room room = make_room();
  Source source;
  source.base = cpu_.rip & ~kPageOffset;
  source.pages[0] = first;
  source.generations[0] =
      cpu_.mmu.watch_code(first.ram_page, static_cast<uint32_t>(cpu_.rip & kPageOffset));
  HomeId home_id = home_for(source, kind);
  if (!form(source, kind, home_id, split)) return 0;
  if (source.page_count == 2) home_id = home_for(source, kind);
  find_live_flags();
  const auto items = std::span(items_).first(item_count_);
  const size_t poll_at = place_windows(items, split);

  const Home& home = blocks_.home(home_id);
  const auto& epochs = cpu_.mmu.code_epochs();
  blocks_.data(home_id) = HomeData::at(source.base, home.global ? epochs.global : epochs.local);
  for (unsigned i = 0; i < source.page_count; ++i)
    cpu_.mmu.rely_on_code_page(source.base + 4096 * i, source.pages[i]);

  const BlockId id = blocks_.next_id();
  Block block;
  block.home = home_id;
  block.split = split;
  block.is_short = item_count_ <= kMaxShort;
  block.offset = static_cast<uint16_t>(cpu_.rip - source.base);
  const CodeCache::Edit edit(cache_);
  Assembler out = assembler(room.often);
  Assembler cold = assembler(room.seldom);
  Emitter emitter(layout_, trampolines_, out, cold, place_of(id, home_id), block, kind, scratch_);
  emitter.emit(items, poll_at, inner_, windows_, seeker == Seeker::kEntry);
  ++statistics_.blocks;
  statistics_.instructions += item_count_;
  statistics_.host_bytes += out.here() - room.often;
  statistics_.cold_bytes += cold.here() - room.seldom;
  uint64_t guest_bytes = 0;
  for (const Item& item : items) guest_bytes += item.length;
  statistics_.guest_bytes += guest_bytes;
  blocks_.add(block, {.often = out.here(), .seldom = cold.here()});
  if (const uint64_t cycles = __builtin_ia32_rdtsc() - started; cycles < kInterruptedCycles) {
    statistics_.cycles += cycles;
    statistics_.timed_bytes += guest_bytes;
  }
  if (cpu_.trace != nullptr) [[unlikely]]
    trace(kind, block, room);
  return id;
}

void Translator::trace(CodeKind kind, const Block& block, BlockStore::Room start) const {
  const auto between = [&](CodeOffset from, CodeOffset to) {
    return std::span(cache_.executable(from), to - from);
  };
  trace_block(*cpu_.trace, kind, std::span(items_).first(item_count_),
              {.often = between(start.often, block.end),
               .seldom = between(start.seldom, link_id(block, 0))});
}

std::string Translator::report() const {
  const Statistics& s = statistics_;
  std::string text = fmt::format(
      "translator: {} blocks, {} instructions, {} bytes of guest code, {} of host code and {} "
      "seldom run, {} evictions\n"
      "found without an exit: {}; exits: {} look-ups, {} links, {} splits, {} polls, {} "
      "instructions interpreted, {} faults of the host ({} of them page faults)\n"
      "invalidated blocks: {}\n",
      s.blocks, s.instructions, s.guest_bytes, s.host_bytes, s.cold_bytes, blocks_.evictions(),
      s.quick_lookups, s.lookups, s.links, s.splits, s.polls, s.interpreted, s.faults, s.strays,
      blocks_.invalidated());
  const double seconds = static_cast<double>(s.cycles) / static_cast<double>(host_tsc_hz());
  text += fmt::format(
      "translation: {:.3f} s, {:.1f} MB of guest code a second, {} instructions decoded\n", seconds,
      seconds > 0 ? static_cast<double>(s.timed_bytes) / seconds / 1e6 : 0.0,
      forms_.statistics().decoded);
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < interpreted_by_mnemonic_.size(); ++i)
    if (interpreted_by_mnemonic_[i] != 0) order.emplace_back(interpreted_by_mnemonic_[i], i);
  std::ranges::sort(order, std::greater());
  for (size_t i = 0; i < std::min<size_t>(order.size(), 40); ++i)
    text += fmt::format("  {:>12} {}\n", order[i].first,
                        ZydisMnemonicGetString(static_cast<ZydisMnemonic>(order[i].second)));
  return text;
}

uint32_t Translator::site_of(CodeOffset offset) const {
  const BlockId id = blocks_.containing(offset);
  if (id == 0) return 0;
  const Block& block = blocks_[id];
  unsigned index = 0;
  while (index + 1 < block.site_count && block.body + site_at(block, index + 1).code <= offset)
    ++index;
  return make_site(id, index);
}

bool Translator::recover(void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto address = static_cast<uintptr_t>(registers[REG_RIP]);
  if (!cache_.contains(address)) return false;
  cache_.prepare_thread();  // a signal handler begins without access, too
  const uint32_t site = site_of(cache_.offset_of(address));
  if (site == 0) return false;
  ++statistics_.faults;
  // What the guest may access is there.
  constexpr greg_t kPageFault = 14;
  if (registers[REG_TRAPNO] == kPageFault) ++statistics_.strays;
  registers[REG_R10] = site;
  registers[REG_RIP] = static_cast<greg_t>(
      reinterpret_cast<uintptr_t>(cache_.executable(trampolines_.exit_instruction)));
  return true;
}

}  // namespace limen::soft::translate
