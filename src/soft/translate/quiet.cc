#include "soft/translate/quiet.h"

#include "soft/cpu.h"
#include "soft/translate/translator.h"

namespace limen::soft::translate {

Continuation leave_to_interpreter(const Cpu& cpu, const CallSite& site) noexcept {
  return {site.site, site.flags_saved != 0 ? cpu.generated.exit_instruction_restoring
                                           : cpu.generated.exit_instruction};
}

namespace {

using QuickAccess = Mmu::QuickAccess;

/// A read of two pages that are not side by side in the host: what they hold, one behind the other.
QuickAccess gather(Cpu& cpu, uint64_t linear, unsigned size) {
  auto& bounce = cpu.generated.bounce;
  const uint64_t first = 4096 - (linear & kPageOffset);
  if (size <= first || size > kLargestAccess) return {};
  // At the same place in a line of 64 bytes, so that alignment faults stay what they are.
  std::byte* const start = bounce.data() + (linear & 63);
  std::byte* to = start;
  const auto copy = [&](uint64_t from, uint64_t bytes) {
    const QuickAccess part =
        cpu.mmu.quick_access(from, static_cast<unsigned>(bytes), Access::kRead);
    if (part.host == nullptr) return false;
    const std::byte* source = part.host;
    asm volatile("rep movsb" : "+D"(to), "+S"(source), "+c"(bytes) : : "memory");
    return true;
  };
  if (!copy(linear, first) || !copy(linear + first, size - first)) return {};
  return {.host = start};
}

}  // namespace

namespace {

/// Whether 32-bit code asks for what is not all of 32-bit addresses: its segments end there.
bool is_beyond(const Cpu& cpu, uint64_t linear, unsigned size) {
  return cpu.mode == decode::CodeMode::k32 && linear + size > uint64_t{1} << 32;
}

/// A window, from `linear` on, which may be before what the first access reaches. Where it cannot
/// be opened, as it reaches over its page's end or for any other reason, code without windows goes
/// on.
Continuation find_window(Cpu& cpu, uint64_t linear, const WindowSite& site) noexcept {
  const Access access = site.write != 0 ? Access::kWrite : Access::kRead;
  Context& context = cpu.generated;
  const bool saved = site.flags_saved != 0;
  QuickAccess found;
  if ((linear & kPageOffset) + site.size <= 4096 &&
      (cpu.mode != decode::CodeMode::k32 || !is_edge(linear)))
    found = site.of == CallSite::Of::kStack
                ? cpu.mmu.quick_stack(linear, site.size, access)
                : cpu.mmu.quick_access(linear, site.size, access, Mmu::Dirty::kAsItIs);
  if (found.host == nullptr) {
    if (site.split != 0) {
      const uint8_t* code = context.code + site.split;
      return {reinterpret_cast<uint64_t>(code), saved ? context.go_on_restoring : code};
    }
    return {static_cast<uint64_t>(reinterpret_cast<const uint8_t*>(&site) - context.code),
            saved ? context.exit_split_restoring : context.exit_split};
  }
  if (site.of == CallSite::Of::kStack && cpu.attention.is_called()) {
    cpu.attention.call();  // takes the page away again
    if (site.polls != 0)
      return {site.site, saved ? context.exit_poll_restoring : context.exit_poll};
  }
  const uint64_t difference = reinterpret_cast<uint64_t>(found.host) - linear;
  const uint8_t* code = context.code + site.resume;
  if (!saved || site.of != CallSite::Of::kStack) return {difference, code};
  context.onward = code;  // which counts on flags that are as they were
  return {difference, context.go_on_onward_restoring};
}

}  // namespace

Continuation on_miss(Cpu* cpu, uint64_t linear, const CallSite* site) noexcept {
  if (site->of == CallSite::Of::kWindow || site->of == CallSite::Of::kStack)
    return find_window(*cpu, linear, static_cast<const WindowSite&>(*site));
  const Access access = site->write != 0 ? Access::kWrite : Access::kRead;
  if (is_beyond(*cpu, linear, site->size)) return leave_to_interpreter(*cpu, *site);
  // What may raise another exception must not have made the page dirty.
  QuickAccess found = cpu->mmu.quick_access(
      linear, site->size, access, site->faults != 0 ? Mmu::Dirty::kSet : Mmu::Dirty::kAsItIs);
  if (found.host == nullptr) {
    if (found.faults && site->faults != 0) return deliver_page_fault(*cpu, found, *site);
    if (access == Access::kRead && !found.faults) found = gather(*cpu, linear, site->size);
    if (found.host == nullptr) return leave_to_interpreter(*cpu, *site);
  }
  const uint64_t from = site->of == CallSite::Of::kDifference ? linear : 0;
  return {reinterpret_cast<uint64_t>(found.host) - from, cpu->generated.code + site->resume};
}

namespace {

/// Where [linear, linear + size), inside a page, is for an access as a whole.
QuickAccess host_of(Cpu& cpu, uint64_t linear, uint64_t size, Access access) {
  const DataEntry& entry = (*cpu.mmu.data_bank())[DataBank::index(linear)];
  const uint64_t tag = access == Access::kWrite ? entry.write_tag : entry.read_tag;
  if (tag == (linear & ~kPageOffset)) return {.host = entry.host + (linear & kPageOffset)};
  return cpu.mmu.quick_access(linear, static_cast<unsigned>(size), access);
}

template <bool kCopy>
void run_host_string(std::byte*& to, const std::byte*& from, uint64_t& count, uint64_t value,
                     unsigned size) {
  if constexpr (kCopy) {
    if (size == 1)
      asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    else if (size == 2)
      asm volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    else if (size == 4)
      asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    else
      asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  } else {
    if (size == 1)
      asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else if (size == 2)
      asm volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else if (size == 4)
      asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    else
      asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  }
}

/// True when the whole is done. If not, `blocked` may say that the next element raises #PF.
template <bool kCopy>
bool run_string(Cpu& cpu, unsigned size, uint64_t value, QuickAccess& blocked) {
  uint64_t& count = cpu.gpr[x86::kRcx];
  uint64_t& to = cpu.gpr[x86::kRdi];
  uint64_t& from = cpu.gpr[x86::kRsi];
  const uint64_t mask = cpu.rip_mask;
  while (count != 0) {
    if (cpu.attention.is_called()) return false;
    uint64_t room = 4096 - (to & kPageOffset);
    if (kCopy && 4096 - (from & kPageOffset) < room) room = 4096 - (from & kPageOffset);
    uint64_t now = room / size;
    if (now > count) now = count;
    if (now == 0) return false;  // an element crosses a page
    const std::byte* host_from = nullptr;
    if (kCopy) {
      blocked = host_of(cpu, from, now * size, Access::kRead);
      host_from = blocked.host;
      if (host_from == nullptr) return false;
    }
    blocked = host_of(cpu, to, now * size, Access::kWrite);
    std::byte* host_to = blocked.host;
    if (host_to == nullptr) return false;
    uint64_t left = now;
    run_host_string<kCopy>(host_to, host_from, left, value, size);
    count -= now;
    to = (to + now * size) & mask;
    if (kCopy) from = (from + now * size) & mask;
  }
  return true;
}

}  // namespace

Continuation on_string(Cpu* cpu, uint64_t, const CallSite* site) noexcept {
  const bool saved = site->flags_saved != 0;
  const uint64_t value = saved ? cpu->generated.saved_rax : cpu->gpr[x86::kRax];
  QuickAccess blocked;
  if ((cpu->flags_rest & x86::rflags::kDirection) == 0) {
    if (site->write != 0 ? run_string<false>(*cpu, site->size, value, blocked)
                         : run_string<true>(*cpu, site->size, value, blocked))
      return {0, cpu->generated.code + site->resume};
    if (blocked.faults) return deliver_page_fault(*cpu, blocked, *site);
  }
  return leave_to_interpreter(*cpu, *site);
}

Continuation on_revalidate(Cpu* cpu, uint64_t linear, const CallSite* site) noexcept {
  auto* translator = static_cast<Translator*>(cpu->generated.translator);
  const uint8_t* const code = translator->quick_bind(site->site, linear)
                                  ? cpu->generated.code + site->resume
                                  : translator->quick_find(linear);
  if (code == nullptr) return {linear, cpu->generated.exit_lookup_restoring};
  return {reinterpret_cast<uint64_t>(code), cpu->generated.go_on_restoring};
}

Continuation on_lookup(Cpu* cpu, uint64_t linear, const CallSite*) noexcept {
  auto* translator = static_cast<Translator*>(cpu->generated.translator);
  if (const uint8_t* code = translator->quick_find(linear)) return {linear, code};
  return {linear, cpu->generated.exit_lookup};
}

CodeKind Translator::code_kind() const noexcept {
  const auto& system = cpu_.system;
  CodeKind kind{.user = cpu_.cpl == 3};
  kind.sse = (system.cr0 & (x86::cr0::kEmulation | x86::cr0::kTaskSwitched)) == 0 &&
             (system.cr4 & x86::cr4::kOsfxsr) != 0;
  const bool xsave = kind.sse && (system.cr4 & x86::cr4::kOsxsave) != 0;
  kind.avx = xsave && (system.xcr0 & 6) == 6;
  kind.avx512 = kind.avx && (system.xcr0 & 0xE0) == 0xE0;
  kind.tsc = !kind.user || (system.cr4 & x86::cr4::kTsd) == 0;
  kind.base = (system.cr4 & x86::cr4::kFsgsbase) != 0;
  kind.code32 = cpu_.mode == decode::CodeMode::k32;
  kind.x87 = (system.cr0 & (x86::cr0::kEmulation | x86::cr0::kTaskSwitched)) == 0;
  return kind;
}

const uint8_t* Translator::quick_find(uint64_t linear) noexcept {
  const uint8_t kind = code_kind().bits();
  if (CodeKind::common(kind ^ last_kind_) != 0) return nullptr;  // the jump tables are of another
  const FetchResult* page = cpu_.mmu.quick_fetch(linear);
  if (page == nullptr) return nullptr;
  const uint64_t offset = linear & kPageOffset;
  for (BlockId id = blocks_.first_at(page->ram_page, offset); id != 0; id = blocks_[id].next) {
    const Block& block = blocks_[id];
    if (block.offset != offset || block.split || block.indirect == 0) continue;
    const Home& home = blocks_.home(block.home);
    if (home.kind != kind || home.ram_pages[0] != page->ram_page || !quick_bind(id, linear))
      continue;
    cpu_.generated.jump_tables.enter(CodeKind::table_of(kind), linear, block.indirect, block.body);
    ++statistics_.quick_lookups;
    return cache_.executable(block.body);
  }
  return nullptr;
}

void Translator::forget_epochs() noexcept {
  for (HomeId id = 0; id < blocks_.home_count(); ++id) blocks_.data(id).key = HomeData::kNowhere;
}

bool Translator::quick_bind(BlockId id, uint64_t linear) const noexcept {
  const Block& block = blocks_[id];
  if (!block.valid) return false;
  const Home& home = blocks_.home(block.home);
  const uint64_t base = linear & ~kPageOffset;
  // A site that the x87 state tells of means an address, until the state is stored.
  const bool must_stay = home.fixed || cpu_.generated.x87.away == 0;
  if (must_stay && blocks_.data(block.home).base != base) return false;
  for (unsigned i = 0; i < home.page_count; ++i) {
    const FetchResult* now = cpu_.mmu.quick_fetch(base + 4096 * i);
    if (now == nullptr || now->ram_page != home.ram_pages[i] || (home.global && !now->global) ||
        cpu_.code_generation(home.ram_pages[i]) != home.generations[i])
      return false;
    cpu_.mmu.rely_on_code_page(base + 4096 * i, *now);
  }
  const auto& epochs = cpu_.mmu.code_epochs();
  blocks_.data(block.home) = HomeData::at(base, home.global ? epochs.global : epochs.local);
  return true;
}

}  // namespace limen::soft::translate
