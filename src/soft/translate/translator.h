// Tier 1: runs 64-bit and 32-bit guest code as host code, block by block, and knows which blocks
// still stand for what the guest's memory holds.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "soft/cpu.h"
#include "soft/interpret/operation.h"
#include "soft/trace.h"
#include "soft/translate/block_store.h"
#include "soft/translate/code_cache.h"
#include "soft/translate/emitter.h"
#include "soft/translate/form_cache.h"
#include "soft/translate/item.h"
#include "soft/translate/trampolines.h"
#include "soft/translate/windows.h"

namespace limen::soft::translate {

struct Statistics {
  uint64_t blocks = 0;
  uint64_t instructions = 0;  ///< Translated, each time that they were.
  uint64_t guest_bytes = 0;
  uint64_t host_bytes = 0;
  uint64_t cold_bytes = 0;     ///< Beside them: what runs seldom.
  uint64_t quick_lookups = 0;  ///< Blocks found without an exit.
  uint64_t lookups = 0;        ///< Exits to find the next block.
  uint64_t links = 0;          ///< Exits that linked two blocks.
  uint64_t interpreted = 0;    ///< Instructions that the interpreter ran for translated code.
  uint64_t splits = 0;         ///< Windows that were found to reach over a page's end.
  uint64_t polls = 0;
  uint64_t faults = 0;       ///< Exits of instructions that faulted on the host.
  uint64_t strays = 0;       ///< Page faults of the host among them: an error of the engine's.
  uint64_t cycles = 0;       ///< Of the TSC, spent on translating timed_bytes of guest code.
  uint64_t timed_bytes = 0;  ///< All but what was interrupted by the host meanwhile.
};

class Translator {
 public:
  /// `code_size`: bytes of host code that are kept.
  Translator(Cpu& cpu, size_t code_size);
  ~Translator();
  Translator(const Translator&) = delete;
  Translator& operator=(const Translator&) = delete;

  /// Whether run() can run what the processor would run next.
  [[nodiscard]] bool handles_mode() const {
    if (cpu_.cpl != 0 && cpu_.cpl != 3) return false;
    return cpu_.mode == decode::CodeMode::k64 || (cpu_.mode == decode::CodeMode::k32 && is_flat());
  }

  enum class Outcome : uint8_t {
    kAttention,   ///< Interrupts and events must be looked at.
    kLookAround,  ///< The mode or anything else may have changed.
    kInterpret,   ///< The instruction at cpu.rip cannot be translated.
  };
  /// Runs from cpu.rip on. Throws x86::Exception where the guest's code faults, cpu.rip being the
  /// address of the instruction. The thread is one that HostThread has prepared.
  Outcome run();

  /// Whether the fetch TLB says that the block, unchanged, is what is mapped at `linear`; notes
  /// that its home is there. False for a fixed home that is elsewhere. Leaves vector registers
  /// alone.
  [[nodiscard]] bool quick_bind(BlockId id, uint64_t linear) const noexcept;

  /// The code for `linear`, if it is there and nothing but the fetch TLB need be asked; enters it
  /// into the jump table. Leaves vector registers alone.
  [[nodiscard]] const uint8_t* quick_find(uint64_t linear) noexcept;

  /// From now on, flags are kept even where the code overwrites them unread. For tests whose
  /// programs change their own code such that it reads them after all.
  void keep_dead_flags() { keeps_dead_flags_ = true; }
  /// The guest address of the instruction at a site. Leaves vector registers alone.
  [[nodiscard]] uint64_t quick_rip(uint32_t site) const noexcept {
    const Block& block = blocks_[site >> kSiteBits];
    return blocks_.data(block.home).base + site_at(block, site_index(site)).offset;
  }

  [[nodiscard]] const Statistics& statistics() const { return statistics_; }
  /// Tells perf of the code that all blocks share.
  void name_trampolines(Trace& trace) const {
    trace.name_code(cache_.executable(0), first_free_, "limen-trampolines");
  }
  [[nodiscard]] const CodeCache& cache() const { return cache_; }
  /// The same as text, and which instructions the interpreter ran most.
  [[nodiscard]] std::string report() const;

  /// To be called by the thread that calls run(), before it does.
  void prepare_thread() const { cache_.prepare_thread(); }

  /// For the signal handler: whether the fault that `context` (a ucontext_t) tells of is one of
  /// this translator's code; the context then leads out of it.
  bool recover(void* context);

 private:
  struct Resume {
    uint64_t rip = 0;
    const uint8_t* code = nullptr;
    uint64_t stamp = 0;
    uint8_t kind = 0;
  };

  [[nodiscard]] Assembler assembler(CodeOffset offset) const;
  CodeOffset write_trampolines();
  [[nodiscard]] CodeKind code_kind() const noexcept;
  // In code32.cc.
  [[nodiscard]] bool is_flat() const;
  void prepare_32_bit_code();
  void forget_upper_halves();
  /// For whom a block is looked for.
  enum class Seeker : uint8_t {
    kBody,     ///< Goes to its body.
    kEntry,    ///< Will come again from elsewhere: the block has its entries then.
    kSplitOff  ///< Wants one that has no windows.
  };
  const uint8_t* code_for_rip(Seeker seeker);
  const uint8_t* follow_link(LinkId id);
  const uint8_t* interpret(uint32_t site, Outcome& outcome);
  BlockId find(Seeker seeker);
  bool make_entries(BlockId id, CodeKind kind);
  BlockStore::Room make_room();
  [[nodiscard]] Emitter::Place place_of(BlockId id, HomeId home) const;
  const uint8_t* split(CodeOffset call_site);
  /// What a block is translated from.
  struct Source {
    uint64_t base = 0;
    unsigned page_count = 1;
    std::array<FetchResult, Home::kMaxPages> pages;
    std::array<uint32_t, Home::kMaxPages> generations{};
  };
  BlockId translate(const FetchResult& first, CodeKind kind, Seeker seeker);
  /// Tells cpu.trace of the block that was made from items_ in the room from `start` on.
  void trace(CodeKind kind, const Block& block, BlockStore::Room start) const;
  [[nodiscard]] bool may_be_in_cycle() const;
  [[nodiscard]] bool poll_with_stack();
  [[nodiscard]] size_t place_for_poll() const;
  size_t place_windows(std::span<Item> items, bool split);
  [[nodiscard]] bool must_end_at(HomeId home, uint64_t offset) const;
  bool form(Source& source, CodeKind kind, HomeId home, bool split);
  bool suits_inner_loop();
  void repeat_round(bool split);
  bool decode_next(Source& source, CodeKind kind, Item& item);
  void find_live_flags();
  // In x87_state.cc.
  void store_x87();
  [[nodiscard]] uint16_t x87_opcode_at(uint32_t site) const;
  [[nodiscard]] uint64_t x87_data_at(uint32_t site);
  /// Of what runs often; 0: there is none.
  [[nodiscard]] uint32_t site_of(CodeOffset offset) const;
  HomeId home_for(const Source& source, CodeKind kind);
  bool bind(HomeId id, uint64_t base);
  void drop_changed_code();
  void drop_code_at_breakpoints();
  /// Epochs begin anew: what was found right in one of them is to be looked at again.
  void forget_epochs() noexcept;
  interpret::Operation& operation_at(uint32_t site);
  [[nodiscard]] const Site& site_at(const Block& block, unsigned index) const {
    return reinterpret_cast<const Site*>(&cache_.code()[block.sites])[index];
  }
  static unsigned site_index(uint32_t site) { return site & ((1u << kSiteBits) - 1); }
  [[nodiscard]] const Block& block_of_site(uint32_t site) const {
    return blocks_[site >> kSiteBits];
  }

  Cpu& cpu_;
  CpuLayout layout_;
  CodeCache cache_;
  Trampolines trampolines_;
  CodeOffset first_free_ = 0;
  BlockStore blocks_;
  std::unordered_map<uint32_t, interpret::Operation> operations_;  // by site
  FormCache forms_;
  std::vector<Item> items_;
  unsigned item_count_ = 0;
  InnerLoop inner_;  // among them
  WindowSearch window_search_;
  std::vector<Window> windows_;  // of the block that is being translated
  Emitter::Scratch scratch_;
  uint64_t seen_changes_ = 0;
  uint64_t seen_breakpoints_ = 0;
  uint8_t last_kind_ = 0xFF;
  std::vector<uint64_t> interpreted_by_mnemonic_;
  Resume resume_;
  Statistics statistics_;
  bool keeps_dead_flags_ = false;
};

}  // namespace limen::soft::translate
