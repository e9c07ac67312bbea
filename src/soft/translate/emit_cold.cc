// What stands apart from the code that runs often: misses, exits, links, and the tables of a block.
#include <cassert>
#include <span>

#include "soft/translate/emitter.h"

namespace limen::soft::translate {
namespace {

constexpr int32_t kReadTag = offsetof(DataEntry, read_tag);
constexpr int32_t kWriteTag = offsetof(DataEntry, write_tag);

}  // namespace

/// With Link::check, which is run as often as the block.
void Emitter::add_last_link(uint64_t target) {
  add_link(out_.jump(), target);
  Cold& link = cold_.back();
  if (Link::stays_home(link.target) || !Link::reaches(link.target)) return;
  link.check = out_.here();
  link.dispatch = emit_link_check(out_);
}

/// Returns the place of the jump to the look into the jump table, which wants the guest's RCX back.
CodeOffset Emitter::emit_link_check(Assembler& out) {
  constexpr int32_t kUnknown = INT32_MAX;  // until it is patched
  constexpr unsigned kJump = 5;
  out.mov(kR11, kRcx);
  out.load_relative(kRcx, place_.data);
  out.load_relative(kR10, place_.data + static_cast<CodeOffset>(offsetof(HomeData, minus_key)));
  out.lea(kRcx, kRcx, kR10, 0, kUnknown);
  out.byte(0xE3);  // JRCXZ to the target
  out.byte(kJump);
  const CodeOffset dispatch = out.jump();
  out.mov(kRcx, kR11);
  out.jump();
  return dispatch;
}

/// The exit, and the code that Link speaks of.
void Emitter::emit_link_stub(const Cold& cold) {
  constexpr auto kUnknown = static_cast<LinkId>(INT32_MAX);  // until emit_tables()
  Assembler& out = cold_out_;
  const auto look_up = [&] {
    load_address(out, kR10, place_.base + static_cast<uint64_t>(cold.target));
    jump_to_r10(out);
  };
  if (!Link::reaches(cold.target)) return look_up();
  Link link;
  link.from = id_;
  link.target = static_cast<int32_t>(cold.target);
  link.place = cold.place;
  link.exit = out.here();
  link.check = cold.check;
  out.mov(kR10, uint64_t{kUnknown});
  link_names_.push_back(out.here() - static_cast<CodeOffset>(sizeof kUnknown));
  out.jump(trampolines_.exit_link);
  if (link.stays_home()) return links_.push_back(link);
  const CodeOffset mismatch = out.here();
  out.mov(kRcx, kR11);
  assert(out.here() == link.exit + Link::kDispatch);
  look_up();
  CodeOffset dispatch = cold.dispatch;
  if (link.check == 0) {
    link.check = out.here();
    dispatch = emit_link_check(out);
  }
  out.patch(dispatch, mismatch);
  links_.push_back(link);
}

void Emitter::emit_stack_miss(const Cold& cold) {
  constexpr unsigned kJumpSize = 5;
  Assembler& out = cold_out_;
  const size_t kind = kind_.table();
  out.lea(kR10, cold.base, cold.displacement);
  out.lea_relative(kR11, kJumpSize);
  out.jump(cold.restore_flags ? trampolines_.stack_miss_keeping_flags[kind]
                              : trampolines_.stack_miss[kind]);
  emit_call_site(out, WindowSite{call_site(cold), 0});
}

void Emitter::emit_miss(const Cold& cold) {
  constexpr unsigned kJumpSize = 5;
  Assembler& out = cold_out_;
  out.add_memory(kR10, kR11, cold.write ? kWriteTag : kReadTag);
  out.lea_relative(kR11, kJumpSize);
  const CallSite site = call_site(cold);
  if (cold.of == CallSite::Of::kWindow) {
    out.jump(trampolines_.window_miss);
    emit_call_site(out, WindowSite{site, 0});
  } else {
    out.jump(trampolines_.miss);
    emit_call_site(out, site);
  }
}

/// A window at an edge of the 32-bit addresses: as if at address 0, where none can be opened.
void Emitter::emit_edge(const Cold& cold) {
  constexpr unsigned kJumpSize = 5;
  Assembler& out = cold_out_;
  out.mov(kR10, uint64_t{0});
  out.lea_relative(kR11, kJumpSize);
  out.jump(trampolines_.window_miss);
  emit_call_site(out, WindowSite{call_site(cold), 0});
}

void Emitter::emit_revalidation() {
  constexpr unsigned kJumpSize = 5;
  Assembler& out = cold_out_;
  save_flags(out);
  out.cpu_sub(kR10, epoch());
  out.lea(kR10, kR10, block_.offset);
  out.lea_relative(kR11, kJumpSize);
  out.jump(trampolines_.revalidate[kind_.table()]);
  CallSite site{};
  site.site = id_;
  site.resume = block_.body;
  site.flags_saved = 1;
  emit_call_site(out, site);
}

/// Of the item; the code behind the site is what goes on.
CallSite Emitter::call_site(unsigned item, bool flags_saved) const {
  CallSite site{};
  site.site = make_site(id_, item);
  site.resume = out_.here() + static_cast<CodeOffset>(sizeof site);
  site.flags_saved = flags_saved;
  return site;
}

CallSite Emitter::call_site(const Cold& cold) const {
  CallSite site = call_site(cold.index, cold.restore_flags);
  site.resume = cold.resume;
  site.size = cold.size & 0x3FFu;
  site.write = cold.write;
  site.faults = cold.faults;
  site.polls = cold.polls;
  site.of = cold.of;
  return site;
}

void Emitter::emit_cold() {
  Assembler& out = cold_out_;
  for (const Cold& cold : cold_) {
    out_.patch(cold.place, out.here());
    switch (cold.what) {
      case Cold::What::kSite:
        if (cold.restore_flags) restore_flags(out);
        out.mov(kR10, make_site(id_, cold.index));
        out.jump(cold.reason == ExitReason::kPoll ? trampolines_.exit_poll
                                                  : trampolines_.exit_instruction);
        break;
      case Cold::What::kLink:
        emit_link_stub(cold);
        break;
      case Cold::What::kRevalidate:
        emit_revalidation();
        break;
      case Cold::What::kMiss:
        emit_miss(cold);
        break;
      case Cold::What::kAtEdge:
        emit_edge(cold);
        break;
      case Cold::What::kStackMiss:
        emit_stack_miss(cold);
        break;
      case Cold::What::kLoadX87:
        emit_x87_load(cold);
        break;
    }
  }
  cold_.clear();
}

void Emitter::emit_tables() {
  static_assert(alignof(Link) == alignof(Site));
  const auto bytes_of = [](const auto& table) {
    return std::span(reinterpret_cast<const uint8_t*>(table.data()),
                     table.size() * sizeof table[0]);
  };
  cold_out_.align(alignof(Link));
  for (size_t i = 0; i < links_.size(); ++i)
    cold_out_.patch_value(link_names_[i],
                          cold_out_.here() + static_cast<CodeOffset>(i * sizeof(Link)));
  cold_out_.bytes(bytes_of(links_));
  block_.sites = cold_out_.here();
  block_.site_count = static_cast<uint8_t>(sites_.size());
  block_.link_count = static_cast<uint8_t>(links_.size());
  cold_out_.bytes(bytes_of(sites_));
}

}  // namespace limen::soft::translate
