#include "soft/translate/translator.h"

#include <fmt/format.h>
#include <ucontext.h>

#include <algorithm>
#include <functional>

#include "soft/interpret/block_cache.h"
#include "soft/interpret/native/code_area.h"
#include "soft/interpret/native/fault_signals.h"
#include "soft/translate/host_thread.h"
#include "soft/translate/quiet.h"

namespace limen::soft::translate {
namespace {

constexpr unsigned kMaxFollowed = 2;  // jumps inside a block
/// No block's code is larger: what an item and its stubs may take, and the entries.
constexpr size_t kMaxBlockCode = kMaxItems * 300 + 512;

/// The smallest that a block's code is, about: how much data there may be beside the code.
constexpr size_t kCodePerBlock = 128;

}  // namespace

Translator::Translator(Cpu& cpu, size_t code_size)
    : cpu_(cpu),
      layout_(cpu),
      cache_(code_size, (code_size / kCodePerBlock * sizeof(BlockData) + 4095) & ~size_t{4095}),
      max_blocks_(code_size / kCodePerBlock),
      buckets_(size_t{1} << 16),
      items_(kMaxItems),
      interpreted_by_mnemonic_(ZYDIS_MNEMONIC_MAX_VALUE + 1) {
  static_cast<void>(interpret::native::CodeArea::instance());  // the fault handlers
  Assembler out(cache_.code(), 0);
  trampolines_ = emit_trampolines(out, layout_);
  first_free_ = out.here();
  Context& context = cpu_.generated;
  context.cpu = &cpu_;
  context.on_miss = reinterpret_cast<const void*>(&on_miss);
  context.translator = this;
  context.on_string = reinterpret_cast<const void*>(&on_string);
  context.on_revalidate = reinterpret_cast<const void*>(&on_revalidate);
  context.exit_revalidate = cache_.executable(trampolines_.exit_revalidate);
  context.exit_revalidate_restoring = cache_.executable(trampolines_.exit_revalidate_restoring);
  context.code = cache_.executable(0);
  context.exit_instruction = cache_.executable(trampolines_.exit_instruction);
  context.exit_instruction_restoring = cache_.executable(trampolines_.exit_instruction_restoring);
  drop_all();
}

Translator::~Translator() = default;

CodeKind Translator::code_kind() const {
  const auto& system = cpu_.system;
  CodeKind kind{.user = cpu_.cpl == 3};
  kind.sse = (system.cr0 & (x86::cr0::kEmulation | x86::cr0::kTaskSwitched)) == 0 &&
             (system.cr4 & x86::cr4::kOsfxsr) != 0;
  const bool xsave = kind.sse && (system.cr4 & x86::cr4::kOsxsave) != 0;
  kind.avx = xsave && (system.xcr0 & 6) == 6;
  kind.avx512 = kind.avx && (system.xcr0 & 0xE0) == 0xE0;
  kind.tsc = !kind.user || (system.cr4 & x86::cr4::kTsd) == 0;
  return kind;
}

void Translator::drop_all() {
  blocks_.clear();
  blocks_.emplace_back();  // nobody
  links_.clear();
  std::ranges::fill(buckets_, 0);
  pages_.clear();
  operations_.clear();
  used_ = first_free_;
  resume_ = {};
  const uint8_t* const miss = cache_.executable(trampolines_.exit_lookup);
  for (auto& table : cpu_.generated.jump_tables) table.fill(miss);
}

Translator::Outcome Translator::run() {
  if (cpu_.ram.code_changes() != seen_changes_) drop_changed_code();
  const uint8_t* code = nullptr;
  const bool resumes = resume_.code != nullptr && resume_.rip == cpu_.rip &&
                       resume_.stamp == cpu_.mmu.fetch_stamp() &&
                       resume_.kind == code_kind().bits();
  if (resumes) code = resume_.code;
  resume_.code = nullptr;
  for (;;) {
    if (code == nullptr) code = entry_for_rip();
    if (code == nullptr) return Outcome::kInterpret;
    Context& context = cpu_.generated;
    context.target = code;
    reinterpret_cast<void (*)()>(
        reinterpret_cast<uintptr_t>(cache_.executable(trampolines_.enter)))();
    const uint64_t payload = context.payload;
    switch (static_cast<ExitReason>(context.reason)) {
      case ExitReason::kLookup:
        ++statistics_.lookups;
        cpu_.rip = payload;
        code = nullptr;
        break;
      case ExitReason::kLink:
        ++statistics_.links;
        code = follow_link(static_cast<LinkId>(payload));
        break;
      case ExitReason::kRevalidate:
        ++statistics_.revalidations;
        code = revalidate(static_cast<BlockId>(payload));
        break;
      case ExitReason::kInstruction: {
        ++statistics_.interpreted;
        Outcome outcome = Outcome::kInterpret;
        code = interpret(static_cast<uint32_t>(payload), outcome);
        if (outcome != Outcome::kInterpret) return outcome;
        break;
      }
      case ExitReason::kPoll: {
        ++statistics_.polls;
        const auto site = static_cast<uint32_t>(payload);
        const auto& at = block_of_site(site).sites[site & ((1u << kSiteBits) - 1)];
        cpu_.rip = at.rip;
        resume_ = {at.rip, cache_.executable(at.code), cpu_.mmu.fetch_stamp(), last_kind_};
        return Outcome::kAttention;
      }
    }
    if (cpu_.attention.load(std::memory_order_relaxed)) return Outcome::kAttention;
  }
}

const uint8_t* Translator::entry_for_rip() {
  const BlockId id = find();
  return id == 0 ? nullptr : cache_.executable(blocks_[id].body);
}

const uint8_t* Translator::follow_link(LinkId id) {
  const uint64_t flushes = statistics_.flushes;
  cpu_.rip = links_[id].target;
  const BlockId to = find();
  if (to == 0) return nullptr;
  Block& block = blocks_[to];
  if (statistics_.flushes != flushes) return cache_.executable(block.body);
  Link& link = links_[id];
  const Block& from = blocks_[link.from];
  if (from.valid && link.to == 0) {
    // Code of the same pages is right whenever the code that leads to it is.
    bool same_pages = from.global || !block.global;
    for (unsigned i = 0; i < block.page_count; ++i)
      same_pages = same_pages && from.covers(block.pages[i].linear);
    Assembler(cache_.code(), 0).patch(link.place, same_pages ? block.body : block.checked);
    link.to = to;
    block.incoming.push_back(id);
  }
  return cache_.executable(block.body);
}

const uint8_t* Translator::revalidate(BlockId id) {
  cpu_.rip = blocks_[id].linear;
  if (blocks_[id].valid && blocks_[id].kind == code_kind().bits() && validate(id))
    return cache_.executable(blocks_[id].body);
  return nullptr;
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
  const unsigned index = site & ((1u << kSiteBits) - 1);
  cpu_.rip = block.sites[index].rip;
  const interpret::Operation& operation = operation_at(site);
  ++interpreted_by_mnemonic_[operation.mnemonic];
  const uint64_t next = cpu_.rip + operation.length;
  const uint8_t* resume = index + 1 < block.sites.size() && block.sites[index + 1].rip == next
                              ? cache_.executable(block.sites[index + 1].code)
                              : nullptr;
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
    if (!handles_mode()) outcome = Outcome::kLookAround;
    return nullptr;
  }
  return cpu_.rip == next ? resume : nullptr;
}

BlockId Translator::find() {
  const CodeKind kind = code_kind();
  if (kind.bits() != last_kind_) {
    // Jump tables tell user code from other code, and nothing else.
    if (((kind.bits() ^ last_kind_) & ~1) != 0) {
      const uint8_t* const miss = cache_.executable(trampolines_.exit_lookup);
      for (auto& table : cpu_.generated.jump_tables) table.fill(miss);
    }
    last_kind_ = kind.bits();
  }
  const uint64_t rip = cpu_.rip;
  const FetchResult page = cpu_.mmu.fetch(rip);
  if (page.host_page == nullptr) return 0;
  BlockId id = buckets_[bucket_of(rip, page.ram_page)];
  for (; id != 0; id = blocks_[id].next) {
    const Block& block = blocks_[id];
    if (block.linear == rip && block.kind == kind.bits() && block.valid &&
        block.pages[0].ram_page == page.ram_page && validate(id))
      break;
  }
  if (id == 0) id = translate(page, kind);
  if (id != 0)
    cpu_.generated.jump_tables[kind.user ? 1 : 0][rip & 0xFFFF] =
        cache_.executable(blocks_[id].indirect);
  return id;
}

bool Translator::validate(BlockId id) {
  Block& block = blocks_[id];
  const auto& epochs = cpu_.mmu.code_epochs();
  uint64_t& epoch = data(id).epoch;
  for (unsigned i = 0; i < block.page_count; ++i) {
    const BlockPage& page = block.pages[i];
    FetchResult now;
    try {
      now = cpu_.mmu.fetch(page.linear);
    } catch (const x86::Exception&) {
      return false;  // if it is the first page, whoever asked will fetch from it and see
    }
    if (now.ram_page != page.ram_page || (block.global && !now.global)) return false;
    if (cpu_.code_generation(page.ram_page) != page.generation) {
      invalidate(block);
      return false;
    }
    cpu_.mmu.rely_on_code_page(page.linear, now);
  }
  epoch = block.global ? epochs.global : epochs.local;
  return true;
}

void Translator::invalidate(Block& block) {
  if (!block.valid) return;
  ++statistics_.invalidated;
  block.valid = false;
  data(static_cast<BlockId>(&block - blocks_.data())).epoch = 0;
  Assembler out(cache_.code(), 0);
  for (const LinkId id : block.incoming) {
    Link& link = links_[id];
    out.patch(link.place, link.stub);
    link.to = 0;
  }
  block.incoming.clear();
  resume_.code = nullptr;
}

void Translator::drop_changed_code() {
  seen_changes_ = cpu_.ram.code_changes();
  for (auto& [ram_page, page] : pages_) {
    const uint32_t generation = cpu_.code_generation(ram_page);
    if (generation == page.generation) continue;
    page.generation = generation;
    for (const BlockId id : page.blocks) {
      Block& block = blocks_[id];
      for (unsigned i = 0; i < block.page_count; ++i)
        if (block.pages[i].ram_page == ram_page && block.pages[i].generation != generation) {
          invalidate(block);
          break;
        }
    }
    std::erase_if(page.blocks, [&](BlockId id) { return !blocks_[id].valid; });
  }
}

const FetchResult* Translator::page_for(uint64_t linear, Block& block) {
  for (unsigned i = 0; i < block.page_count; ++i)
    if (block.pages[i].linear == (linear & ~kPageOffset)) return &fetched_[i];
  if (block.page_count == Block::kMaxPages) return nullptr;
  FetchResult& page = fetched_[block.page_count];
  try {
    page = cpu_.mmu.fetch(linear);
  } catch (const x86::Exception&) {
    return nullptr;
  }
  if (page.host_page == nullptr) return nullptr;
  block.pages[block.page_count++] = {linear & ~kPageOffset, page.ram_page,
                                     cpu_.mmu.watch_code(page.ram_page, linear & kPageOffset)};
  block.global = block.global && page.global;
  return &page;
}

bool Translator::form(const FetchResult& first, CodeKind kind, Block& block) {
  uint64_t rip = block.linear;
  block.global = first.global;
  block.page_count = 0;
  item_count_ = 0;
  unsigned followed = 0;
  std::array<uint8_t, 2 * decode::kMaxInstructionLength> copied;
  while (item_count_ < kMaxItems) {
    const FetchResult* page = page_for(rip, block);
    if (page == nullptr) break;
    const uint64_t offset = rip & kPageOffset;
    Item& item = items_[item_count_];
    item.rip = rip;
    const auto rest = std::span(page->host_page + offset, 4096 - offset);
    auto outcome = decode::decode(cpu_.mode, rest, item.instruction);
    if (outcome == decode::Outcome::kNeedMoreBytes) {
      const FetchResult* second = page_for(rip + rest.size(), block);
      if (second == nullptr) break;
      std::copy(rest.begin(), rest.end(), copied.begin());
      std::copy_n(second->host_page, decode::kMaxInstructionLength,
                  copied.begin() + static_cast<ptrdiff_t>(rest.size()));
      outcome = decode::decode(cpu_.mode,
                               std::span(copied).first(rest.size() + decode::kMaxInstructionLength),
                               item.instruction);
      if (outcome == decode::Outcome::kOk)
        cpu_.mmu.mark_code(
            second->ram_page, 0,
            std::span(copied).subspan(rest.size(), item.instruction.length() - rest.size()));
    }
    if (outcome != decode::Outcome::kOk) break;
    cpu_.mmu.mark_code(page->ram_page, static_cast<uint32_t>(offset),
                       std::span(item.instruction.bytes)
                           .first(std::min<size_t>(item.instruction.length(), rest.size())));
    classify(item, kind, cpu_.cpuid);
    if (item.kind == Kind::kInterpret) {
      interpret::Operation operation;
      interpret::make_operation(cpu_, item.instruction, operation);
      item.ends_block = (operation.flags &
                         (interpret::Operation::kEndsBlock | interpret::Operation::kSystem)) != 0;
    }
    ++item_count_;
    if (item.kind == Kind::kReturn || item.kind == Kind::kCallAway ||
        item.kind == Kind::kJumpAway || item.kind == Kind::kCall || item.ends_block)
      break;
    rip = item.next();
    if (item.kind == Kind::kJump) {
      rip = item.target();
      const auto known = [&](const Item& other) { return other.rip == rip; };
      if (++followed > kMaxFollowed ||
          std::any_of(items_.begin(), items_.begin() + item_count_, known))
        break;
    }
    if (rip == block.linear) break;
  }
  return item_count_ > 0;
}

void Translator::find_live_flags() {
  uint8_t live = kAllFlags;
  for (unsigned i = item_count_; i-- > 0;) {
    Item& item = items_[i];
    if (item.kind == Kind::kBranch) live = kAllFlags;
    live = static_cast<uint8_t>((live & ~item.flags_written) | item.flags_read);
    item.flags_live = live != 0;
  }
}

BlockId Translator::translate(const FetchResult& first, CodeKind kind) {
  if (cache_.code().size() - used_ < kMaxBlockCode || blocks_.size() >= max_blocks_ - 1) {
    ++statistics_.flushes;
    drop_all();
  }
  Block block;
  block.linear = cpu_.rip;
  block.kind = kind.bits();
  if (!form(first, kind, block)) return 0;
  find_live_flags();

  const auto id = static_cast<BlockId>(blocks_.size());
  Assembler out(cache_.code(), used_);
  Emitter emitter(layout_, trampolines_, out, id, block, data_offset(id), kind, links_);
  emitter.emit(std::span(items_).first(item_count_));
  ++statistics_.blocks;
  statistics_.instructions += item_count_;
  statistics_.host_bytes += block.end - used_;
  for (unsigned i = 0; i < item_count_; ++i)
    statistics_.guest_bytes += items_[i].instruction.length();
  used_ = block.end;

  const auto& epochs = cpu_.mmu.code_epochs();
  data(id) = {block.linear, block.global ? epochs.global : epochs.local};
  for (unsigned i = 0; i < block.page_count; ++i) {
    cpu_.mmu.rely_on_code_page(block.pages[i].linear, fetched_[i]);
    Page& page = pages_[block.pages[i].ram_page];
    if (page.blocks.empty()) page.generation = block.pages[i].generation;
    page.blocks.push_back(id);
  }
  BlockId& bucket = buckets_[bucket_of(block.linear, block.pages[0].ram_page)];
  block.next = bucket;
  bucket = id;
  blocks_.push_back(std::move(block));
  return id;
}

std::string Translator::report() const {
  const Statistics& s = statistics_;
  std::string text = fmt::format(
      "translator: {} blocks, {} instructions, {} bytes of guest code, {} of host code, {} "
      "flushes\n"
      "exits: {} look-ups, {} links, {} revalidations, {} polls, {} instructions interpreted\n"
      "invalidated blocks: {}\n",
      s.blocks, s.instructions, s.guest_bytes, s.host_bytes, s.flushes, s.lookups, s.links,
      s.revalidations, s.polls, s.interpreted, s.invalidated);
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < interpreted_by_mnemonic_.size(); ++i)
    if (interpreted_by_mnemonic_[i] != 0) order.emplace_back(interpreted_by_mnemonic_[i], i);
  std::ranges::sort(order, std::greater());
  for (size_t i = 0; i < std::min<size_t>(order.size(), 40); ++i)
    text += fmt::format("  {:>12} {}\n", order[i].first,
                        ZydisMnemonicGetString(static_cast<ZydisMnemonic>(order[i].second)));
  return text;
}

bool Translator::recover(void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto address = static_cast<uintptr_t>(registers[REG_RIP]);
  if (!cache_.contains(address)) return false;
  const CodeOffset offset = cache_.offset_of(address);
  // Blocks stand in the order in which they were made.
  auto block = std::upper_bound(blocks_.begin() + 1, blocks_.end(), offset,
                                [](CodeOffset at, const Block& other) { return at < other.body; });
  if (block == blocks_.begin() + 1) return false;
  --block;
  const auto& sites = block->sites;
  auto site =
      std::upper_bound(sites.begin(), sites.end(), offset,
                       [](CodeOffset at, const Block::Site& other) { return at < other.code; });
  if (site == sites.begin() || offset >= block->end) return false;
  const auto index = static_cast<unsigned>(site - sites.begin() - 1);
  registers[REG_R10] = make_site(static_cast<BlockId>(block - blocks_.begin()), index);
  registers[REG_RIP] = static_cast<greg_t>(
      reinterpret_cast<uintptr_t>(cache_.executable(trampolines_.exit_instruction)));
  return true;
}

}  // namespace limen::soft::translate
