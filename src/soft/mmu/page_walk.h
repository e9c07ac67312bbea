// The walk through the guest's page tables (SDM Vol. 3A 4.3 to 4.8; APM Vol. 2 5).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "memory/guest_memory.h"
#include "memory/io_space.h"

namespace limen::soft {

/// What an access does to a page.
enum class Access : uint8_t { kRead, kWrite, kExecute };

/// With whose rights (SDM Vol. 3A 4.6.1). A supervisor access is barred from user pages while SMAP
/// acts on it: CR4.SMAP is set and the access is implicit or RFLAGS.AC is clear.
enum class View : uint8_t { kUser, kSupervisor, kSupervisorSmap };
inline constexpr unsigned kViews = 3;

/// The kinds of paging of SDM Vol. 3A 4.1.1.
enum class PagingMode : uint8_t { kOff, k32Bit, kPae, k4Level };

/// Guest memory as the MMU sees it: the host address and the page index of a guest-physical
/// address.
class RamMap {
 public:
  static constexpr uint32_t kNotRam = ~uint32_t{0};
  struct Location {
    std::byte* host = nullptr;  ///< nullptr: not memory.
    uint32_t page = kNotRam;    ///< GuestMemory::page_index().
    bool writable = true;       ///< Otherwise a store goes to the IoSpace.
  };

  explicit RamMap(const memory::GuestMemory& ram) : ram_(ram), regions_(ram.regions()) {
    refresh();
  }

  /// Takes over what GuestMemory::mappings() says now.
  void refresh() { mappings_ = ram_.mappings(); }

  [[nodiscard]] Location find(uint64_t physical) const {
    for (const auto& region : regions_) {
      const uint64_t offset = physical - region.start.value;
      if (offset < region.size)
        return {region.host + offset,
                static_cast<uint32_t>((region.file_offset + offset) >> memory::kPageShift)};
    }
    for (size_t i = mappings_.size(); i-- > 0;) {
      const auto& mapping = mappings_[i];
      const uint64_t offset = physical - mapping.start.value;
      if (offset < mapping.size)
        return {mapping.host + offset,
                static_cast<uint32_t>((mapping.file_offset + offset) >> memory::kPageShift),
                mapping.writable};
    }
    return {};
  }

 private:
  const memory::GuestMemory& ram_;
  const std::vector<memory::RamRegion>& regions_;
  std::vector<memory::Mapping> mappings_;
};

/// What a successful walk found.
struct Translation {
  uint64_t physical = 0;    ///< Of the byte asked for.
  uint8_t page_shift = 12;  ///< 12, 21, 22 or 30.
  bool user = false;
  bool writable = false;  ///< By the R/W bits of all levels.
  bool no_execute = false;
  bool global = false;
  bool dirty = false;
  uint8_t key = 0;  ///< Protection key, in 4-level paging.
};

class PageWalker {
 public:
  PageWalker(const RamMap& ram, memory::IoSpace& mmio) : ram_(ram), mmio_(mmio) {}

  /// MAXPHYADDR (CPUID.80000008H:EAX[7:0]) and whether 1 GiB pages exist: they decide which bits
  /// are reserved.
  void configure(unsigned physical_address_bits, bool gigabyte_pages);
  void set_registers(uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer);

  /// IA32_PKRS. True if the rights of a key changed that a supervisor page seen so far has: what
  /// was found for it does not hold.
  [[nodiscard]] bool set_supervisor_keys(uint32_t pkrs);

  [[nodiscard]] PagingMode mode() const { return mode_; }
  /// True if CR3 may hold `cr3` (without bit 63) in the current mode: no bits at or above
  /// MAXPHYADDR.
  [[nodiscard]] bool valid_cr3(uint64_t cr3) const {
    return mode_ != PagingMode::k4Level || (cr3 >> physical_bits_) == 0;
  }
  /// Loads the four PDPTE registers from the table at `cr3` (SDM Vol. 3A 4.4.1). False, and nothing
  /// loaded, if a present entry has a reserved bit set: MOV CR3, CR0 or CR4 raises #GP(0).
  bool load_pdptes(uint64_t cr3);

  /// Walks for an access, sets A and D bits with locked updates and returns what it found, or
  /// throws #PF. `linear` is canonical.
  Translation walk(uint64_t linear, Access access, View view);
  /// The entries that quick_walk() used, for whoever sets their A and D bits.
  struct QuickPath {
    struct Entry {
      std::byte* host = nullptr;
      uint64_t value = 0;
      uint32_t ram_page = RamMap::kNotRam;
    };
    std::array<Entry, 4> entries;
    unsigned count = 0;
    bool narrow = false;  ///< Entries of 4 bytes.
  };
  enum class Quick : uint8_t {
    kFound,
    kFaults,   ///< #PF with `error_code`.
    kUnknown,  ///< walk() must be asked.
  };
  /// The same as walk() by tables in RAM, but for the A and D bits. Leaves vector registers alone.
  [[nodiscard]] Quick quick_walk(uint64_t linear, Access access, View view, Translation& page,
                                 QuickPath& path, uint32_t& error_code) const noexcept;
  /// set_registers() when nothing but CR3 changes. False: in PAE paging, or #GP(0).
  [[nodiscard]] bool quick_load_cr3(uint64_t cr3) noexcept {
    if (mode_ == PagingMode::kPae || !valid_cr3(cr3)) return false;
    cr3_ = cr3;
    return true;
  }
  /// Walks without side effects and whatever the rights; nothing where no page is present.
  [[nodiscard]] std::optional<Translation> peek(uint64_t linear) const;
  /// Whether a page with these rights admits the access.
  [[nodiscard]] bool permits(const Translation& page, Access access, View view) const;

  /// The same for a load or store while paging is on.
  [[nodiscard]] bool permits_execution(const Translation& page, View view) const {
    if (page.no_execute) return false;
    return view == View::kUser ? page.user : !(smep_ && page.user);
  }
  [[nodiscard]] bool permits_data(const Translation& page, Access access, View view) const {
    if (view == View::kUser) return page.user && (access == Access::kRead || page.writable);
    if (view == View::kSupervisorSmap && page.user) return false;
    if (key_forbids(page, access, view)) return false;
    return access == Access::kRead || page.writable || !write_protect_;
  }

  /// Whether the protection key bars a supervisor access from a supervisor page (SDM Vol. 3A
  /// 4.6.2): bit 2i of IA32_PKRS bars from pages of key i, bit 2i + 1 from writing them under
  /// CR0.WP.
  [[nodiscard]] bool key_forbids(const Translation& page, Access access, View view) const {
    if (!supervisor_keys_ || view == View::kUser || page.user || access == Access::kExecute)
      return false;
    const uint32_t rights = pkrs_ >> (2 * page.key);
    return (rights & 1) != 0 || (access == Access::kWrite && write_protect_ && (rights & 2) != 0);
  }

  /// Index of the page of RAM in which the last walk changed an entry, or kNotRam; with the entry's
  /// offset in that page. The MMU asks because code may have been decoded from there.
  struct EntryWrite {
    uint32_t page = RamMap::kNotRam;
    uint32_t offset = 0;
  };
  [[nodiscard]] const std::array<EntryWrite, 4>& entry_writes() const { return entry_writes_; }
  [[nodiscard]] unsigned entry_write_count() const { return entry_write_count_; }

 private:
  struct Step;
  struct Path;
  enum class Find : uint8_t { kFound, kNotPresent, kReserved };

  Find find(uint64_t linear, Translation& page, Path& path) const;
  Quick quick_walk_32bit(uint64_t linear, Translation& page, QuickPath& path) const noexcept;
  Quick quick_walk_wide(uint64_t linear, Translation& page, QuickPath& path) const noexcept;
  Find find_32bit(uint64_t linear, Translation& page, Path& path) const;
  Find find_wide(uint64_t linear, Translation& page, Path& path) const;
  uint64_t load(uint64_t physical, unsigned size, Path& path) const;
  bool update_bits(const Path& path, Access access);
  [[noreturn]] void raise(uint64_t linear, Access access, View view, uint32_t code) const;

  const RamMap& ram_;
  memory::IoSpace& mmio_;
  PagingMode mode_ = PagingMode::kOff;
  bool write_protect_ = false;
  bool smep_ = false;
  bool supervisor_keys_ = false;
  uint32_t pkrs_ = 0;
  mutable uint16_t keys_seen_ = 0;  ///< Of supervisor pages, since their rights changed.
  bool no_execute_enabled_ = false;
  bool page_size_extensions_ = false;
  bool global_enabled_ = false;
  bool instruction_bit_ = false;  ///< #PF error codes tell fetches apart.
  bool gigabyte_pages_ = true;
  unsigned physical_bits_ = 40;
  uint64_t cr3_ = 0;
  uint64_t reserved_ = 0;  ///< In every entry of 8 bytes.
  std::array<uint64_t, 4> pdptes_{};
  std::array<EntryWrite, 4> entry_writes_{};
  unsigned entry_write_count_ = 0;
};

}  // namespace limen::soft
