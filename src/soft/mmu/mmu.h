// Linear addresses to memory: guest paging, the soft TLB in front of it, and the access functions
// through which every handler of the interpreter reads and writes guest memory. A20 is always on.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <type_traits>
#include <utility>

#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "soft/mmu/code_sharing.h"
#include "soft/mmu/page_walk.h"
#include "soft/mmu/tlb.h"
#include "soft/mmu/watchpoints.h"
#include "x86/address.h"
#include "x86/exception.h"
#include "x86/registers.h"

namespace limen::soft {

/// What decides how a linear address is translated and what an access may do.
struct MmuMode {
  uint64_t cr0 = 0, cr3 = 0, cr4 = 0, efer = 0;
  bool user = false;             ///< CPL 3.
  bool alignment_check = false;  ///< RFLAGS.AC: lifts SMAP at CPL 0-2, asks for #AC at CPL 3.
};

/// All accessors take a linear address, act with the privilege of the current mode, handle page
/// crossings and MMIO, and throw x86::Exception (#PF, #GP(0) for a non-canonical address, #AC)
/// before anything was changed but A and D bits.
class Mmu final : public memory::MappingListener {
 public:
  /// The processor `index` of those that share `code`; nullptr: the only one.
  Mmu(memory::GuestMemory& ram, memory::IoSpace& mmio, CodeSharing* code = nullptr,
      unsigned index = 0);
  ~Mmu() override;
  Mmu(const Mmu&) = delete;
  Mmu& operator=(const Mmu&) = delete;

  /// From CPUID.80000008H:EAX[7:0] and CPUID.80000001H:EDX[26]. Default: 40 bits, with 1 GiB pages.
  void configure(unsigned physical_address_bits, bool gigabyte_pages);

  /// To be called after any of these changed; cheap when only the privilege did. Flushes what the
  /// SDM asks for when CR0, CR4 or EFER change (Vol. 3A 4.10.4.1), loads the PDPTE registers when
  /// PAE paging starts, and takes a changed CR3 like load_cr3(cr3, false).
  void set_mode(const MmuMode& mode) {
    const uint64_t changed = ((mode.cr0 ^ mode_.cr0) & kCr0Bits) |
                             ((mode.cr4 ^ mode_.cr4) & kCr4Bits) |
                             ((mode.efer ^ mode_.efer) & kEferBits) | (mode.cr3 ^ mode_.cr3);
    if (changed != 0) [[unlikely]]
      change_paging(mode);
    mode_ = mode;
    select_view();
  }

  /// MOV to CR3, called before the register changes. `value` is without bit 63; `keep` is that bit
  /// (CR4.PCIDE): the PCID's translations stay valid. In PAE paging, loads the PDPTE registers.
  /// False: a reserved bit is set, in CR3 or in a PDPTE; nothing changed; #GP(0).
  [[nodiscard]] bool load_cr3(uint64_t value, bool keep);
  /// The same in 4-level paging. False: load_cr3() must be asked. Leaves vector registers alone.
  [[nodiscard]] bool quick_load_cr3(uint64_t value, bool keep) noexcept;
  /// For MOV to CR0 and CR4 when they start PAE paging or change it (SDM Vol. 3A 4.4.1): whether
  /// the four PDPTEs at `cr3` are valid; loads them. False: #GP(0).
  [[nodiscard]] bool load_pdptes(uint64_t cr3) { return walker_.load_pdptes(cr3); }

  template <typename T>
  T read(uint64_t linear) {
    const DataEntry& entry = data_[DataBank::index(linear)];
    if (hits<T>(entry.read_tag, linear)) [[likely]]
      return load<T>(entry, linear);
    return read_miss<T>(linear, view_, alignment_mask(sizeof(T)));
  }
  template <typename T>
  void write(uint64_t linear, T value) {
    const DataEntry& entry = data_[DataBank::index(linear)];
    if (hits<T>(entry.write_tag, linear)) [[likely]]
      store<T>(entry, linear, value);
    else
      write_miss<T>(linear, value, view_, alignment_mask(sizeof(T)));
  }
  /// Implicit supervisor accesses (descriptor tables, TSS), whatever CPL is (SDM Vol. 3A 4.6.1).
  template <typename T>
  T read_supervisor(uint64_t linear) {
    const DataEntry& entry = implicit_data_[DataBank::index(linear)];
    if (hits<T>(entry.read_tag, linear)) [[likely]]
      return load<T>(entry, linear);
    return read_miss<T>(linear, implicit_view_, 0);
  }
  template <typename T>
  void write_supervisor(uint64_t linear, T value) {
    const DataEntry& entry = implicit_data_[DataBank::index(linear)];
    if (hits<T>(entry.write_tag, linear)) [[likely]]
      store<T>(entry, linear, value);
    else
      write_miss<T>(linear, value, implicit_view_, 0);
  }

  /// Any size; every page is checked before the first byte is written. No alignment check.
  void read_bytes(uint64_t linear, std::span<std::byte> into) {
    read_slow(linear, into.data(), into.size(), view_, 0);
  }
  void write_bytes(uint64_t linear, std::span<const std::byte> from) {
    write_slow(linear, from.data(), from.size(), view_, 0);
  }

  /// Host address of [linear, linear + size) for a direct access, or nullptr when it is MMIO,
  /// crosses a page, or needs more than a load or store (a watchpoint; writing a page that holds
  /// code). Throws what the access would throw. Not good beyond the current instruction.
  std::byte* host_for_read(uint64_t linear, unsigned size) {
    const DataEntry& entry = data_[DataBank::index(linear)];
    if (entry.read_tag == last_page(linear, size)) [[likely]]
      return entry.host + (linear & kPageOffset);
    return host_slow(linear, size, Access::kRead);
  }
  std::byte* host_for_write(uint64_t linear, unsigned size) {
    const DataEntry& entry = data_[DataBank::index(linear)];
    if (entry.write_tag == last_page(linear, size)) [[likely]]
      return entry.host + (linear & kPageOffset);
    return host_slow(linear, size, Access::kWrite);
  }

  /// Where a locked read-modify-write that host_for_write() does not give an address for finds its
  /// bytes: a page that holds code, or two pages that are neighbours in RAM.
  struct LockedPlace {
    std::byte* host = nullptr;  ///< nullptr: a device, or pages that are no neighbours.
    uint64_t linear = 0;
    unsigned size = 0;
    std::array<uint32_t, 2> ram_pages{};
  };
  LockedPlace place_for_locked(uint64_t linear, unsigned size);
  /// To be called after it was written.
  void wrote_locked(const LockedPlace& place);
  /// Takes bits from a byte and sets others, in one atomic step; gives what it is then.
  uint8_t change_byte_supervisor(uint64_t linear, uint8_t clear, uint8_t set);

  /// Throws what a write (read) of these bytes would throw; changes nothing but A and D bits.
  void probe_write(uint64_t linear, unsigned size) {
    if (data_[DataBank::index(linear)].write_tag != last_page(linear, size)) [[unlikely]]
      probe_slow(linear, size, Access::kWrite);
  }
  /// As for write_bytes().
  void probe_write_bytes(uint64_t linear, unsigned size) {
    if (data_[DataBank::index(linear)].write_tag != last_page(linear, size)) [[unlikely]]
      probe_pages(wrap(linear), size, Access::kWrite, view_);
  }
  void probe_read(uint64_t linear, unsigned size) {
    if (data_[DataBank::index(linear)].read_tag != last_page(linear, size)) [[unlikely]]
      probe_slow(linear, size, Access::kRead);
  }

  /// The same for an implicit supervisor access.
  void probe_write_supervisor(uint64_t linear, unsigned size) {
    if (implicit_data_[DataBank::index(linear)].write_tag != last_page(linear, size)) [[unlikely]]
      probe_pages(linear, size, Access::kWrite, implicit_view_);
  }

  /// The page from which the instruction at `linear` is fetched. Throws #PF, or #GP(0) for a
  /// non-canonical address.
  FetchResult fetch(uint64_t linear) {
    const FetchEntry& entry = fetch_[FetchBank::index(linear)];
    if (entry.tag == (linear & ~kPageOffset)) [[likely]]
      return entry.result;
    return fetch_slow(linear);
  }
  /// The same if its translation is there or a look at the page tables is all that it takes to have
  /// it; otherwise nullptr. Leaves vector registers alone.
  [[nodiscard]] const FetchResult* quick_fetch(uint64_t linear) noexcept {
    const FetchEntry& entry = fetch_[FetchBank::index(linear)];
    return entry.tag == (linear & ~kPageOffset) ? &entry.result : quick_fetch_slow(linear);
  }
  /// A number that is the same as before only if every fetch() that was good then is good now.
  [[nodiscard]] uint64_t fetch_stamp() const { return tlb_.fetch_stamp(mode_.user); }
  /// What is known of an access without a device or anything else that may throw.
  struct QuickAccess {
    std::byte* host = nullptr;  ///< Where its bytes are, one behind the other; good for it alone.
    bool faults = false;        ///< It raises #PF with these.
    uint32_t error_code = 0;
    uint64_t fault_address = 0;
  };
  /// What a write does to a page that is not dirty yet: the D bit is set, or, if the instruction
  /// may yet raise another exception, the access is not made.
  enum class Dirty : uint8_t { kSet, kAsItIs };
  /// Fills entries if the page tables have what it takes. With neither `host` nor `faults` the
  /// access must be made in another way. Leaves vector registers alone.
  QuickAccess quick_access(uint64_t linear, unsigned size, Access access,
                           Dirty dirty = Dirty::kSet) noexcept {
    return quick_access(linear, size, access, view_, dirty);
  }
  /// The same, asking the TLB first: the host address, or nullptr.
  std::byte* quick_host(uint64_t linear, unsigned size, Access access) noexcept {
    const DataEntry& entry = data_[DataBank::index(linear)];
    if ((access == Access::kWrite ? entry.write_tag : entry.read_tag) == last_page(linear, size))
      return entry.host + (linear & kPageOffset);
    return quick_access(linear, size, access, view_, Dirty::kSet).host;
  }
  /// The same, of the stack: makes its page the stack's if it can be.
  QuickAccess quick_stack(uint64_t linear, unsigned size, Access access) noexcept;
  [[nodiscard]] StackPages& stack_pages() { return tlb_.stack_pages(); }
  [[nodiscard]] const StackPages& stack_pages() const { return tlb_.stack_pages(); }
  /// For an implicit supervisor access.
  std::byte* quick_supervisor(uint64_t linear, unsigned size, Access access) noexcept {
    const DataEntry& entry = implicit_data_[DataBank::index(linear)];
    if ((access == Access::kWrite ? entry.write_tag : entry.read_tag) == last_page(linear, size))
      return entry.host + (linear & kPageOffset);
    return quick_access(linear, size, access, implicit_view_, Dirty::kSet).host;
  }
  /// For 32-bit code: no load or store finds a page beyond 32-bit addresses.
  void forget_wide_pages() {
    if (mode_.user) return tlb_.forget_wide_pages(View::kUser);
    tlb_.forget_wide_pages(View::kSupervisor);
    tlb_.forget_wide_pages(View::kSupervisorSmap);
  }
  /// What set_mode() does when CPL or RFLAGS.AC changed, to CPL 0 or 3 and not to AC at CPL 3.
  void quick_set_privilege(bool user, bool alignment_check) noexcept {
    mode_.user = user;
    mode_.alignment_check = alignment_check;
    check_alignment_ = false;
    const Choice& choice = choices_[user ? 2 : alignment_check ? 1 : 0];
    data_ = choice.data;
    fetch_ = choice.fetch;
    view_ = choice.view;
  }

  /// How generated code does what set_mode() does after STAC and CLAC at CPL 0: it copies choice
  /// [AC] and notes AC.
  struct AcSwitch {
    const DataEntry* const* chosen_data[2];
    const View* chosen_view[2];
    const DataEntry* const* data;
    const View* view;
    const bool* alignment_check;
  };
  [[nodiscard]] AcSwitch ac_switch() const {
    return {.chosen_data = {&choices_[0].data, &choices_[1].data},
            .chosen_view = {&choices_[0].view, &choices_[1].view},
            .data = &data_,
            .view = &view_,
            .alignment_check = &mode_.alignment_check};
  }

  /// The same for what set_mode() does when CPL changes between 0 and 3: choice 0 or 1 is CPL 0
  /// with that RFLAGS.AC, 2 is CPL 3 without.
  struct PrivilegeSwitch {
    const DataEntry* const* chosen_data[3];
    const FetchEntry* const* chosen_fetch[3];
    const View* chosen_view[3];
    const DataEntry* const* data;
    const FetchEntry* const* fetch;
    const View* view;
    const bool* user;
    const bool* alignment_check;
  };
  [[nodiscard]] PrivilegeSwitch privilege_switch() const {
    return {.chosen_data = {&choices_[0].data, &choices_[1].data, &choices_[2].data},
            .chosen_fetch = {&choices_[0].fetch, &choices_[1].fetch, &choices_[2].fetch},
            .chosen_view = {&choices_[0].view, &choices_[1].view, &choices_[2].view},
            .data = &data_,
            .fetch = &fetch_,
            .view = &view_,
            .user = &mode_.user,
            .alignment_check = &mode_.alignment_check};
  }

  /// What generated code looks at: where the current bank's address stands, and the epochs.
  [[nodiscard]] const DataEntry* const* data_bank() const { return &data_; }
  [[nodiscard]] const Tlb::Fills& tlb_fills() const { return tlb_.fills(); }
  [[nodiscard]] const Tlb::CodeEpochs& code_epochs() const { return tlb_.code_epochs(); }
  void set_epoch_listener(const Tlb::EpochListener& listener) { tlb_.set_epoch_listener(listener); }
  void rely_on_code_page(uint64_t linear, const FetchResult& page) {
    tlb_.rely_on_code_page(linear, page);
  }
  /// Copies from the physical bus, RAM or device: for code outside RAM.
  void read_physical(GuestPhysicalAddress address, std::span<std::byte> into);

  /// A walk without side effects, whatever the rights; nothing if not mapped. For dumps.
  [[nodiscard]] std::optional<GuestPhysicalAddress> translate(uint64_t linear) const;

  // Tracking of decoded code. In this order: watch_code(), read the bytes and decode, mark_code().
  // Between two instructions: it may wait for other processors.

  /// Asks to be told of stores to this page, from which code is to be decoded from `offset` on; the
  /// generation to keep with what is decoded: that is stale once
  /// GuestMemory::code_generations()[ram_page] is another.
  uint32_t watch_code(uint64_t ram_page, uint32_t offset) {
    auto& mark = ram_.code_page_marks()[ram_page];
    if (!mark.load(std::memory_order_relaxed)) mark.store(true, std::memory_order_seq_cst);
    // Read first: a store that takes the marks away raises it afterwards.
    const uint32_t generation = ram_.code_generations()[ram_page].load(std::memory_order_acquire);
    code_->begin_decoding(index_, static_cast<uint32_t>(ram_page), offset);
    return generation;
  }
  /// Says that `bytes` were decoded from `offset` of the page: from now on a store to them raises
  /// the page's generation and sets code_written, as one since watch_code() does now. Reaches at
  /// most to the end of the page.
  void mark_code(uint64_t ram_page, uint32_t offset, std::span<const uint8_t> bytes);
  /// Set when a store of this processor changed code.
  bool code_written = false;
  /// Another flag to set then: the run loop's, so that it has one to look at.
  void set_code_write_signal(bool& signal) { code_write_signal_ = &signal; }
  /// What to call when something of another processor's must be looked at.
  void set_attention(Attention& attention) {
    attention_ = &attention;
    code_->set_attention(index_, attention);
  }

  // What processors owe each other (CodeSharing).
  void enter_guest() {
    thread_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    code_->enter(index_);
  }
  void leave_guest() { code_->leave(index_); }
  [[nodiscard]] bool shares_code() const { return code_->is_shared(); }
  void serve_others() {
    if (code_->is_asked(index_)) code_->serve(index_);
  }
  uint64_t code_written_page = 0;  ///< The last such page of RAM.

  /// Asks for attention; where this processor changed them itself, its block ends, too.
  void mappings_changed() override;
  /// Forgets what was found before the mappings changed, if they did. Between two instructions.
  void follow_mappings() {
    if (mappings_stale_.load(std::memory_order_acquire)) [[unlikely]]
      take_mappings();
  }

  /// Arms the data breakpoints of DR0-DR3 and DR7 (index 7); to be called when one of them changed.
  void set_watchpoints(const std::array<uint64_t, 8>& debug_registers);
  /// The same for a debugger's.
  void set_debugger_watchpoints(std::span<const vcpu::Watchpoint> watchpoints);
  /// Set by an access that hit a watchpoint of the guest's.
  [[nodiscard]] bool has_watch_hits() const { return (watch_hits_ & Watchpoints::kGuestHits) != 0; }
  /// DR6 bits of the watchpoints hit since the last call.
  uint64_t take_watch_hits() {
    const uint64_t hits = watch_hits_ & Watchpoints::kGuestHits;
    watch_hits_ &= ~Watchpoints::kGuestHits;
    return hits;
  }
  /// Set by an access that hit one of the debugger's; the code write signal is then set, too.
  [[nodiscard]] bool has_debugger_hits() const {
    return watch_hits_ >> Watchpoints::kDebuggerShift != 0;
  }
  /// The first one that was hit, and forgets all.
  vcpu::Watchpoint take_debugger_hit();

  /// IA32_PKRS. Its rights hold from the next access on, without a flush of the guest's.
  void set_supervisor_keys(uint32_t pkrs) {
    if (walker_.set_supervisor_keys(pkrs)) tlb_.flush_all();
  }

  /// Everything, global pages too.
  void flush_all() { tlb_.flush_all(); }
  /// INVLPG: the page around `linear`, of whatever size.
  void invalidate_page(uint64_t linear);
  /// INVPCID (SDM Vol. 2A INVPCID) with its descriptor's two quadwords. False: #GP(0).
  [[nodiscard]] bool invalidate_pcid(uint64_t type, uint64_t pcid, uint64_t linear);

 private:
  static constexpr uint64_t kCr0Bits = x86::cr0::kPaging | x86::cr0::kWriteProtect;
  static constexpr uint64_t kCr4Bits = x86::cr4::kPse | x86::cr4::kPae | x86::cr4::kPge |
                                       x86::cr4::kPcide | x86::cr4::kSmep | x86::cr4::kSmap |
                                       x86::cr4::kPks;
  static constexpr uint64_t kEferBits = x86::efer::kLma | x86::efer::kNxe;

  /// The bytes of one page that an access touches.
  struct Piece {
    std::byte* host = nullptr;  ///< nullptr: MMIO.
    uint64_t physical = 0;
    uint32_t ram_page = RamMap::kNotRam;
    uint32_t size = 0;
  };

  // The page of the last byte. Where an access crosses into the next page, that page's tag cannot
  // stand in the entry of the first one, so one compare checks both.
  static uint64_t last_page(uint64_t linear, uint64_t size) {
    return (linear + size - 1) & ~kPageOffset;
  }
  template <typename T>
  static bool hits(uint64_t tag, uint64_t linear) {
    return tag == last_page(linear, sizeof(T));
  }
  template <typename T>
  static T load(const DataEntry& entry, uint64_t linear) {
    T value;
    std::memcpy(&value, entry.host + (linear & kPageOffset), sizeof value);
    return value;
  }
  template <typename T>
  static void store(const DataEntry& entry, uint64_t linear, T value) {
    std::memcpy(entry.host + (linear & kPageOffset), &value, sizeof value);
  }
  // Words, doublewords, quadwords and, by their significands, extended reals are subject to #AC
  // (SDM Vol. 3A table 6-7); vectors are not.
  static constexpr uint64_t alignment_mask(uint64_t size) {
    return size == 2 || size == 4 || size == 8 ? size - 1 : size == 10 ? 7 : 0;
  }

  static constexpr uint64_t kPcidMask = 0xFFF;
  static bool is_canonical(uint64_t linear) {
    return static_cast<uint64_t>(static_cast<int64_t>(linear << 16) >> 16) == linear;
  }

  void take_mappings();
  void select_view();
  QuickAccess quick_access(uint64_t linear, unsigned size, Access access, View view,
                           Dirty dirty) noexcept;
  QuickAccess quick_page(uint64_t linear, unsigned size, Access access, View view,
                         Dirty dirty) noexcept;
  bool quick_update(const PageWalker::QuickPath& path, Access access, Dirty dirty) noexcept;
  void change_paging(const MmuMode& mode);
  void check_canonical(uint64_t linear) const;
  [[nodiscard]] uint64_t wrap(uint64_t linear) const;
  Piece resolve(uint64_t linear, uint32_t size, Access access, View view);
  DataEntry& entry_for(uint64_t linear, View view) {
    return tlb_.data(view).entries[DataBank::index(linear)];
  }
  void note_entry_writes();
  void note_store(uint32_t ram_page, uint32_t offset, uint32_t size);
  void check_alignment(uint64_t linear, uint64_t mask) const;
  void note_watched(uint64_t linear, uint64_t size, bool write);

  // Integers travel in registers, so that the fast path around needs no stack.
  uint64_t read_integer_slow(uint64_t linear, uint64_t size, View view, uint64_t alignment);
  void write_integer_slow(uint64_t linear, uint64_t value, uint64_t size, View view,
                          uint64_t alignment);
  template <typename T>
  T read_miss(uint64_t linear, View view, uint64_t alignment) {
    if constexpr (std::is_integral_v<T> && sizeof(T) <= 8) {
      return static_cast<T>(read_integer_slow(linear, sizeof(T), view, alignment));
    } else {
      T value;
      read_slow(linear, &value, sizeof value, view, alignment);
      return value;
    }
  }
  template <typename T>
  void write_miss(uint64_t linear, T value, View view, uint64_t alignment) {
    if constexpr (std::is_integral_v<T> && sizeof(T) <= 8)
      write_integer_slow(linear, static_cast<uint64_t>(value), sizeof(T), view, alignment);
    else
      write_slow(linear, &value, sizeof value, view, alignment);
  }

  void read_slow(uint64_t linear, void* into, uint64_t size, View view, uint64_t alignment);
  void write_slow(uint64_t linear, const void* from, uint64_t size, View view, uint64_t alignment);
  void read_piece(const Piece& piece, std::byte* into);
  void write_piece(const Piece& piece, const std::byte* from);
  std::byte* host_slow(uint64_t linear, unsigned size, Access access);
  void probe_slow(uint64_t linear, uint64_t size, Access access);
  void probe_pages(uint64_t linear, uint64_t size, Access access, View view);
  FetchResult fetch_slow(uint64_t linear);
  const FetchResult* quick_fetch_slow(uint64_t linear) noexcept;

  /// What generated code switches between: CPL 0 with RFLAGS.AC 0 and 1, CPL 3 without AC.
  struct Choice {
    const DataEntry* data = nullptr;
    const FetchEntry* fetch = nullptr;
    View view = View::kSupervisor;
  };

  // Hot: the banks of the current view. While alignment is checked, `data_` is a bank without
  // entries, which sends every access to the slow path.
  const DataEntry* data_;
  const DataEntry* implicit_data_;
  const FetchEntry* fetch_;
  std::array<Choice, 3> choices_;
  View view_ = View::kSupervisor;
  View implicit_view_ = View::kSupervisor;
  bool check_alignment_ = false;
  uint64_t watch_hits_ = 0;
  bool* code_write_signal_ = &code_written;
  Attention* attention_ = nullptr;
  MmuMode mode_;

  memory::GuestMemory& ram_;
  memory::IoSpace& mmio_;
  RamMap map_;
  std::atomic<bool> mappings_stale_ = false;
  std::atomic<std::thread::id> thread_;  ///< That of the processor.
  PageWalker walker_;
  Tlb tlb_;
  std::unique_ptr<CodeSharing> own_code_;  // where this is the only processor
  CodeSharing* code_;
  const unsigned index_;
  Watchpoints watchpoints_;
};

}  // namespace limen::soft
