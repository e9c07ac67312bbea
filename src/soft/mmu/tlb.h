// The soft TLB: direct-mapped banks of 4 KiB translations, one per privilege view and address
// space. Values are host addends, so that a hit is one compare, one add and the access.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "soft/mmu/page_walk.h"
#include "x86/address.h"

namespace limen::soft {

inline constexpr uint64_t kPageOffset = 0xFFF;

/// A page for loads and stores. A missing write tag sends stores to the slow path. Where the write
/// tag is set, the read tag is set, too. Generated code knows the layout.
struct DataEntry {
  uint64_t read_tag = 0;
  uint64_t write_tag = 0;
  std::byte* host = nullptr;  ///< First byte of the page.
  uint64_t difference = 0;    ///< Of `host` and the page's address.

  [[nodiscard]] uint64_t page() const { return read_tag; }
  constexpr void drop(uint64_t no_tag) { read_tag = write_tag = no_tag; }
};
static_assert(sizeof(DataEntry) == 32);

/// Where instructions are fetched from.
struct FetchResult {
  const uint8_t* host_page =
      nullptr;  ///< First byte of the page; nullptr: not RAM, use read_physical.
  uint64_t ram_page = RamMap::kNotRam;  ///< GuestMemory::page_index().
  GuestPhysicalAddress page;
  uint8_t page_shift = 12;
  bool global = false;
};

struct FetchEntry {
  uint64_t tag = 0;
  FetchResult result;

  [[nodiscard]] uint64_t page() const { return tag; }
  constexpr void drop(uint64_t no_tag) { tag = no_tag; }
};

/// A direct-mapped table that knows which of its entries are in use, so that a flush costs as much
/// as was filled since the last one. Memory of zeros on which begin() was called is an empty one:
/// no page of it is touched for entries that nobody fills. Aligned so that a DataEntry is in one
/// line of the host's cache.
template <typename Entry, size_t N>
struct alignas(64) Bank {
  static constexpr uint64_t kMask = N - 1;

  /// What stands in place of a tag in entry `index`: the address of a page that has its entry
  /// elsewhere, and is not the page behind one that has its entry here. So neither an access at
  /// address A, for which A minus tag is below 4096, nor one that crosses into the tag's page can
  /// take it for a hit; generated code compares the one, the interpreter the other. That page is 0
  /// wherever it can be.
  static constexpr uint64_t no_tag(size_t index) {
    return index == 0 || index == kMask ? (index ^ 2) << 12 : 0;
  }

  constexpr void begin() {
    drop(0);
    drop(kMask);
  }
  constexpr void drop(size_t index) { entries[index].drop(no_tag(index)); }

  static size_t index(uint64_t linear) { return (linear >> 12) & kMask; }

  Entry& take(uint64_t linear, bool is_global) {
    const size_t i = index(linear);
    const uint64_t bit = uint64_t{1} << (i % 64);
    local[i / 64] = is_global ? local[i / 64] & ~bit : local[i / 64] | bit;
    global[i / 64] = is_global ? global[i / 64] | bit : global[i / 64] & ~bit;
    return entries[i];
  }
  void flush_local() { flush(local); }
  void flush_all() {
    flush(local);
    flush(global);
  }
  /// Drops entries of the naturally aligned range of 2^shift bytes around `linear`.
  void flush_range(uint64_t linear, unsigned shift, bool globals_only) {
    const auto scan = [&](std::array<uint64_t, N / 64>& used) {
      for (size_t word = 0; word < used.size(); ++word)
        for (uint64_t bits = used[word]; bits != 0; bits &= bits - 1) {
          const size_t i = word * 64 + static_cast<size_t>(__builtin_ctzll(bits));
          if (entries[i].page() >> shift == linear >> shift) drop(i);
        }
    };
    if (!globals_only) scan(local);
    scan(global);
  }
  void drop_if(auto condition) {
    for (size_t word = 0; word < local.size(); ++word)
      for (uint64_t bits = local[word] | global[word]; bits != 0; bits &= bits - 1) {
        const size_t i = word * 64 + static_cast<size_t>(__builtin_ctzll(bits));
        if (condition(entries[i])) drop(i);
      }
  }
  void flush_page(uint64_t linear, bool globals_only) {
    const size_t i = index(linear);
    if (globals_only && (global[i / 64] >> (i % 64) & 1) == 0) return;
    if (entries[i].page() == (linear & ~kPageOffset)) drop(i);
  }

  std::array<Entry, N> entries;
  std::array<uint64_t, N / 64> local;
  std::array<uint64_t, N / 64> global;

 private:
  void flush(std::array<uint64_t, N / 64>& used) {
    for (size_t word = 0; word < used.size(); ++word) {
      for (uint64_t bits = used[word]; bits != 0; bits &= bits - 1) {
        const size_t i = word * 64 + static_cast<size_t>(__builtin_ctzll(bits));
        drop(i);
      }
      used[word] = 0;
    }
  }
};

/// What the Tlb alone wants to know of a DataEntry.
struct DataOrigin {
  uint32_t ram_page = 0;
  /// Among the entries of this page of RAM that may have write tags; 0: it is not among them.
  uint32_t next_writable = 0;
};

struct DataBank : Bank<DataEntry, 8192> {
  std::array<DataOrigin, kMask + 1> origins;

  static constexpr DataBank empty() {
    DataBank bank{};
    bank.begin();
    return bank;
  }
};
using FetchBank = Bank<FetchEntry, 1024>;

/// The page on which the stack of translated code was last, for loads and stores alike: asked
/// before the bank, as its question is shorter. Generated code knows the layout.
struct StackPage {
  /// Added to no canonical address does this give an offset in a page.
  static constexpr uint64_t kNowhere = uint64_t{1} << 63;
  std::atomic<uint64_t> minus_page = kNowhere;  ///< Any thread may take the page away (Attention).
  uint64_t difference = 0;  ///< Of host and guest addresses; stays when the page is forgotten.
};

using StackPages = std::array<StackPage, 2>;  ///< Index: CPL is 3.

/// The translations of several address spaces, told apart by PCID (SDM Vol. 3A 4.10.1). Without
/// CR4.PCIDE everything is PCID 0. One of them is current.
class Tlb {
 public:
  /// Linux uses six PCIDs on a processor, and 0 before it has any.
  static constexpr unsigned kSlots = 7;

  explicit Tlb(uint64_t ram_pages);

  /// Makes `pcid` current; the address space that was current longest ago makes room if need be.
  void select(uint16_t pcid);

  [[nodiscard]] DataBank& data(View view) { return current_->data[static_cast<size_t>(view)]; }
  /// The page of RAM that the entry for `linear`, which is there, is of.
  [[nodiscard]] uint32_t ram_page(uint64_t linear, View view) {
    return data(view).origins[DataBank::index(linear)].ram_page;
  }
  [[nodiscard]] FetchBank& fetch(bool user) { return current_->fetch[user ? 1 : 0]; }

  /// Enters a page of the current address space; `writable`: stores may take the fast path.
  void fill_data(uint64_t linear, View view, const Translation& page, RamMap::Location ram,
                 bool writable);
  void fill_fetch(uint64_t linear, bool user, const Translation& page, const FetchResult& result);

  /// Drops data entries of the current address space for addresses of more than 32 bits.
  void forget_wide_pages(View view);

  /// The one of CPL 0 is a page that can be used with either RFLAGS.AC.
  [[nodiscard]] StackPages& stack_pages() { return stack_pages_; }
  [[nodiscard]] const StackPages& stack_pages() const { return stack_pages_; }
  void forget_stacks() {
    for (StackPage& stack : stack_pages_)
      stack.minus_page.store(StackPage::kNowhere, std::memory_order_relaxed);
  }

  /// Entries that were filled in: the misses that a walk served.
  struct Fills {
    uint64_t data = 0;
    uint64_t fetch = 0;
  };
  [[nodiscard]] const Fills& fills() const { return fills_; }

  void flush_all();
  void flush_all_but_global();
  /// Drops what is not global of one address space.
  void flush_context(uint16_t pcid);
  void flush_current();
  /// INVLPG: the page, of whatever size, around `linear`: of the current address space, and in
  /// every one if it is global.
  void flush_page(uint64_t linear);
  void flush_page(uint16_t pcid, uint64_t linear);

  /// Differs from what it was whenever a translation for fetches that held then may not hold now:
  /// another address space, another privilege, or something was flushed.
  [[nodiscard]] uint64_t fetch_stamp(bool user) const {
    const auto slot = static_cast<uint64_t>(current_ - slots_->data());
    return flushes_ << 4 | slot << 1 | static_cast<uint64_t>(user);
  }

  /// The translator's view of fetch_stamp(), in two parts and only for pages of which it said that
  /// it relies on them: a number that is another as soon as one of those may be mapped elsewhere.
  /// The first is for what is not global in the current address space, the second for global pages.
  /// They are from 1 to kLastEpoch; before they begin anew, the listener is called.
  struct CodeEpochs {
    uint64_t local = 1;
    uint64_t global = 2;
  };
  static constexpr uint64_t kLastEpoch = 4095;
  [[nodiscard]] const CodeEpochs& code_epochs() const { return epochs_; }
  struct EpochListener {
    void* context = nullptr;
    /// Leaves vector registers alone, as all that may lead to it.
    void (*forget)(void* context) noexcept = nullptr;
  };
  void set_epoch_listener(const EpochListener& listener) { epoch_listener_ = listener; }
  void rely_on_code_page(uint64_t linear, const FetchResult& page);

  /// Takes the write tag from every entry of this page of RAM.
  void protect(uint32_t ram_page);

 private:
  Fills fills_;
  // Which larger pages were entered in part: a Bloom filter per page size, so that INVLPG of a
  // small page need not search for the other parts of a large one.
  struct LargePages {
    static constexpr std::array<uint8_t, 3> kShifts = {21, 22, 30};
    void add(uint64_t linear, unsigned shift);
    [[nodiscard]] bool may_hold(uint64_t linear, size_t size_index) const;
    std::array<std::array<uint64_t, 4>, 3> bits{};
  };
  /// Pages of code, as a filter.
  struct CodePages {
    void add(uint64_t linear, unsigned shift);
    [[nodiscard]] bool may_hold(uint64_t linear) const;
    void clear() { bits = {}; }
    std::array<uint64_t, 64> bits{};
  };
  struct Slot {
    uint16_t pcid = 0;
    bool used = false;
    uint64_t last_use = 0;
    LargePages large_local;
    LargePages large_global;
    uint64_t code_epoch = 0;
    std::array<bool, kViews> wide{};  ///< `data` may have addresses of more than 32 bits.
    CodePages code_pages;
    std::array<DataBank, kViews> data;
    std::array<FetchBank, 2> fetch;

    void begin();
    void flush_local();
    void flush_all();
    void flush_page(uint64_t linear, bool globals_only);
  };

  Slot* find(uint16_t pcid);
  void flush_local(Slot& slot);
  uint64_t next_epoch();
  void new_code_epoch(Slot& slot);
  void new_global_code_epoch();
  void flush_code_page(Slot& slot, uint64_t linear);
  [[nodiscard]] uint32_t place_of(View view, uint64_t linear) const;
  DataBank& bank_of(uint32_t place);
  DataOrigin& origin_at(uint32_t place);
  void unlist(uint32_t place);

  using Slots = std::array<Slot, kSlots>;
  struct Unmap {
    void operator()(Slots* slots) const;
  };
  static Slots* map_slots();

  std::unique_ptr<Slots, Unmap> slots_;
  Slot* current_;
  StackPages stack_pages_;
  uint64_t use_count_ = 0;
  uint64_t flushes_ = 0;  // of any entry of any address space
  CodeEpochs epochs_;
  uint64_t last_epoch_ = 2;
  EpochListener epoch_listener_;
  CodePages global_code_pages_;
  // Per page of RAM, the first entry that may have a write tag for it: a place (of place_of()), or
  // 0. The last one's successor is kEnd.
  static constexpr uint32_t kEnd = ~uint32_t{0};
  std::vector<uint32_t> first_writable_;
};

}  // namespace limen::soft
